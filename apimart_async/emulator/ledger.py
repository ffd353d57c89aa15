"""The ledger: what was executed and billed, whether or not the client ever learnt of it."""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

from attrs import define, field, frozen

Endpoint = Literal["edits", "generations", "applerouter"]

PRICES = {"dall-e-2": 0.02, "gemini-3-pro-image-preview": 0.05}
"""USD per image of the models that have a price of their own."""

PRICE = 0.015
"""USD per image of any other model."""


def price_of(model: str) -> float:
    """Return what one image of a model costs, in USD."""
    return PRICES.get(model, PRICE)


@frozen(kw_only=True)
class Entry:
    """One executed submission.

    Attributes:
        task_id: The task it became; for AppleRouter, an identifier of the call.
        endpoint: Where it was submitted.
        idempotency_key: The key it was sent with, if any.
        payload: Digest of what was asked for. Uploaded and inline pictures count by their content, so the
            same picture uploaded twice and submitted with the same fields is the same payload.
        model: The model asked for.
        images: How many images are delivered.
        cost: USD billed; 0 when the task fails, because failed tasks are free.
        at: When, in unix seconds.
    """

    task_id: str
    endpoint: Endpoint
    idempotency_key: str | None
    payload: str
    model: str
    images: int
    cost: float
    at: float


@define
class Ledger:
    """Every submission that was executed, in order: the truth that a client's own account is held against.

    It keeps every entry (about 400 bytes each) for as long as the emulator exists.
    """

    entries: list[Entry] = field(factory=list[Entry], init=False)
    total: float = field(default=0.0, init=False)
    _executed: Counter[str] = field(factory=Counter[str], init=False)
    _billed: Counter[str] = field(factory=Counter[str], init=False)

    def record(self, entry: Entry) -> None:
        """Write one entry."""
        self.entries.append(entry)
        self.total += entry.cost
        self._executed[entry.payload] += 1
        if entry.cost > 0:
            self._billed[entry.payload] += 1

    @property
    def billed(self) -> list[Entry]:
        """The entries that cost something."""
        return [entry for entry in self.entries if entry.cost > 0]

    @property
    def times_billed(self) -> dict[str, int]:
        """How often each payload was billed, by its digest."""
        return dict(self._billed)

    @property
    def billed_more_than_once(self) -> dict[str, int]:
        """The payloads that were paid for more than once, with how often: empty when all is well."""
        return {payload: times for payload, times in self._billed.items() if times > 1}

    @property
    def executed_more_than_once(self) -> dict[str, int]:
        """The payloads that ran more than once, failed runs included."""
        return {payload: times for payload, times in self._executed.items() if times > 1}

    def summary(self) -> dict[str, Any]:
        """Return USD in all, how many entries were billed, and the payloads billed more than once."""
        return {
            "total": round(self.total, 6),
            "billed": sum(self._billed.values()),
            "billed_more_than_once": self.billed_more_than_once,
        }
