"""Services that refuse requests, in virtual time: each answers whether it refuses a request sent now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from random import Random


class Service(Protocol):
    """Accepts or refuses requests."""

    def refusal(self, now: float, random: Random) -> float | None:
        """Return ``None`` if the request is accepted, else the seconds of ``Retry-After``, 0 for none."""

    def finished(self) -> None:
        """Count the answer to an accepted request."""


@attrs.define
class Unlimited:
    """Accepts every request; the other services extend it."""

    def refusal(self, now: float, random: Random) -> float | None:  # noqa: ARG002
        """Accept."""
        return None

    def finished(self) -> None:
        """Count nothing."""


@attrs.define
class Bucket(Unlimited):
    """A token bucket: ``rate`` tokens a second, at most ``burst`` of them."""

    rate: float
    burst: float = 10.0
    retry_after: float = 0.0
    _tokens: float = attrs.field(init=False)
    _at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def refusal(self, now: float, random: Random) -> float | None:  # noqa: ARG002
        """Take a token."""
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1:
            return self.retry_after
        self._tokens -= 1
        return None


@attrs.define
class Window(Unlimited):
    """``number`` requests in each second of the clock."""

    number: int
    _second: int = -1
    _used: int = 0

    def refusal(self, now: float, random: Random) -> float | None:  # noqa: ARG002
        """Count the request in its second."""
        if int(now) != self._second:
            self._second, self._used = int(now), 0
        self._used += 1
        return 0.0 if self._used > self.number else None


@attrs.define
class Concurrency(Unlimited):
    """``number`` requests at once."""

    number: int
    retry_after: float = 0.0
    _running: int = 0

    def refusal(self, now: float, random: Random) -> float | None:  # noqa: ARG002
        """Take a place."""
        if self._running >= self.number:
            return self.retry_after
        self._running += 1
        return None

    def finished(self) -> None:
        """Free the place."""
        self._running -= 1


@attrs.define
class Chance(Unlimited):
    """Refuses a share of the requests at random, before an inner service sees them."""

    share: float
    inner: Service = attrs.field(factory=Unlimited)

    def refusal(self, now: float, random: Random) -> float | None:
        """Refuse by chance."""
        return 0.0 if random.random() < self.share else self.inner.refusal(now, random)

    def finished(self) -> None:
        """Tell the inner service."""
        self.inner.finished()


@attrs.define
class Phases(Unlimited):
    """One service after another, each until a moment."""

    phases: list[tuple[float, Service]]

    def refusal(self, now: float, random: Random) -> float | None:
        """Ask the service of this moment."""
        return next(service for until, service in self.phases if now < until).refusal(now, random)


@attrs.define
class Outage(Unlimited):
    """Refuses every request between two moments."""

    begins: float
    ends: float

    def refusal(self, now: float, random: Random) -> float | None:  # noqa: ARG002
        """Refuse during the outage."""
        return 0.0 if self.begins <= now < self.ends else None


@attrs.define
class Once(Unlimited):
    """Refuses one request, the first after a moment."""

    at: float
    retry_after: float = 0.0
    _is_done: bool = False

    def refusal(self, now: float, random: Random) -> float | None:  # noqa: ARG002
        """Refuse the first request."""
        if self._is_done or now < self.at:
            return None
        self._is_done = True
        return self.retry_after
