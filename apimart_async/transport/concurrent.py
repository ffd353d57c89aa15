"""Several things at once in one task group, with the first failure surfacing as itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Item = TypeVar("Item")
Result = TypeVar("Result")


async def for_each(function: Callable[[Item], Awaitable[Result]], items: Sequence[Item]) -> list[Result]:
    """Return the results in order; the first failure cancels the others and is raised, not a group.

    Cancelling it cancels them all.
    """
    if len(items) == 1:
        return [await function(items[0])]
    results: dict[int, Result] = {}
    failures: list[Exception] = []

    async def one(index: int, item: Item) -> None:
        try:
            results[index] = await function(item)
        except Exception as error:  # noqa: BLE001 raised below, outside the group
            failures.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for index, item in enumerate(items):
            group.start_soon(partial(one, index, item))
    if failures:
        raise failures[0]
    return [results[index] for index in range(len(items))]
