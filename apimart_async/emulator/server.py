"""The emulator as an async context manager: entering starts the server, leaving stops it."""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import tempfile
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread
from aiohttp import web

from .access_log import LOGGER, AccessLogger
from .catalogue import DEFAULT_MODELS, ModelSpec
from .clock import Clock
from .faults import Fault, Faults
from .image_store import ImageStore
from .ledger import Ledger
from .middleware import middleware
from .mirror import Mirror
from .rate_limit import RateLimit
from .renderer import Renderer
from .routes import ROUTER_ROUTES, ROUTES
from .routing import ROUTER_PATH
from .service import SERVICE, SeenRequest, Service
from .settings import BODY_LIMIT, HOUR, BatchVariant, Duration, Images, Settings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Sequence
    from ssl import SSLContext
    from types import TracebackType

    from .routing import Route

_BACKLOG = 1024
_LOOPBACK = "127.0.0.1"
_GRACE = 0.05
"""Seconds that running requests get to finish when the emulator closes."""


def _rate_limits(given: float | RateLimit | Iterable[RateLimit] | None) -> Sequence[RateLimit]:
    if given is None:
        return ()
    if isinstance(given, int | float):
        return (RateLimit(limit=given, retry_after="exact"),)
    return (given,) if isinstance(given, RateLimit) else tuple(given)


class Emulator:
    """Serve APIMart and AppleRouter on loopback, for tests and for a first try without a key.

    Use it as an async context manager. Entering it starts to listen; leaving it, also by cancellation, closes
    every connection and deletes its files. Its records stay readable. An emulator runs once.

    Args:
        host: Address to listen on; 127.0.0.1 by default.
        port: Port to listen on; 0, the default, for any free one.
        api_key: The accepted bearer token; "sk-emulator" by default.
        seed: Seed of everything random: durations, images, faults; default 0.
        task_seconds: Median duration of a task in seconds, drawn log-normally with a spread of 30 %; default
            1. Or a function that draws a duration with the given generator.
        upload_ttl: Seconds an upload is valid; by default 72 hours, like the service.
        result_ttl: Seconds results are valid after completion; by default 24 hours, like the service.
        balance: USD on the account; a submission beyond it gets a 402. Default 10,000.
        rate_limit: Requests per second allowed on the API, with a burst of one second's worth: requests
            beyond it get a 429 with `Retry-After`. Or a `RateLimit`, or several of them. None, the default,
            for no limit.
        task_limit: Tasks that may run at once; a submission beyond them gets a 429 without `Retry-After`;
            None, the default, for no limit.
        clock_offset: Seconds by which the times in its responses are ahead of this machine's clock; negative
            for behind. Default 0.
        naive_times: Whether the times of tasks and uploads are texts without a time zone; default False.
        idempotent_replay: Whether `Idempotency-Key` is honoured, the default; otherwise it is ignored, as by
            some models.
        variants: Whether responses rotate through all known variants of their body instead of using the
            documented one; default False.
        compat: Whether the oldest documentation's polling path is served, and generations are answered with a
            top-level `id`; default False.
        batch: The variant of the responses to `POST /v1/tasks/batch`: "list", the default, "tasks" or
            "results"; None when the path does not exist.
        faults: The faults to inject from the start, none by default; `faults` can be changed while it runs.
        models: The models with a schema, some of the service by default; None for a service without schemas,
            documentation and prices.
        images: "edited", the default, for real edits; "tiny" for images of 8 by 8 pixels, for load tests.
        access_log: Whether each request is logged, by the logger `apimart_async.emulator.access` at INFO;
            default False.

    Raises:
        ValueError: An option is out of its range.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_key: str = "sk-emulator",
        seed: int = 0,
        task_seconds: Duration = 1.0,
        upload_ttl: float = 72 * HOUR,
        result_ttl: float = 24 * HOUR,
        balance: float = 10_000.0,
        rate_limit: float | RateLimit | Iterable[RateLimit] | None = None,
        task_limit: int | None = None,
        clock_offset: float = 0.0,
        naive_times: bool = False,
        idempotent_replay: bool = True,
        variants: bool = False,
        compat: bool = False,
        batch: BatchVariant | None = "list",
        images: Images = "edited",
        models: Iterable[ModelSpec] | None = DEFAULT_MODELS,
        access_log: bool = False,
        faults: Iterable[Fault] = (),
    ) -> None:
        self._settings = Settings(
            host=host,
            port=port,
            api_key=api_key,
            seed=seed,
            task_seconds=task_seconds,
            upload_ttl=upload_ttl,
            result_ttl=result_ttl,
            balance=balance,
            rate_limits=_rate_limits(rate_limit),
            task_limit=task_limit,
            clock_offset=clock_offset,
            naive_times=naive_times,
            idempotent_replay=idempotent_replay,
            variants=variants,
            compat=compat,
            batch=batch,
            images=images,
            models=None if models is None else tuple(models),
            access_log=access_log,
        )
        self._clock = Clock()
        self.ledger: Ledger = Ledger()
        """Every execution and its cost, whether or not the client received the response."""
        self.faults: Faults = Faults(seed)
        """The faults to inject: add to them and clear them at any time."""
        self.faults.add(*faults)
        self._service: Service | None = None
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._elsewhere: asyncio.Server | None = None
        self._directory: Path | None = None
        self._most_connections = 0

    async def __aenter__(self) -> Self:
        if self._service is not None:
            raise RuntimeError("an emulator runs once; create another")
        self._directory = Path(
            await anyio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix="apimart-emulator-"))
        )
        store = ImageStore(self._directory)
        self._service = Service(
            settings=self._settings,
            clock=self._clock,
            ledger=self.ledger,
            store=store,
            renderer=Renderer(store, tiny=self._settings.images == "tiny"),
            faults=self.faults,
            estimate=_estimate(self._settings),
        )
        try:
            await self._listen(self._service)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def serve_forever(self) -> None:
        """Run until cancelled. Cancellation leaves nothing running, as leaving `async with` does."""
        async with self:
            await anyio.sleep_forever()

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._listener is not None and self._listener.is_serving()

    @property
    def base_url(self) -> str:
        """Its URL, such as `http://127.0.0.1:54321`.

        Raises:
            RuntimeError: The emulator is not running.
        """
        if self._listener is None or not self._listener.is_serving():
            raise RuntimeError("the emulator does not run: use `async with`")
        host = self._settings.host
        if host in {"0.0.0.0", "::", ""}:  # noqa: S104 - a comparison; nothing is bound here
            host = _LOOPBACK
        return f"http://{f'[{host}]' if ':' in host else host}:{_port(self._listener)}"

    @property
    def router_url(self) -> str:
        """The base URL of AppleRouter alone, for clients that send the paths that both services have.

        Raises:
            RuntimeError: The emulator is not running.
        """
        return f"{self.base_url}{ROUTER_PATH}"

    @property
    def api_key(self) -> str:
        """The accepted bearer token."""
        return self._settings.api_key

    @property
    def requests(self) -> tuple[SeenRequest, ...]:
        """The last requests, oldest first: up to 10,000."""
        return () if self._service is None else tuple(self._service.requests)

    @property
    def counts(self) -> Counter[Route]:
        """How many requests each route has received since the start."""
        return Counter() if self._service is None else Counter(self._service.counts)

    @property
    def key_leaks(self) -> tuple[SeenRequest, ...]:
        """The last requests that carried the key to the file host or another origin.

        A correct client sends none. Any Authorization header counts, and the key in a header or the URL.
        """
        return () if self._service is None else tuple(self._service.leaks)

    @property
    def most_connections(self) -> int:
        """The largest number of connections that were open at once."""
        return self._most_connections

    def advance(self, seconds: float) -> None:
        """Move the emulator's clock forwards, so that tasks finish and files and keys expire.

        Args:
            seconds: Seconds to add, not negative.

        Raises:
            ValueError: `seconds` is negative.
        """
        self._clock.advance(seconds)

    async def _listen(self, service: Service) -> None:
        app = web.Application(middlewares=[middleware], client_max_size=BODY_LIMIT)
        app[SERVICE] = service
        app.add_routes((*ROUTES, *ROUTER_ROUTES))
        self._runner = web.AppRunner(
            app,
            access_log=LOGGER if self._settings.access_log else None,
            access_log_class=AccessLogger,
            shutdown_timeout=_GRACE,
        )
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        # Not started yet: a cancelled `create_server` would leak the socket that is already listening.
        listen = partial(loop.create_server, self._connected, start_serving=False)
        self._listener = await listen(self._settings.host, self._settings.port, backlog=_BACKLOG)
        self._elsewhere = await listen(_LOOPBACK, 0)
        await self._elsewhere.start_serving()
        service.elsewhere = f"{_LOOPBACK}:{_port(self._elsewhere)}"
        port = _port(self._listener)
        service.hosts = frozenset(f"{name}:{port}" for name in (self._settings.host, _LOOPBACK, "localhost"))
        await self._listener.start_serving()

    @asynccontextmanager
    async def mirror(self, ssl: SSLContext | None = None) -> AsyncGenerator[Mirror]:
        """Listen at one more address, with the same tasks and the same ledger, until the block is left.

        Args:
            ssl: TLS context of the server; by default it has no TLS.

        Returns:
            A context manager whose value is the address, a `Mirror` that can be stopped and started again.

        Raises:
            RuntimeError: The emulator is not running.
        """
        if self._service is None:
            raise RuntimeError("the emulator does not run: use `async with`")
        self._service.files_at = self.base_url
        mirror = Mirror(self._service, self._connected, ssl)
        mirror.start()
        try:
            yield mirror
        finally:
            await mirror.close()

    def _connected(self) -> asyncio.Protocol:
        server = None if self._runner is None else self._runner.server
        if server is None:
            raise RuntimeError("the emulator is closing")
        self._most_connections = max(self._most_connections, len(server.connections) + 1)
        return server()

    async def _close(self) -> None:
        with anyio.CancelScope(shield=True):
            for listener in (self._listener, self._elsewhere):
                if listener is not None:
                    listener.close()
            if self._runner is not None:
                await self._runner.cleanup()
            if self._service is not None:
                await self._service.webhooks.close()
            if self._directory is not None:
                await anyio.to_thread.run_sync(partial(shutil.rmtree, self._directory, ignore_errors=True))


def _port(listener: asyncio.Server) -> int:
    port = listener.sockets[0].getsockname()[1]
    assert isinstance(port, int)  # noqa: S101 - for the type checker: the address is of an IP socket
    return port


def _estimate(settings: Settings) -> int:
    """Return the median duration as the service reports it: whole seconds, at least one."""
    generator = random.Random(settings.seed)
    median = sorted(settings.draw_seconds(generator) for _ in range(101))[50]
    return max(1, math.ceil(median)) if math.isfinite(median) else 60
