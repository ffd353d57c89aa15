"""The ledger: every execution and its cost, whether or not the client received the response."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Literal

from attrs import define, field, frozen

Endpoint = Literal["edits", "generations", "applerouter"]

PRICES = {"dall-e-2": 0.02, "gemini-3-pro-image-preview": 0.05}
"""USD per image of the models with a price of their own."""

DEFAULT_PRICE = 0.015
"""USD per image of any other model."""


def price_of(model: str, operation: str | None = None) -> float:
    """Return the price of one image of a model, in USD; a segmentation is free."""
    return 0.0 if operation == "segment" else PRICES.get(model, DEFAULT_PRICE)


@frozen(kw_only=True)
class Entry:
    """One executed submission.

    Attributes:
        task_id: The task; for AppleRouter, an identifier of the call.
        endpoint: The endpoint that executed it.
        idempotency_key: Its Idempotency-Key, if any.
        payload: Digest of the request. Uploaded and inline images count by their content, so the same image
            uploaded twice and submitted with the same fields is the same payload.
        model: The requested model.
        images: How many images are delivered.
        cost: USD billed; 0 when the task fails, because failed tasks are free.
        at: When, in unix seconds.
        operation: `segment`, `region_edit`, or None.
    """

    task_id: str
    endpoint: Endpoint
    idempotency_key: str | None
    payload: str
    model: str
    images: int
    cost: float
    at: float
    operation: str | None = None


@define
class Ledger:
    """Every executed submission, in order: the truth to compare a client's own account with.

    It keeps every entry (about 400 bytes each) for as long as the emulator exists.
    """

    entries: list[Entry] = field(factory=list[Entry], init=False)
    total: float = field(default=0.0, init=False)
    _executed: Counter[str] = field(factory=Counter[str], init=False)
    _billed: Counter[str] = field(factory=Counter[str], init=False)

    def record(self, entry: Entry) -> None:
        """Add an entry."""
        self.entries.append(entry)
        self.total += entry.cost
        self._executed[entry.payload] += 1
        if entry.cost > 0:
            self._billed[entry.payload] += 1

    @property
    def billed(self) -> list[Entry]:
        """The entries with a cost."""
        return [entry for entry in self.entries if entry.cost > 0]

    @property
    def times_billed(self) -> dict[str, int]:
        """How often each payload was billed, by its digest."""
        return dict(self._billed)

    @property
    def billed_more_than_once(self) -> dict[str, int]:
        """The payloads that were billed more than once, with how often: empty for a correct client."""
        return {payload: times for payload, times in self._billed.items() if times > 1}

    @property
    def executed_more_than_once(self) -> dict[str, int]:
        """The payloads that were executed more than once, failures included."""
        return {payload: times for payload, times in self._executed.items() if times > 1}

    def assert_billed(self, *, times: int, cost: float | None = None) -> None:
        """Assert how often something was billed, and that nothing was billed twice.

        Args:
            times: Number of billed executions.
            cost: USD in total, to a thousandth of a cent; None for any.

        Raises:
            AssertionError: The ledger differs; the message lists the billed executions, and marks those of a
                request that was billed before.
        """
        billed = self.billed
        firsts: dict[str, str] = {}
        lines: list[str] = []
        for entry in billed:
            first = firsts.setdefault(entry.payload, entry.task_id)
            mark = "" if first == entry.task_id else f" (the same request as {first})"
            lines.append(f"  {entry.endpoint} {entry.model} {entry.task_id}: {entry.cost:.5f} USD{mark}")
        listed = "\n".join(lines)
        if len(billed) != times:
            found = "1 execution was" if len(billed) == 1 else f"{len(billed)} executions were"
            raise AssertionError(f"{found} billed instead of {times}:\n{listed}")
        if self.billed_more_than_once:
            hint = "if both are meant, give them different prompts"
            raise AssertionError(f"the same request was billed more than once ({hint}):\n{listed}")
        if cost is not None and not math.isclose(self.total, cost, abs_tol=1e-5):
            raise AssertionError(f"{self.total:.5f} USD were billed instead of {cost:.5f}:\n{listed}")

    def summary(self) -> dict[str, Any]:
        """Return the USD in total, the number of billed entries, and the payloads billed more than once."""
        return {
            "total": round(self.total, 6),
            "billed": sum(self._billed.values()),
            "billed_more_than_once": self.billed_more_than_once,
        }
