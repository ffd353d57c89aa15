"""The blocking twins of the async clients: the same names, arguments and docstrings, without ``await``.

They work in scripts, in threads (several threads may share a client), and in a thread with a running event
loop, such as a notebook, which they block. Ctrl-C cancels the call, waits for its cleanup and raises
``KeyboardInterrupt``. Inside a coroutine, the running loop may handle Ctrl-C itself: ``asyncio.run`` passes
on the second one only, and a notebook none in a cell with ``await``. After ``os.fork()``, create a new client
in the child process.

The async code runs on one event loop in a background thread. Your callbacks, such as ``on_update`` and
``on_progress``, run there too: they must return quickly and cannot use a blocking client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apimart_async.sync._generated import (
        Account,
        Apimart,
        AppleRouter,
        AppleRouterEdits,
        AppleRouterGenerations,
        Edits,
        Generations,
        Images,
        Models,
        Tasks,
        Uploads,
        edit_many,
        estimate,
        run_many,
    )

__all__ = [
    "Account",
    "Apimart",
    "AppleRouter",
    "AppleRouterEdits",
    "AppleRouterGenerations",
    "Edits",
    "Generations",
    "Images",
    "Models",
    "Tasks",
    "Uploads",
    "edit_many",
    "estimate",
    "run_many",
]


# Imported at the first use, so that ``generate`` also runs when the generated module is out of date.
def __getattr__(name: str) -> Any:  # noqa: ANN401 the type depends on the name
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("apimart_async.sync._generated"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
