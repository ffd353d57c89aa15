"""A server that does as little as possible: prepared answers from a hand-written asyncio protocol.

It runs in a process of its own and prints its port. Its statistics (requests, bytes and processor time) show
whether a client sent the requests of its workload, and whether the server was the bottleneck. A task ends at
its fourth poll, or after the seconds in the first argument, which differ by the share in the second.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from typing import Any, Final, Protocol

POLLS_PER_JOB: Final = 4
RESULT_BYTES: Final = 1_000_000

_RECEIVE_BYTES: Final = 1024 * 1024
_LARGEST_FILE: Final = 3_000_000
_CREATED: Final = 1_763_088_289


def picture(size: int) -> bytes:
    """Return ``size`` bytes with the beginning and the end of a JPEG file."""
    head, tail = bytes.fromhex("ffd8ffe000104a46494600010100000100010000"), b"\xff\xd9"
    middle = size - len(head) - len(tail)
    return head + (bytes(range(251)) * (middle // 251 + 1))[:middle] + tail


def _answer(payload: object, status: str = "200 OK") -> bytes:
    body = json.dumps(payload).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Apimart:
    """The answers of APIMart, and of replicate, with the state of the tasks and the number of requests.

    Args:
        port: Port of the server.
        seconds: Duration of the tasks; ``None`` for tasks that end at their fourth poll.
        spread: Share of ``seconds`` by which the shortest and the longest task differ from it.
    """

    def __init__(self, port: int, seconds: float | None = None, spread: float = 0.0) -> None:
        self._seconds = seconds
        self._spread = spread
        self._due: dict[str, float] = {}
        self.counts: Counter[str] = Counter()
        self.received = 0
        self._base = f"http://127.0.0.1:{port}"
        self._polls: dict[str, int] = {}
        self._picture = picture(_LARGEST_FILE)
        self._files: dict[int, bytes] = {}
        upload = {"filename": "photo.jpg", "content_type": "image/jpeg", "created_at": _CREATED}
        self._uploaded = _answer({"url": f"{self._base}/files/1000.jpg", **upload})
        # The answer to the same request of replicate.
        self._replicate_uploaded = _answer(
            {
                "id": "file", "name": "photo.jpg", "content_type": "image/jpeg", "size": 1, "etag": "0",
                "checksums": {}, "metadata": {}, "created_at": "2025-11-14T02:44:49Z", "expires_at": None,
                "urls": {"get": f"{self._base}/files/1000.jpg"},
            }
        )  # fmt: skip

    def reply(self, method: str, path: str, body: bytes) -> bytes:  # noqa: PLR0911 a return for each route
        """Return the whole answer to a request."""
        route, _, rest = path[1:].partition("/")
        if route == "files":
            self.counts["download"] += 1
            return self._file(int(rest.removesuffix(".jpg")))
        endpoint, _, name = rest.partition("/")
        if endpoint == "counts":
            return self._take_statistics()
        if endpoint == "tasks" and name == "batch":
            self.counts["poll"] += 1
            ids: list[str] = json.loads(body)["task_ids"]
            return _answer({"code": 200, "data": [self._fields(task_id) for task_id in ids]})
        if endpoint in {"tasks", "predictions"} and name:
            self.counts["poll"] += 1
            return self._task(name.partition("?")[0], is_replicate=endpoint == "predictions")
        if method == "POST" and endpoint in {"images", "predictions"}:
            self.counts["submit"] += 1
            return self._submit(is_replicate=endpoint == "predictions")
        if method == "POST" and endpoint in {"uploads", "files"}:
            self.counts["upload"] += 1
            return self._uploaded if endpoint == "uploads" else self._replicate_uploaded
        if not endpoint.startswith("model-schema"):  # the client works without it
            self.counts[f"unknown: {method} {path}"] += 1
        return _answer({"error": {"message": "not here"}}, "404 Not Found")

    def _take_statistics(self) -> bytes:
        used = resource.getrusage(resource.RUSAGE_SELF)
        statistics: dict[str, Any] = {
            "counts": dict(self.counts),
            "received": self.received,
            "cpu": used.ru_utime + used.ru_stime,
        }
        self.counts.clear()
        self.received = 0
        self._polls.clear()
        self._due.clear()
        return _answer(statistics)

    def _file(self, size: int) -> bytes:
        if size not in self._files:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n"
            self._files[size] = head.encode() + picture(size)
        return self._files[size]

    def _submit(self, *, is_replicate: bool) -> bytes:
        name = f"task_{len(self._polls)}"
        self._polls[name] = 0
        if self._seconds is not None:
            # Multiples of the golden ratio modulo 1: evenly distributed, in no particular order.
            share = len(self._polls) * 0.6180339887 % 1.0
            self._due[name] = time.monotonic() + self._seconds * (1 + self._spread * (2 * share - 1))
        if is_replicate:
            return _answer(self._prediction(name, is_done=False), "201 Created")
        return _answer({"code": 200, "data": [{"status": "submitted", "task_id": name}]})

    def _task(self, name: str, *, is_replicate: bool) -> bytes:
        if is_replicate:
            return _answer(self._prediction(name, is_done=self._is_done(name)))
        return _answer({"code": 200, "data": self._fields(name)})

    def _is_done(self, name: str) -> bool:
        """Tell whether a task has ended; a task that was not submitted here never does."""
        if name in self._due:
            return time.monotonic() >= self._due[name]
        if name not in self._polls:
            return False
        self._polls[name] += 1
        return self._polls[name] >= POLLS_PER_JOB

    def _fields(self, name: str) -> dict[str, Any]:
        task: dict[str, Any] = {"id": name, "status": "processing", "progress": 50, "created": _CREATED}
        if self._is_done(name):
            # Clients fetch the task again when its URLs have expired.
            expires_at = int(time.time()) + 86400
            image = {"url": [f"{self._base}/files/{RESULT_BYTES}.jpg"], "expires_at": expires_at}
            seconds = 19 if self._seconds is None else round(self._seconds)
            task |= {"status": "completed", "progress": 100, "cost": 0.015, "credits_cost": 0.15}
            task |= {"completed": _CREATED + seconds, "actual_time": seconds, "result": {"images": [image]}}
        return task

    def _prediction(self, name: str, *, is_done: bool) -> dict[str, Any]:
        return {
            "id": name, "model": "m/edit", "version": "v", "input": {}, "logs": "", "error": None,
            "status": "succeeded" if is_done else "processing", "created_at": "2025-11-14T02:44:49Z",
            "output": f"{self._base}/files/{RESULT_BYTES}.jpg" if is_done else None,
            "urls": {"get": f"{self._base}/v1/predictions/{name}", "cancel": f"{self._base}/no"},
        }  # fmt: skip


class Service(Protocol):
    """The answers of a service.

    Attributes:
        received: Bytes received, which ``Connection`` counts.
    """

    received: int

    def reply(self, method: str, path: str, body: bytes) -> bytes:
        """Return the whole answer to a request."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One connection: reads the head of each request, skips its body and writes the answer.

    Args:
        service: Returns the answers.
        buffer: Receive buffer; its content is used before the next read, so that all connections share it.
    """

    def __init__(self, service: Service, buffer: bytearray) -> None:
        self._service = service
        self._buffer = buffer
        self._head = b""
        self._body_left = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 for the type checker
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 asyncio's signature
        """Return the receive buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Read the bytes in the buffer."""
        self._service.received += nbytes
        if self._body_left:
            self._skip(nbytes)
            return
        self._head += bytes(memoryview(self._buffer)[:nbytes])
        head, end, rest = self._head.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.decode("latin-1").split("\r\n")
        fields = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        if "transfer-encoding" in fields:
            self._transport.abort()  # all clients know the length of their bodies
            raise ValueError("The body is chunked.")
        method, path, _ = lines[0].split(" ")
        length = int(fields.get("content-length", 0))
        if path == "/v1/tasks/batch" and len(rest) < length:
            return  # the answer depends on this body alone
        self._reply = self._service.reply(method, path, rest)
        self._body_left = length - len(rest)
        self._head = b""
        if self._body_left <= 0:
            self._transport.write(self._reply)
            self._body_left = 0
        elif fields.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _skip(self, size: int) -> None:
        self._body_left -= size
        if self._body_left <= 0:
            self._body_left = 0
            self._transport.write(self._reply)


async def serve(*durations: float) -> None:
    """Listen on loopback until standard input ends.

    Args:
        durations: Seconds that tasks take, and the share by which they differ; by default, a task ends at its
            fourth poll.
    """
    loop = asyncio.get_running_loop()
    buffer = bytearray(_RECEIVE_BYTES)
    services: list[Apimart] = []
    server = await loop.create_server(lambda: Connection(services[0], buffer), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    services.append(Apimart(port, *durations))
    print(port, flush=True)  # noqa: T201 the parent process reads it
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(*map(float, sys.argv[1:])))
