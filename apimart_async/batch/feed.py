"""Jobs from wherever they come, taken no earlier than they are needed."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Final

from anyio import to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from apimart_async.batch.job import Job

_AT_ONCE: Final = 32
_LONG_ENOUGH: Final = 0.005


async def feed(jobs: Iterable[Job] | AsyncIterable[Job]) -> AsyncGenerator[Job, None]:
    """Yield jobs one by one.

    A generator may read files or do other work between its items, so it runs in worker threads: as many items
    as it gives in a few milliseconds, at most 32, for one change of threads.

    Raises:
        Exception: What the iterable raises.

    Cancelling it leaves a generator that blocks to itself.
    """
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
        return
    if isinstance(jobs, Sequence):
        for job in jobs:
            yield job
        return
    iterator = await to_thread.run_sync(iter, jobs, abandon_on_cancel=True)
    is_over = False
    while not is_over:
        taken, is_over, error = await to_thread.run_sync(_take, iterator, abandon_on_cancel=True)
        for job in taken:
            yield job
        if error is not None:
            raise error


def _take(iterator: Iterator[Job]) -> tuple[list[Job], bool, Exception | None]:
    """Return some items, whether there are no more, and why."""
    taken: list[Job] = []
    until = time.monotonic() + _LONG_ENOUGH
    try:
        while len(taken) < _AT_ONCE and (not taken or time.monotonic() < until):
            taken.append(next(iterator))
    except StopIteration:
        return taken, True, None
    except Exception as error:  # noqa: BLE001 raised once what came before it is taken
        return taken, True, error
    return taken, False, None
