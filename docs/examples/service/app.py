"""A service on aiohttp: ``POST /edits?prompt=…`` with a photo as its body answers with the edited photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from apimart_async import (
    APIConnectionError,
    AsyncApimart,
    ImageError,
    InsufficientBalanceError,
    RateLimitError,
    SubmissionIndeterminateError,
    TaskFailedError,
    TaskTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CLIENT = web.AppKey("client", AsyncApimart)

STATUSES: dict[type[Exception], int] = {
    ImageError: 415,
    TaskFailedError: 422,
    RateLimitError: 429,
    InsufficientBalanceError: 503,
    APIConnectionError: 502,
    SubmissionIndeterminateError: 502,
    TaskTimeoutError: 504,
}


async def edit(request: web.Request) -> web.Response:
    """Answer with the edited photo, or with the status that fits the error."""
    client = request.app[CLIENT]
    photo = await request.read()
    try:
        task = await client.edits.run(photo, request.query["prompt"])
        image = await client.images.read(task.images[0])
    except tuple(STATUSES) as error:
        status = next(status for kind, status in STATUSES.items() if isinstance(error, kind))
        return web.json_response({"error": str(error)}, status=status)
    return web.Response(body=image, content_type="image/jpeg", headers={"X-Cost": str(task.cost)})


async def connect(app: web.Application) -> AsyncIterator[None]:
    """Keep one client, and so its connections and what it learns, for the life of the service."""
    async with AsyncApimart() as client:
        app[CLIENT] = client
        yield


def make_app() -> web.Application:
    """Return the application; `APIMART_API_KEY` names the key."""
    app = web.Application(client_max_size=20_971_520)
    app.router.add_post("/edits", edit)
    app.cleanup_ctx.append(connect)
    return app


if __name__ == "__main__":
    web.run_app(make_app())
