"""Everything a running emulator knows, in one place for the routes."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from weakref import WeakSet

from aiohttp import web
from attrs import define, field, frozen

from .clock import Clock
from .darkroom import Darkroom
from .faults import Faults
from .idempotency import IdempotencyKeys
from .ledger import Ledger
from .limiting import TokenBucket
from .pictures import Pictures
from .routing import Route
from .settings import Settings
from .tasks import Tasks

REQUESTS_KEPT = 10_000
"""How many of the last requests are remembered."""

_NO_KEY: frozenset[Route] = frozenset({"files", "elsewhere"})


@frozen(kw_only=True)
class SeenRequest:
    """One request as the emulator saw it.

    Attributes:
        at: When, in unix seconds.
        route: What it was for.
        method: The HTTP method.
        path: The path, without the query.
        status: The status it was answered with; None when the connection was dropped instead.
        authorization: Whether it carried an Authorization header, or the key anywhere in its headers or URL.
        idempotency_key: Its Idempotency-Key, if any.
    """

    at: float
    route: Route
    method: str
    path: str
    status: int | None
    authorization: bool
    idempotency_key: str | None


@define
class Service:
    """The state of a running emulator; the routes are functions of it."""

    settings: Settings
    clock: Clock
    ledger: Ledger
    pictures: Pictures
    darkroom: Darkroom
    faults: Faults
    estimate: int
    tasks: Tasks = field(factory=Tasks, init=False)
    keys: IdempotencyKeys = field(factory=IdempotencyKeys, init=False)
    random: random.Random = field(init=False)
    hosts: frozenset[str] = field(default=frozenset[str](), init=False)
    elsewhere: str = field(default="", init=False)
    transports: WeakSet[asyncio.Transport] = field(factory=WeakSet[asyncio.Transport], init=False)
    requests: deque[SeenRequest] = field(factory=lambda: deque[SeenRequest](maxlen=REQUESTS_KEPT), init=False)
    leaks: deque[SeenRequest] = field(factory=lambda: deque[SeenRequest](maxlen=REQUESTS_KEPT), init=False)
    counts: Counter[Route] = field(factory=Counter[Route], init=False)
    bucket: TokenBucket | None = field(init=False)
    _turns: Counter[str] = field(factory=Counter[str], init=False)

    def __attrs_post_init__(self) -> None:
        self.random = random.Random(self.settings.seed)
        rate = self.settings.rate_limit
        self.bucket = None if rate is None else TokenBucket(rate)

    def see(self, request: SeenRequest) -> None:
        """Remember a request, and apart from the others when it carried the key where none may go."""
        self.counts[request.route] += 1
        self.requests.append(request)
        if request.authorization and request.route in _NO_KEY:
            self.leaks.append(request)

    def turn(self, what: str) -> int:
        """Return whose turn it is among the shapes of an answer: always the first, unless they vary."""
        if not self.settings.variants:
            return 0
        self._turns[what] += 1
        return self._turns[what] - 1

    @property
    def balance(self) -> float:
        """USD left on the account."""
        return self.settings.balance - self.ledger.total


SERVICE = web.AppKey("service", Service)


def origin(request: web.Request) -> str:
    """Return the scheme and host under which the client reached the emulator."""
    return f"{request.scheme}://{request.host}"
