"""Where results are drawn: when they are first asked for, in threads, kept in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

import anyio.to_thread
from anyio import CapacityLimiter
from attrs import define, field

from .looks import draw, draw_tiny
from .pictures import Pictures
from .recipes import Placeholder, Recipe

MEMORY_LIMIT = 64 * 1024**2
"""Bytes of drawn results kept; one that had to go is drawn again, exactly as before."""

_THREADS = 2
_Key = tuple[Recipe, int]


@define
class Darkroom:
    """Draw results on demand."""

    pictures: Pictures
    tiny: bool
    _limiter: CapacityLimiter = field(factory=lambda: CapacityLimiter(_THREADS), init=False)
    _drawn: OrderedDict[_Key, bytes] = field(factory=OrderedDict[_Key, bytes], init=False)
    _total: int = field(default=0, init=False)

    async def develop(self, recipe: Recipe, index: int) -> bytes:
        """Return the encoded image `index` of a recipe."""
        if self.tiny:
            return draw_tiny(recipe, index)
        key = (recipe, index)
        if (known := self._look_up(key)) is not None:
            return known
        async with self._limiter:
            if (known := self._look_up(key)) is not None:
                return known
            content = await anyio.to_thread.run_sync(partial(self._draw, recipe, index))
        self._keep(key, content)
        return content

    def _draw(self, recipe: Recipe, index: int) -> bytes:
        try:
            return draw(recipe, index, self.pictures.path)
        except FileNotFoundError:
            gone = Recipe(
                source=Placeholder("The picture is no longer there."), look=recipe.look, seed=recipe.seed
            )
            return draw(gone, index, self.pictures.path)

    def _look_up(self, key: _Key) -> bytes | None:
        content = self._drawn.get(key)
        if content is not None:
            self._drawn.move_to_end(key)
        return content

    def _keep(self, key: _Key, content: bytes) -> None:
        replaced = self._drawn.pop(key, b"")
        self._drawn[key] = content
        self._total += len(content) - len(replaced)
        while self._total > MEMORY_LIMIT and len(self._drawn) > 1:
            _, oldest = self._drawn.popitem(last=False)
            self._total -= len(oldest)
