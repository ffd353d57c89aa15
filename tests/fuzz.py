"""No call gets the answer of another, whatever a server does to its connections: ``nox -s fuzz``.

Every call carries a tag, and its answer repeats the tag. The server cuts answers, hangs up, sends a second
answer behind a good one or some time later, or says farewell on an idle connection, with and without closing
it; the client cancels calls at random moments. A second answer comes later to polls and uploads alone: no
client can tell one to another submit or download, which names nothing of its request, from its own.
A call may fail, but an answer with another tag ends the run with exit code 1.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import random
import re
import ssl
import sys
import threading
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trustme

from apimart_async import ApimartError, AsyncApimart, Image, Limits, Retry, Timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

AT_ONCE: Final = 64
GIF: Final = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0])
FAREWELL: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def picture(tag: str) -> bytes:
    """Return a GIF with the tag in a comment."""
    return GIF + b"\x21\xfe" + bytes([len(tag)]) + tag.encode() + b"\0" + b"\x3b"


def answer(body: bytes, content_type: str = "application/json") -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer_to(target: str, body: bytes) -> bytes:
    """Return the good answer to a request."""
    if target.startswith("/files/"):
        return answer(picture(target.rpartition("/")[2]), "image/gif")
    if target.startswith("/v1/tasks/"):
        task_id = target.removeprefix("/v1/tasks/").partition("?")[0]
        return answer(json.dumps({"code": 200, "data": {"id": task_id, "status": "processing"}}).encode())
    if target == "/v1/images/edits":
        tag = json.loads(body)["prompt"]
        return answer(json.dumps({"code": 200, "data": [{"task_id": tag, "status": "submitted"}]}).encode())
    found = re.search(rb'filename="([^"]+)"\r\n.*?\r\n\r\n(.*)\r\n--[^\r]+--\r\n$', body, re.DOTALL)
    assert found
    name, content = found.groups()
    upload = {"url": f"https://files.example/{name.decode()}", "filename": name.decode()}
    facts = {"content_type": "image/gif", "bytes": len(content), "created_at": 1_700_000_000}
    return answer(json.dumps(upload | facts).encode())


async def misbehave(writer: asyncio.StreamWriter, target: str, good: bytes, chance: random.Random) -> bool:
    """Answer a request, correctly or not; return whether the connection stays open."""
    chosen = chance.randrange(12)
    if chosen == 0:
        return False
    if chosen == 1:
        writer.write(good[: chance.randrange(len(good))])
        return False
    if chosen == 2:
        await asyncio.sleep(chance.uniform(0, 0.02))
    behind = {3: "/v1/tasks/of-somebody-else", 4: "/v1/images/edits"}.get(chosen)
    writer.write(good + (answer_to(behind, b'{"prompt": "of-somebody-else"}') if behind else b""))
    if chosen in {5, 6} and target.startswith(("/v1/tasks/", "/v1/uploads/")):
        await asyncio.sleep(chance.uniform(0, 0.005))
        writer.write(good if chosen == 5 else answer_to("/v1/tasks/of-somebody-else", b""))
    return True


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, chance: random.Random) -> None:
    """Answer the requests of one connection, some of them badly."""
    try:
        while True:
            try:
                async with asyncio.timeout(chance.uniform(0.01, 2.0)):
                    head = await reader.readuntil(b"\r\n\r\n")
            except TimeoutError:
                writer.write(FAREWELL)
                if chance.random() < 0.5:
                    return
                continue
            length = re.search(rb"(?i)content-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
            _, target, _ = head.split(b" ", 2)
            if not await misbehave(writer, target.decode(), answer_to(target.decode(), body), chance):
                return
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


class Server:
    """The server on a loop of its own thread."""

    def __init__(self, context: ssl.SSLContext | None, seed: int) -> None:
        self._loop = asyncio.new_event_loop()
        self._context = context
        self._chance = random.Random(seed)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> int:
        """Listen on loopback and return the port."""
        self._thread.start()

        async def listen() -> int:
            handler = partial(serve, chance=self._chance)
            server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=self._context)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result()


async def poll(client: AsyncApimart, tag: str) -> str:
    return str((await client.tasks.get(tag)).id)


async def upload(client: AsyncApimart, tag: str) -> str:
    return (await client.uploads.create(picture(tag), filename=f"{tag}.gif")).filename.removesuffix(".gif")


async def submit(client: AsyncApimart, tag: str) -> str:
    return str((await client.edits.create("https://files.example/a.gif", tag)).id)


async def download(client: AsyncApimart, tag: str) -> str:
    data = await client.images.read(Image(f"{client.base_url}/files/{tag}"))
    return tag if data == picture(tag) else repr(data)


CALLS: Final[tuple[Callable[[AsyncApimart, str], Awaitable[str]], ...]] = (poll, upload, submit, download)


async def fuzz(client: AsyncApimart, calls: int, seed: int) -> Counter[str]:
    """Make calls, 64 at once, and count how they end."""
    chance = random.Random(seed)
    ends: Counter[str] = Counter()
    numbers = iter(range(calls))

    async def work() -> None:
        for number in numbers:
            call, tag = chance.choice(CALLS), f"tag-{number}"
            try:
                # A third of the calls is cut off within the time that an answer takes.
                async with asyncio.timeout(chance.uniform(0, 0.03) if chance.random() < 0.33 else 60):
                    found = await call(client, tag)
            except TimeoutError as error:
                ends["failed" if isinstance(error, ApimartError) else "cancelled"] += 1
            except ApimartError:
                ends["failed"] += 1
            else:
                ends["answered" if found == tag else f"WRONG {call.__name__}: {found} for {tag}"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(work())
    return ends


async def run(port: int, context: ssl.SSLContext | None, calls: int, seed: int) -> Counter[str]:
    options: dict[str, Any] = {
        "base_url": f"http{'s' if context else ''}://localhost:{port}",
        "ssl": context,
        "limits": Limits(adaptive=False, requests=AT_ONCE),
        "retry": Retry(initial_delay=0.001, max_delay=0.002),
        "timeout": Timeout(read=60, total=60),
    }
    async with AsyncApimart("sk-fuzz", **options) as client:
        return await fuzz(client, calls, seed)


def main() -> None:
    """Run one combination of loop and encryption; exit with 1 when an answer was another's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="number of calls")
    parser.add_argument("--seed", type=int, default=1, help="of all random choices")
    parser.add_argument("--tls", action="store_true", help="encrypt the connections")
    parser.add_argument("--uvloop", action="store_true", help="run the client on uvloop")
    given = parser.parse_args()
    logging.disable()  # each cut-off paid request logs a warning
    server_context = client_context = None
    if given.tls:
        authority = trustme.CA()
        server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        authority.issue_cert("localhost").configure_cert(server_context)
        client_context = ssl.create_default_context()
        authority.configure_trust(client_context)
    factory = None
    if given.uvloop:
        import uvloop

        factory = uvloop.new_event_loop
    port = Server(server_context, given.seed).start()
    with asyncio.Runner(loop_factory=factory) as runner:
        ends = runner.run(run(port, client_context, given.calls, given.seed))
    name = f"{'uvloop' if given.uvloop else 'asyncio'}, {'TLS' if given.tls else 'plain'}"
    sys.stdout.write(f"{name}: {given.calls:,} calls, {dict(ends.most_common(20))}\n")
    sys.exit(any(end.startswith("WRONG") for end in ends))


if __name__ == "__main__":
    main()
