"""Paid requests: the record that a batch keeps of one, and its repeats under the same idempotency key.

Repeats are sent where the service promises to execute the key once. The answers show whether it keeps the
promise. Until one answer was marked as a replay, one repeat for a model is sent at a time, and none for an
hour after a repeat without an answer. An answer that is not marked ends all repeats for the model.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

import anyio
import attrs

from apimart_async.credentials import Secret
from apimart_async.errors import visible

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_SUSPENSION: Final = 3600.0
_MOST_SKEW: Final = 60.0

log: logging.Logger = logging.getLogger("apimart_async.transport")


class PaidRecord(Protocol):
    """Follows a paid request, to keep a record of it on disk. A 429 is raised at once: its owner waits.

    Attributes:
        home: Base URL at which the request may have been executed before, under the same key; it goes there
            and nowhere else. ``None`` for none.
        first_sent_at: Time of an earlier request with its key, in unix seconds; ``None`` if there was none.
        needs_promise: Whether to send it only if the service promises to execute its key once.
    """

    home: str | None
    first_sent_at: float | None
    needs_promise: bool

    async def before_send(self, base_url: str) -> None:
        """Prepare an attempt: the rate limiter admits it, and no byte of it is sent.

        Args:
            base_url: Base URL of the attempt.

        Raises:
            Exception: Nothing may be sent; the request ends with it.
        """
        ...

    async def not_executed(self) -> None:
        """Record, before any delay, that no attempt so far was executed. It raises no error."""
        ...


PAID_RECORD: Final[ContextVar[PaidRecord | None]] = ContextVar("paid_record", default=None)
"""The record of the next paid request in this context."""


@attrs.define(eq=False)
class Trust:
    """How the service has kept its promise for one model.

    Args:
        known: The trusts of all models that were tested, which this one joins then.

    Attributes:
        is_kept: Whether an answer was marked as a replay.
        is_broken: Whether an answer to a repeat was not: nothing is repeated for this model again.
        suspended_until: Moment until which nothing is repeated, unless the promise was seen kept.
        turn: Held by the one repeat of a model whose promise was not seen kept yet.
    """

    _known: set[Trust]
    is_kept: bool = False
    is_broken: bool = False
    suspended_until: float = 0.0
    turn: anyio.Lock = attrs.field(factory=anyio.Lock)

    @property
    def is_given(self) -> bool:
        """Return whether repeats may be sent for the model."""
        return not self.is_broken and (self.is_kept or monotonic() >= self.suspended_until)

    def keep(self) -> None:
        """Remember this trust when no request for its model is left."""
        self._known.add(self)


@attrs.define(eq=False)
class Repeats:
    """The repeats of one paid request.

    Args:
        model: Its model.
        trust: Trust in the promise for the model.
        find_retention: Returns for how many seconds the service promises to remember the key; ``None`` if it
            promises nothing.
        began_at: Time of the first request with the key, in unix seconds; now by default.
        needs_promise: Whether an earlier request with the key may have been executed already.
        account: Authorization of the first request, for which alone the service remembers the key; ``None``
            before it.
    """

    _model: str
    _trust: Trust
    _find_retention: Callable[[], Awaitable[float | None]]
    began_at: float = attrs.field(factory=time.time)
    needs_promise: bool = False
    account: Secret | None = None
    _began: float = attrs.field(factory=monotonic, init=False)
    _retention: float | None = attrs.field(default=None, init=False)

    async def are_promised(self) -> bool:
        """Tell whether the service promises to answer a repeat as it answered the request."""
        if self._trust.is_given:
            self._retention = await self._find_retention()
        return self._retention is not None and self._trust.is_given

    @property
    def obstacle(self) -> str:
        """Return the reason why no repeat may be sent."""
        if self._trust.is_broken:
            return "the service has broken its promise to execute a key of this model once"
        if not self._trust.is_given:
            minutes = math.ceil((self._trust.suspended_until - monotonic()) / 60)
            return f"the answer to a repeat was lost too, so none is sent for {minutes} minutes"
        return "the service does not promise to execute the key once, or not for so long"

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Wait until no other repeat tests the promise for the model, if it was not seen kept yet."""
        async with nullcontext() if self._trust.is_kept else self._trust.turn:
            yield

    def may_be_sent(self, longest: float) -> bool:
        """Tell whether a repeat may be sent now.

        Args:
            longest: Maximum duration of the repeat in seconds; the key must be remembered until its end.
        """
        if self._retention is None or not self._trust.is_given:
            return False
        age = time.time() - self.began_at
        if age < -_MOST_SKEW:
            return False  # the clock was set back, so the age of the request is unknown
        # The monotonic clock of some systems stands still while the machine sleeps.
        return max(age, monotonic() - self._began) + longest <= self._retention

    def not_answered(self) -> None:
        """Record that a repeat may have been executed too: it is unknown whether the promise was kept."""
        self._trust.keep()
        self._trust.suspended_until = monotonic() + _SUSPENSION

    def answered(self, *, is_replay: bool) -> None:
        """Note whether the answer to a repeat is marked as a replay."""
        self._trust.keep()
        if is_replay:
            self._trust.is_kept = True
        elif not self._trust.is_broken:
            self._trust.is_broken = True
            log.error(
                "The answer to a repeated paid request for %s is not marked as a replay: it may be "
                "billed twice. No paid request for this model is repeated any more; look at the account.",
                visible(self._model),
            )
