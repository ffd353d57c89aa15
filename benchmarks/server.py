"""The service as a machine that does next to nothing: canned answers from a hand-written protocol.

It has a process of its own and says what it was asked for and how much processor time it took, so that a
client can be held to what it claims, and the server be shown not to hold it up. It prints its port.
With arguments, tasks end so many seconds after their submit, more or less by a share, instead of at their
fourth poll.
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
    """Return ``size`` bytes that begin and end as a JPEG does."""
    head, tail = bytes.fromhex("ffd8ffe000104a46494600010100000100010000"), b"\xff\xd9"
    middle = size - len(head) - len(tail)
    return head + (bytes(range(251)) * (middle // 251 + 1))[:middle] + tail


def _answer(payload: object, status: str = "200 OK") -> bytes:
    body = json.dumps(payload).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Desk:
    """What the service knows: the tasks it was given, and a count of all it was asked.

    Args:
        port: Where it listens.
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
        self._looks: dict[str, int] = {}
        self._picture = picture(_LARGEST_FILE)
        self._files: dict[int, bytes] = {}
        upload = {"filename": "photo.jpg", "content_type": "image/jpeg", "created_at": _CREATED}
        self._uploaded = _answer({"url": f"{self._base}/files/1000.jpg", **upload})
        # The same for replicate, whose client reads its own words.
        self._kept = _answer(
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
        where, _, name = rest.partition("/")
        if where == "counts":
            return self._tell()
        if where == "tasks" and name == "batch":
            self.counts["poll"] += 1
            ids: list[str] = json.loads(body)["task_ids"]
            return _answer({"code": 200, "data": [self._fields(task_id) for task_id in ids]})
        if where in {"tasks", "predictions"} and name:
            self.counts["poll"] += 1
            return self._task(name.partition("?")[0], in_words=where == "predictions")
        if method == "POST" and where in {"images", "predictions"}:
            self.counts["submit"] += 1
            return self._submit(in_words=where == "predictions")
        if method == "POST" and where in {"uploads", "files"}:
            self.counts["upload"] += 1
            return self._uploaded if where == "uploads" else self._kept
        if not where.startswith("model-schema"):  # a client asks for it once, and does without
            self.counts[f"unknown: {method} {path}"] += 1
        return _answer({"error": {"message": "not here"}}, "404 Not Found")

    def _tell(self) -> bytes:
        used = resource.getrusage(resource.RUSAGE_SELF)
        told: dict[str, Any] = {
            "counts": dict(self.counts),
            "received": self.received,
            "cpu": used.ru_utime + used.ru_stime,
        }
        self.counts.clear()
        self.received = 0
        self._looks.clear()
        self._due.clear()
        return _answer(told)

    def _file(self, size: int) -> bytes:
        if size not in self._files:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n"
            self._files[size] = head.encode() + picture(size)
        return self._files[size]

    def _submit(self, *, in_words: bool) -> bytes:
        name = f"task_{len(self._looks)}"
        self._looks[name] = 0
        if self._seconds is not None:
            # Multiples of the golden ratio cover the range evenly, in an order that looks like chance.
            part = len(self._looks) * 0.6180339887 % 1.0
            self._due[name] = time.monotonic() + self._seconds * (1 + self._spread * (2 * part - 1))
        if in_words:
            return _answer(self._prediction(name, is_done=False), "201 Created")
        return _answer({"code": 200, "data": [{"status": "submitted", "task_id": name}]})

    def _task(self, name: str, *, in_words: bool) -> bytes:
        if in_words:
            return _answer(self._prediction(name, is_done=self._is_done(name)))
        return _answer({"code": 200, "data": self._fields(name)})

    def _is_done(self, name: str) -> bool:
        """Tell whether a task has ended: those it was given end after some time or polls, others never do."""
        if name in self._due:
            return time.monotonic() >= self._due[name]
        if name not in self._looks:
            return False
        self._looks[name] += 1
        return self._looks[name] >= POLLS_PER_JOB

    def _fields(self, name: str) -> dict[str, Any]:
        task: dict[str, Any] = {"id": name, "status": "processing", "progress": 50, "created": _CREATED}
        if self._is_done(name):
            # An URL that has expired would be asked for anew.
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
    """Knows the answers.

    Attributes:
        received: Bytes.
    """

    received: int

    def reply(self, method: str, path: str, body: bytes) -> bytes:
        """Return the whole answer to a request."""
        ...


class Line(asyncio.BufferedProtocol):
    """One connection: reads a head, passes over the body, answers.

    Args:
        desk: Knows the answers.
        buffer: What is received into; the loop fills and empties it in one step, so all lines share it.
    """

    def __init__(self, desk: Service, buffer: bytearray) -> None:
        self._desk = desk
        self._buffer = buffer
        self._head = b""
        self._body_left = 0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 for the type checker
        self._transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:  # noqa: ARG002 asyncio's signature
        """Return what to receive into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what came."""
        self._desk.received += nbytes
        if self._body_left:
            self._pass_over(nbytes)
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
            self._transport.abort()  # no client here needs it, and a length is part of what is measured
            raise ValueError("a chunked body")
        method, path, _ = lines[0].split(" ")
        length = int(fields.get("content-length", 0))
        if path == "/v1/tasks/batch" and len(rest) < length:
            return  # the only body that is read: it is waited for
        self._reply = self._desk.reply(method, path, rest)
        self._body_left = length - len(rest)
        self._head = b""
        if self._body_left <= 0:
            self._transport.write(self._reply)
            self._body_left = 0
        elif fields.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _pass_over(self, size: int) -> None:
        self._body_left -= size
        if self._body_left <= 0:
            self._body_left = 0
            self._transport.write(self._reply)


async def serve(*durations: float) -> None:
    """Listen on loopback until standard input ends.

    Args:
        durations: Seconds of the tasks and their spread; without, tasks end at their fourth poll.
    """
    loop = asyncio.get_running_loop()
    buffer = bytearray(_RECEIVE_BYTES)
    desks: list[Desk] = []
    server = await loop.create_server(lambda: Line(desks[0], buffer), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    desks.append(Desk(port, *durations))
    print(port, flush=True)  # noqa: T201 whoever started it reads it
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(*map(float, sys.argv[1:])))
