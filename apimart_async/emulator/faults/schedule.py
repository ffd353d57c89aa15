"""The faults of a running emulator: which one happens to a request, and how often each has."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from attrs import define, field

from .fault import Fault, is_due

if TYPE_CHECKING:
    from collections.abc import Iterator

    from apimart_async.emulator.routing import Route


@define
class _Entry:
    fault: Fault
    matched: int = 0
    happened: int = 0


@define
class Faults:
    """The faults an emulator is told to make, in order; they may be changed while it runs."""

    _seed: int = 0
    _entries: list[_Entry] = field(factory=list[_Entry], init=False)
    _random: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(f"faults {self._seed}")

    def __iter__(self) -> Iterator[Fault]:
        return iter([entry.fault for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, *faults: Fault) -> None:
        """Make these faults as well, after those that are there."""
        self._entries.extend(_Entry(fault) for fault in faults)

    def clear(self) -> None:
        """Make no more faults."""
        self._entries.clear()

    @property
    def happened(self) -> list[tuple[Fault, int]]:
        """Each fault with how often it has happened."""
        return [(entry.fault, entry.happened) for entry in self._entries]

    def decide(self, route: Route, *, reused: bool) -> Fault | None:
        """Return the fault that happens to a request, or None.

        Args:
            route: What the request is for.
            reused: Whether its connection has served a request before.
        """
        for entry in self._entries:
            fault = entry.fault
            if route not in fault.routes or (fault.reused and not reused):
                continue
            entry.matched += 1
            chance = self._random.random() if fault.probability < 1 else 0.0
            if is_due(fault, matched=entry.matched, happened=entry.happened, chance=chance):
                entry.happened += 1
                return fault
        return None
