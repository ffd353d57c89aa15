"""A FastAPI service that submits generations, and saves images when they are notified.

Run it with ``uvicorn webhook_fastapi:app``; ``WEBHOOK`` is the public URL of this service
with ``/apimart``.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import BackgroundTasks, FastAPI, Request, Response
from fastapi.responses import JSONResponse

from apimart_async import (
    APIError,
    APIResponseValidationError,
    AsyncApimart,
    InvalidArgumentError,
    NotFoundError,
    Task,
    webhooks,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

WEBHOOK = os.environ.get("WEBHOOK", "https://example.com/apimart")
MAX_BYTES = 1_048_576  # anybody can send a notification


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keep one client for the life of the service."""
    async with AsyncApimart() as client:
        app.state.client = client
        app.state.deliveries = webhooks.Deliveries()
        yield


app = FastAPI(lifespan=lifespan)


@app.exception_handler(InvalidArgumentError)
async def refuse(_: Request, error: InvalidArgumentError) -> JSONResponse:
    """Name the fault of a request, such as an empty prompt; nothing was sent to the service."""
    return JSONResponse({"error": str(error)}, 400)


@app.post("/generations", status_code=202)
async def generate(prompt: str) -> dict[str, str | None]:
    """Submit a generation, and answer with the id of its task."""
    client: AsyncApimart = app.state.client
    task = await client.generations.create(prompt, webhook=WEBHOOK)
    return {"task_id": task.id}


@app.post("/apimart/callback")
async def callback(request: Request, background: BackgroundTasks) -> Response:
    """Take a notification; the status decides whether the service sends it again."""
    client: AsyncApimart = app.state.client
    deliveries: webhooks.Deliveries = app.state.deliveries
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            return Response(status_code=413)
    try:
        notified = webhooks.parse(body)
    except APIResponseValidationError:
        return Response(status_code=400)
    if notified in deliveries:
        return Response()
    try:
        task = await webhooks.confirm(client, notified)
    except APIError as error:
        # Not genuine, unless a gateway has answered; the service sends it again after any status but 4xx.
        is_forged = isinstance(error, NotFoundError) and not error.is_page
        return Response(status_code=400 if is_forged else 503)
    if not task.is_finished:
        return Response(status_code=503)
    background.add_task(finish, task)  # the answer has to come within 10 seconds
    return Response()


async def finish(task: Task) -> None:
    """Save the images of a completed task; its id is their name."""
    client: AsyncApimart = app.state.client
    deliveries: webhooks.Deliveries = app.state.deliveries
    if task.is_completed:
        await client.images.save(task, "out/")
    deliveries.add(task)
