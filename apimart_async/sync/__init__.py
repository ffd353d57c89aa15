"""The blocking twins of the async clients: the same names, arguments and docstrings, without ``await``.

They work in scripts, in threads, several at once on one client, and where an event loop already runs, as in
a notebook, which they block meanwhile. Ctrl-C cancels the call, lets its cleanup finish and raises
``KeyboardInterrupt``. After ``os.fork()``, create a new client in the child.

What is asynchronous runs on one event loop in a background thread. A function of yours that a client calls,
such as ``on_update`` or ``on_progress``, runs there too: it has to return soon, and cannot use a blocking
client itself.
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
        Edits,
        Generations,
        Images,
        Tasks,
        Uploads,
        edit_many,
    )

__all__ = [
    "Account",
    "Apimart",
    "AppleRouter",
    "AppleRouterEdits",
    "Edits",
    "Generations",
    "Images",
    "Tasks",
    "Uploads",
    "edit_many",
]


# Not imported before they are used, so that ``generate`` runs when what it wrote last no longer fits.
def __getattr__(name: str) -> Any:  # noqa: ANN401 whatever the name stands for
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module("apimart_async.sync._generated"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
