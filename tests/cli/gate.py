"""A proxy before the emulator that stops one kind of request at one moment of its life."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import aiohttp
import anyio
from aiohttp import web
from yarl import URL

if TYPE_CHECKING:
    from types import TracebackType

    from apimart_async.emulator import Emulator

Stage: TypeAlias = Literal["received", "executed", "half answered", "answered"]


class Gate:
    """Pass requests on to an emulator, and hold those of one path at one stage until ``release``.

    A request is "received" before the emulator has it, "executed" when the gate has the answer, then "half
    answered" and "answered" to the client.

    Args:
        emulator: It is running.
        path: Part of the path of the requests that are held.
        stage: When they are held.

    Attributes:
        bodies: Of all requests, by their path.
    """

    def __init__(self, emulator: Emulator, path: str, stage: Stage) -> None:
        self._emulator = emulator
        self._path = path
        self._stage = stage
        self._held = anyio.Semaphore(0)
        self._released = anyio.Event()
        self._stack = AsyncExitStack()
        self.url = ""
        self.bodies: dict[str, bytes] = {}

    async def __aenter__(self) -> Self:
        self._session = await self._stack.enter_async_context(aiohttp.ClientSession())
        application = web.Application(client_max_size=0)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        self._stack.callback(self.release)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        self.url = f"http://{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def holds(self, number: int = 1) -> None:
        """Wait until so many more requests have been held."""
        for _ in range(number):
            await self._held.acquire()

    def release(self) -> None:
        """Hold nothing any longer."""
        self._released.set()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = self.bodies[request.path] = await request.read()
        await self._reach(request, "received")
        async with self._session.request(
            request.method,
            URL(self._emulator.base_url + request.raw_path, encoded=True),
            headers=request.headers,
            data=body,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
        await self._reach(request, "executed")
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        with suppress(ConnectionError):
            await response.prepare(request)
            await response.write(content[: len(content) // 2])
            await self._reach(request, "half answered")
            await response.write(content[len(content) // 2 :])
            await response.write_eof()
            await self._reach(request, "answered")
        return response

    async def _reach(self, request: web.Request, stage: Stage) -> None:
        if stage == self._stage and self._path in request.path:
            self._held.release()
            await self._released.wait()
