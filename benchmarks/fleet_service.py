"""A service for the benchmarks of fleets: small results, tasks of half a second, and the times of submits.

`python -m benchmarks.fleet_service` runs it in a process of its own and prints its port.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from benchmarks.server import Connection, picture

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

TASK_SECONDS: Final = 0.5

_CREATED: Final = 1_763_088_289
_BUFFER_BYTES: Final = 1024 * 1024


class Service:
    """The answers of the service; a task is forgotten once an answer has reported its end.

    Args:
        port: Port of the server.
    """

    def __init__(self, port: int) -> None:
        self.received = 0
        self._base_url = f"http://127.0.0.1:{port}"
        self._arrivals: list[float] = []
        self._submits = 0
        self._due: dict[str, float] = {}
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 200\r\n\r\n"
        self._file = head + picture(200)

    def reply(self, method: str, path: str, body: bytes) -> bytes:  # noqa: PLR0911 a return for each route
        """Return the whole answer to a request."""
        if path.startswith("/files/"):
            return self._file
        if path == "/arrivals":
            arrivals, self._arrivals = self._arrivals, []
            return answer(arrivals)
        if path == "/v1/tasks/batch":
            return answer({"code": 200, "data": [self._task(name) for name in json.loads(body)["task_ids"]]})
        if path.startswith("/v1/tasks/"):
            return answer({"code": 200, "data": self._task(path.rpartition("/")[2].partition("?")[0])})
        if method == "POST" and path.startswith("/v1/images"):
            return self._submit()
        if method == "POST" and path.startswith("/v1/uploads"):
            upload = {"url": f"{self._base_url}/files/photo.png", "filename": "photo.png"}
            return answer(upload | {"content_type": "image/png", "created_at": _CREATED})
        return answer({"error": {"message": "not here"}}, "404 Not Found")

    def _submit(self) -> bytes:
        now = time.monotonic()
        self._arrivals.append(now)
        self._submits += 1
        name = f"task_{self._base_url[-5:]}_{self._submits}"
        self._due[name] = now + TASK_SECONDS
        return answer({"code": 200, "data": [{"status": "submitted", "task_id": name}]})

    def _task(self, name: str) -> dict[str, Any]:
        if self._due.get(name, 0.0) > time.monotonic():
            return {"id": name, "status": "processing", "progress": 50, "created": _CREATED}
        self._due.pop(name, None)
        image = {"url": [f"{self._base_url}/files/{name}.jpg"], "expires_at": int(time.time()) + 86400}
        return {
            "id": name,
            "status": "completed",
            "progress": 100,
            "cost": 0.015,
            "credits_cost": 0.15,
            "created": _CREATED,
            "completed": _CREATED + 1,
            "result": {"images": [image]},
        }


def answer(payload: object, status: str = "200 OK") -> bytes:
    """Return an answer in JSON."""
    body = json.dumps(payload).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def serve() -> AsyncGenerator[int]:
    """Listen on loopback, and yield the port."""
    services: list[Service] = []
    buffer = bytearray(_BUFFER_BYTES)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(services[0], buffer), "127.0.0.1", 0, backlog=4096)
    port: int = server.sockets[0].getsockname()[1]
    services.append(Service(port))
    try:
        yield port
    finally:
        server.close()


async def _main() -> None:
    async with serve() as port:
        print(port, flush=True)  # noqa: T201 the parent process reads it
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_main())
