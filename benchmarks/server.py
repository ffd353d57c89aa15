"""The service as a machine that does next to nothing: canned answers from a hand-written protocol.

It has a process of its own and says what it was asked for and how much processor time it took, so that a
client can be held to what it claims, and the server be shown not to hold it up. It prints its port.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections import Counter
from typing import Any, Final

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
    """

    def __init__(self, port: int) -> None:
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

    def reply(self, method: str, path: str) -> bytes:
        """Return the whole answer to a request."""
        route, _, rest = path[1:].partition("/")
        if route == "files":
            self.counts["download"] += 1
            return self._file(int(rest.removesuffix(".jpg")))
        where, _, name = rest.partition("/")
        if where == "counts":
            return self._tell()
        if where in {"tasks", "predictions"} and name:
            self.counts["poll"] += 1
            return self._task(name.partition("?")[0], in_words=where == "predictions")
        if method == "POST" and where in {"images", "predictions"}:
            self.counts["submit"] += 1
            return self._submit(in_words=where == "predictions")
        if method == "POST" and where in {"uploads", "files"}:
            self.counts["upload"] += 1
            return self._uploaded if where == "uploads" else self._kept
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
        return _answer(told)

    def _file(self, size: int) -> bytes:
        if size not in self._files:
            head = f"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: {size}\r\n\r\n"
            self._files[size] = head.encode() + picture(size)
        return self._files[size]

    def _submit(self, *, in_words: bool) -> bytes:
        name = f"task_{len(self._looks)}"
        self._looks[name] = 0
        if in_words:
            return _answer(self._prediction(name, is_done=False), "201 Created")
        return _answer({"code": 200, "data": [{"status": "submitted", "task_id": name}]})

    def _task(self, name: str, *, in_words: bool) -> bytes:
        """Tell of a task: those it was given end after some looks, any other never does."""
        looks = self._looks.get(name)
        is_done = False
        if looks is not None:
            self._looks[name] = looks + 1
            is_done = looks + 1 >= POLLS_PER_JOB
        if in_words:
            return _answer(self._prediction(name, is_done=is_done))
        task: dict[str, Any] = {"id": name, "status": "processing", "progress": 50, "created": _CREATED}
        if is_done:
            image = {"url": [f"{self._base}/files/{RESULT_BYTES}.jpg"], "expires_at": _CREATED + 86400}
            task |= {"status": "completed", "progress": 100, "cost": 0.015, "credits_cost": 0.15}
            task |= {"completed": _CREATED + 19, "actual_time": 19, "result": {"images": [image]}}
        return _answer({"code": 200, "data": task})

    def _prediction(self, name: str, *, is_done: bool) -> dict[str, Any]:
        return {
            "id": name, "model": "m/edit", "version": "v", "input": {}, "logs": "", "error": None,
            "status": "succeeded" if is_done else "processing", "created_at": "2025-11-14T02:44:49Z",
            "output": f"{self._base}/files/{RESULT_BYTES}.jpg" if is_done else None,
            "urls": {"get": f"{self._base}/v1/predictions/{name}", "cancel": f"{self._base}/no"},
        }  # fmt: skip


class Line(asyncio.BufferedProtocol):
    """One connection: reads a head, passes over the body, answers.

    Args:
        desk: Knows the answers.
        buffer: What is received into; the loop fills and empties it in one step, so all lines share it.
    """

    def __init__(self, desk: Desk, buffer: bytearray) -> None:
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
        self._reply = self._desk.reply(method, path)
        self._body_left = int(fields.get("content-length", 0)) - len(rest)
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


async def serve() -> None:
    """Listen on loopback until standard input ends."""
    loop = asyncio.get_running_loop()
    buffer = bytearray(_RECEIVE_BYTES)
    desks: list[Desk] = []
    server = await loop.create_server(lambda: Line(desks[0], buffer), "127.0.0.1", 0, backlog=4096)
    port = server.sockets[0].getsockname()[1]
    desks.append(Desk(port))
    print(port, flush=True)  # noqa: T201 whoever started it reads it
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
