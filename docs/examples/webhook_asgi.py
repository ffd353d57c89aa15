"""An ASGI application that takes notifications and ends the waits of the same program at once.

Run it with any ASGI server, for instance ``uvicorn webhook_asgi:app``. ``POST /generations`` submits a
generation and answers once its images are saved; ``POST /apimart/callback`` takes the notifications.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from apimart_async import APIResponseValidationError, AsyncApimart, InvalidArgumentError, webhooks

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

WEBHOOK = os.environ.get("WEBHOOK", "https://example.com/apimart")
MAX_BYTES = 1_048_576  # anybody can send a notification

notifications: dict[str | None, asyncio.Event] = {}
# A notification can come before the answer to the submit is read.
early: deque[str | None] = deque(maxlen=1000)
client: AsyncApimart


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer a request."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body = await read_body(receive)
    if body is None:
        status, text = 413, ""
    elif scope["path"].endswith("/callback"):
        status, text = notify(body), ""
    else:
        try:
            status, text = 200, await generate(body.decode())
        except InvalidArgumentError as error:
            status, text = 400, str(error)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": text.encode()})


def notify(body: bytes) -> int:
    """Set the event of the wait, which asks the service itself: a forged notification does no harm."""
    try:
        task = webhooks.parse(body)
    except APIResponseValidationError:
        return 400
    if task.id in notifications:
        notifications[task.id].set()
    else:
        early.append(task.id)
    return 200


async def generate(prompt: str) -> str:
    """Submit a generation, wait for it, and return the paths of its images."""
    task = await client.generations.create(prompt, webhook=WEBHOOK)
    notified = notifications[task.id] = asyncio.Event()
    if task.id in early:
        notified.set()
    try:
        task = await client.tasks.wait(task, notified=notified)
    finally:
        del notifications[task.id]
    return "\n".join(str(path) for path in await client.images.save(task, "out/"))


async def lifespan(receive: Receive, send: Send) -> None:
    """Open the client when the server starts, and close it when the server stops."""
    global client
    async with AsyncApimart() as client:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def read_body(receive: Receive) -> bytes | None:
    """Return the whole body of a request; ``None`` if it is too large."""
    body, more = bytearray(), True
    while more and len(body) <= MAX_BYTES:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body) if len(body) <= MAX_BYTES else None
