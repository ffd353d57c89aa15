"""The budget of a batch: USD spent, USD that may still be billed, and the limit."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Final, cast

import anyio

from apimart_async.errors import ApimartError, BudgetExceededError, JournalError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from apimart_async.batch.journal.protocol import Tally
    from apimart_async.batch.journal.shared_budget import SharedBudget

PRICES: Final = "prices"
"""The name under which the journal keeps prices."""

_ROUNDING: Final = 1e-9
_MOST_SECONDS: Final = 10.0


def read_prices(data: bytes | None) -> dict[str, float]:
    """Read the prices that a journal keeps, which may be malformed.

    Raises:
        JournalError: The prices cannot be read, or one is not more than 0.
    """
    try:
        prices = json.loads(data or b"{}")
    except (ValueError, RecursionError):
        prices = None
    if not isinstance(prices, dict) or not all(
        isinstance(price, int | float) and 0 < price < math.inf
        for price in prices.values()  # pyright: ignore[reportUnknownVariableType]
    ):
        raise JournalError(f"The journal is damaged: its {PRICES} cannot be read.")
    return cast("dict[str, float]", prices)


class Budget:
    """Admits submits as long as the USD spent, the USD outstanding and the cost of the next fit the limit.

    The price of a model is the highest cost of an image that the service has reported. While none is
    reported, one job runs at a time, at the price that the service quotes. If it quotes none either, and such
    a job ends without its cost, no other is admitted: the limit could be passed without any notice. Free
    submits, those of no images, always fit.

    Args:
        limit: USD, over all runs with the journal; ``None`` for no limit.
        tally: Sums over the journal.
        prices: USD an image of each model, as learnt by earlier runs.
        shared: Reserves USD of the limit, if several processes share it.
        quote: Returns the USD of an image of a model that the service quotes, if it does.
    """

    def __init__(
        self,
        limit: float | None,
        tally: Tally,
        prices: Mapping[str, float],
        shared: SharedBudget | None = None,
        quote: Callable[[str], Awaitable[float | None]] | None = None,
    ) -> None:
        self.limit: float | None = limit
        self.spent: float = tally.spent
        self.prices: dict[str, float] = dict(prices)
        self._outstanding = dict(tally.outstanding)
        self._active = 0
        self.waiting: int = 0
        """Number of submits that wait until they fit."""
        self.has_new_price: bool = False
        """Whether a price was learnt that is not in the journal yet."""
        self._is_blind = False
        self._is_closed = False
        self._changed = anyio.Event()
        self._shared = shared
        self._quote = quote
        self._quotes: dict[str, float] = {}
        self._unwritten: dict[str, int] = {}
        self._reserved = 0.0
        self._worker: object = None
        self._reserving = anyio.Lock()
        self._changes = 0
        self._refused_at = -1

    @property
    def expected(self) -> float:
        """Return the USD spent once everything outstanding is billed, as far as prices are known."""
        return self.spent + sum(images * self._price(model) for model, images in self._outstanding.items())

    def _price(self, model: str) -> float:
        return self._known_price(model) or max((*self.prices.values(), *self._quotes.values()), default=0.0)

    def _known_price(self, model: str) -> float:
        return self.prices.get(model) or self._quotes.get(model, 0.0)

    async def _fetch_quotes(self, model: str) -> None:
        if self._quote is None:
            return
        for each in {model, *(name for name, images in self._outstanding.items() if images)}:
            if each not in self.prices and each not in self._quotes:
                with suppress(ApimartError), anyio.move_on_after(_MOST_SECONDS):
                    self._quotes[each] = await self._quote(each) or 0.0

    async def admit(self, model: str, n: int) -> bool:
        """Wait until a submit fits, and count it as outstanding; ``settle`` or ``leave_open`` must follow.

        Returns:
            Whether it was admitted; ``False`` once the budget is closed.

        Raises:
            BudgetExceededError: The submit does not fit, and no job in flight could cost less than expected.

        Cancellation leaves it not admitted.
        """
        if n and self.limit is not None:
            await self._fetch_quotes(model)
        while not self._is_closed and self.limit is not None and not self._fits(model, n, self.limit):
            if await self._reserve(model, n, self.limit):
                continue
            if not self._active or self._is_blind:
                raise self._exceeded(self.limit, model)
            self.waiting += 1
            try:
                await self._changed.wait()
            finally:
                self.waiting -= 1
        if self._is_closed:
            return False
        self._outstanding[model] = self._outstanding.get(model, 0) + n
        self._active += 1
        if self._shared is not None:
            self._reserved -= n * self._known_price(model)
            self.unwritten(model, n)
        return True

    def unwritten(self, model: str, n: int) -> None:
        """Count an admitted submit as one without a row in the journal."""
        self._unwritten[model] = self._unwritten.get(model, 0) + n

    def written(self, model: str, n: int) -> None:
        """Count a submit as one with a row in the journal, or one that will never have a row."""
        self._unwritten[model] = max(0, self._unwritten.get(model, 0) - n)

    async def _reserve(self, model: str, n: int, limit: float) -> bool:
        """Reserve USD, and learn the state and the prices of the other processes.

        Returns:
            Whether it may be tried again; ``False`` if there is no use in it before a job has ended.
        """
        shared = self._shared
        if shared is None or self._is_blind:
            return False
        async with self._reserving:
            if self._fits(model, n, limit):
                return True
            if self._refused_at == self._changes:
                return False
            changes, need = self._changes, n * self._price(model)
            # Meanwhile nothing is admitted: every other job waits here.
            self._reserved = 0.0
            found = await shared.reserve(limit, need, self._unwritten_cost, self._price)
            self.spent, self._outstanding = found.spent, dict(found.outstanding)
            for name, price in read_prices(found.prices).items():
                self.prices[name] = max(price, self.prices.get(name, 0.0))
            self._reserved, self._worker = found.usd, shared.worker
            # A price that came with the answer was not in the question.
            if need == n * self._price(model) and not self._fits(model, n, limit):
                self._refused_at = changes
            return True

    def _unwritten_cost(self) -> float:
        return sum(images * self._price(model) for model, images in self._unwritten.items())

    def resume(self) -> None:
        """Count a job of an earlier run as active; its cost is outstanding already."""
        self._active += 1

    def settle(self, model: str, n: int, cost: float | None, images: int = 0) -> None:
        """Count a job as billed.

        Args:
            model: Model of the job.
            n: Number of images with which it was admitted.
            cost: USD; 0 if the job was not executed, ``None`` if the service does not report the cost.
            images: Number of images delivered.
        """
        if cost is not None or not images:
            self._outstanding[model] = max(0, self._outstanding.get(model, 0) - n)
        self.spent += cost or 0.0
        if cost is None and images:
            self._is_blind = self.limit is not None
        elif cost and images and cost / images > self.prices.get(model, 0.0):
            self.prices[model] = cost / images
            self.has_new_price = True
        self.leave_open()

    def leave_open(self) -> None:
        """Count a job as no longer active; its cost stays outstanding."""
        self._active -= 1
        self._changes += 1
        if self.limit is not None:
            self._changed.set()
            self._changed = anyio.Event()

    def close(self) -> None:
        """Admit nothing more."""
        self._is_closed = True
        self._changed.set()

    def _fits(self, model: str, n: int, limit: float) -> bool:
        if not n:
            return True
        if self._is_blind:
            return False
        if model not in self.prices and (self._active or self._unpriced):
            return False
        cost = n * self._known_price(model)
        if not cost:
            is_known = self._shared is None or self._worker is not None
            return is_known and self.expected < limit
        if self._shared is not None:
            is_ours = self._worker == self._shared.worker
            return is_ours and cost <= self._reserved + _ROUNDING
        return self.expected + cost <= limit + _ROUNDING

    @property
    def _unpriced(self) -> int:
        """Return the number of images that may still be billed at an unknown price."""
        if self._shared is not None:  # those of other processes are in flight
            return 0
        return sum(images for model, images in self._outstanding.items() if not self._known_price(model))

    def _exceeded(self, limit: float, model: str) -> BudgetExceededError:
        if self._is_blind:
            why = "The service does not report the cost of jobs, so max_cost cannot be kept."
        elif model not in self.prices and self._unpriced:
            why = (
                f"The price of {self._unpriced} images that are or may be billed is not known, and neither "
                f"is that of {model}, so max_cost cannot be kept."
            )
        else:
            spent = round(self.spent, 4)
            why = f"The next job could pass the budget of {round(limit, 4)} USD: {spent} USD are spent."
            owed = self.expected - self.spent
            if owed > _ROUNDING:
                why = f"{why[:-1]}, and {round(owed, 4)} USD may still be billed."
        return BudgetExceededError(why, spent=self.spent, limit=limit)
