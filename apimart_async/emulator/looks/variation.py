"""Randomness for drawings in which neighbours never look alike."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_GOLDEN = 0.618_034


class Variation(random.Random):
    """A random source that also deals out styles in turn: seeds next to each other get different ones.

    Args:
        number: The seed.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self._number = number

    def style(self, styles: Sequence[T]) -> T:
        """Return the style whose turn it is."""
        return styles[self._number % len(styles)]

    def hue(self) -> float:
        """Return a hue from 0 to 1, far from that of the neighbours."""
        return self._number * _GOLDEN % 1.0
