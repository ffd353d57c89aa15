"""The state of a running emulator, shared by its request handlers."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter, deque
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet

from aiohttp import web
from attrs import define, field, frozen

from .clock import Clock
from .faults import Faults
from .idempotency import IdempotencyKeys
from .image_store import ImageStore
from .ledger import Ledger
from .rate_limit import RateLimits
from .renderer import Renderer
from .routing import Route
from .settings import Settings
from .tasks import Tasks
from .webhooks import Webhooks

REQUESTS_KEPT = 10_000
"""How many of the last requests are kept."""

_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NO_KEY: frozenset[Route] = frozenset({"files", "elsewhere"})


def ulid(now: float) -> str:
    """Return a new ULID (26 characters of Crockford's base 32) for a time in unix seconds."""
    number = (int(now * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_BASE32[(number >> shift) & 31] for shift in range(125, -1, -5))


@frozen(kw_only=True)
class SeenRequest:
    """One request that the emulator received.

    Attributes:
        at: When, in unix seconds.
        route: The route.
        method: The HTTP method.
        path: The path, without the query.
        host: The host and port that it was sent to.
        status: The status of the response; None when the connection was dropped instead.
        authorization: Whether it carried an Authorization header, or the key anywhere in its headers or URL.
        idempotency_key: Its Idempotency-Key, if any.
    """

    at: float
    route: Route
    method: str
    path: str
    host: str
    status: int | None
    authorization: bool
    idempotency_key: str | None


@define
class Service:
    """The state of a running emulator.

    Attributes:
        settings: The options.
        clock: The clock, which a test may move.
        ledger: Every execution and its cost.
        store: The input images.
        renderer: Renders result images.
        faults: The faults to inject.
        estimate: The duration of a task that responses report, in seconds.
        tasks: The tasks.
        keys: The idempotency keys and their responses.
        random: Source of everything random.
        hosts: Host and port in the URLs of its own files, in each spelling.
        elsewhere: Host and port of the other origin, to which faults redirect.
        mirrors: Host and port of each mirror.
        files_at: Origin of the files that mirrors name.
        transports: The connections that have served a request.
        requests: The last requests.
        leaks: The last requests that carried the key to another host than the API.
        counts: Number of requests by route.
        rate_limits: The rate limits.
        webhooks: The deliveries of webhooks.
        started: When the emulator started, in unix seconds.
        usages: The use of the account as last returned, with its time, by number of days.
    """

    settings: Settings
    clock: Clock
    ledger: Ledger
    store: ImageStore
    renderer: Renderer
    faults: Faults
    estimate: int
    tasks: Tasks = field(factory=Tasks, init=False)
    keys: IdempotencyKeys = field(factory=IdempotencyKeys, init=False)
    random: random.Random = field(init=False)
    hosts: frozenset[str] = field(default=frozenset[str](), init=False)
    elsewhere: str = field(default="", init=False)
    mirrors: set[str] = field(factory=set[str], init=False)
    files_at: str = field(default="", init=False)
    transports: WeakSet[asyncio.Transport] = field(factory=WeakSet[asyncio.Transport], init=False)
    requests: deque[SeenRequest] = field(factory=lambda: deque[SeenRequest](maxlen=REQUESTS_KEPT), init=False)
    leaks: deque[SeenRequest] = field(factory=lambda: deque[SeenRequest](maxlen=REQUESTS_KEPT), init=False)
    counts: Counter[Route] = field(factory=Counter[Route], init=False)
    rate_limits: RateLimits = field(init=False)
    webhooks: Webhooks = field(init=False)
    started: float = field(init=False)
    usages: dict[int, tuple[float, dict[str, Any]]] = field(factory=dict[int, Any], init=False)
    _variants: Counter[str] = field(factory=Counter[str], init=False)

    def __attrs_post_init__(self) -> None:
        self.random = random.Random(self.settings.seed)
        self.rate_limits = RateLimits(self.settings.rate_limits, self.settings.seed)
        self.webhooks = Webhooks(self.clock)
        self.started = self.clock.now()

    def record(self, request: SeenRequest) -> None:
        """Keep a request, and separately when it carried the key to another host than the API."""
        self.counts[request.route] += 1
        self.requests.append(request)
        if request.authorization and request.route in _NO_KEY:
            self.leaks.append(request)

    def next_variant(self, kind: str) -> int:
        """Return the number of the next variant of a kind of body; always 0 without `variants`."""
        if not self.settings.variants:
            return 0
        self._variants[kind] += 1
        return self._variants[kind] - 1

    @property
    def balance(self) -> float:
        """USD left on the account."""
        return self.settings.balance - self.ledger.total


SERVICE = web.AppKey("service", Service)

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request id", default="")
"""The identifier of the request, for responses that begin before their end."""


def origin(request: web.Request) -> str:
    """Return the scheme and host of the URL that the client requested, or of the host of a mirror's files."""
    service = request.app[SERVICE]
    if request.host in service.mirrors:
        return service.files_at
    return f"{request.scheme}://{request.host}"
