"""A service on FastAPI that edits photos: ``PUT`` and ``GET /edits/{key}``.

Run it with ``uvicorn main:app``. ``APIMART_API_KEY`` is the key of the account,
``EDITS`` a folder.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, FastAPI, File, Form, HTTPException, Request
from fastapi import Path as PathParameter
from fastapi.responses import FileResponse, JSONResponse

from apimart_async import (
    ApimartError,
    AsyncApimart,
    DownloadError,
    ImageError,
    ImageTooLargeError,
    InvalidArgumentError,
    Job,
    JournalError,
    JournalInUseError,
    Outcome,
    TaskFailedError,
    TaskTimeoutError,
    edit_many,
)
from apimart_async.batch import read_outcomes

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

FOLDER = Path(os.environ.get("EDITS", "edits"))
MAX_BODY = 21_000_000  # bytes: a photo of 20,971,520 and the rest of the form
MAX_WAIT = 300.0  # seconds for a task
MAX_SHUTDOWN = 20.0  # seconds for the edits that run when the server stops

STATUSES: dict[type[ApimartError], int] = {
    ImageTooLargeError: 413,
    ImageError: 415,
    InvalidArgumentError: 422,
    TaskFailedError: 422,  # the photo or the prompt; free
    TaskTimeoutError: 504,  # paid; the same request goes on with the task
    DownloadError: 504,
    JournalInUseError: 409,  # another process of the service runs this edit
}

# The caller chooses the key. It names a folder; whoever knows it can fetch the photo.
Key = Annotated[str, PathParameter(pattern="^[A-Za-z0-9_-]{16,64}$")]


class Edits:
    """Runs each edit once, and to its end even if its caller has gone."""

    def __init__(self, client: AsyncApimart) -> None:
        self._client = client
        self._running: dict[str, asyncio.Task[Outcome]] = {}

    async def run(self, key: str, photo: bytes, prompt: str) -> Outcome:
        """Run an edit, or return the outcome of the edit with the same key.

        Cancellation leaves the edit running.
        """
        while key in self._running:
            await asyncio.wait([self._running[key]])
        edit = self._running[key] = asyncio.create_task(self._edit(key, photo, prompt))
        edit.add_done_callback(lambda _: self._running.pop(key))
        return await asyncio.shield(edit)

    async def _edit(self, key: str, photo: bytes, prompt: str) -> Outcome:
        """Run a batch of one job, which its journal recognises after a crash."""
        job = Job(photo, prompt, id=key, name="edited")
        async with edit_many(
            self._client, [job], output=FOLDER / key, timeout=MAX_WAIT
        ) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
        return outcome

    async def find(self, key: str) -> Outcome | None:
        """Return the outcome of an edit; ``None`` before it has ended."""
        if key in self._running:
            return None
        try:
            (outcome,) = await asyncio.to_thread(
                lambda: list(read_outcomes(FOLDER / key))
            )
        except (JournalError, ValueError):
            raise HTTPException(404, "There is no such edit.") from None
        return outcome if outcome.paths or outcome.error else None

    async def close(self) -> None:
        """Let the running edits end; cancel those that take too long.

        Cancelled edits go on with the next request for them.
        """
        if self._running:
            _, late = await asyncio.wait(self._running.values(), timeout=MAX_SHUTDOWN)
            for edit in late:
                edit.cancel()
            await asyncio.gather(*late, return_exceptions=True)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keep one client for the life of the service."""
    async with AsyncApimart() as client:
        app.state.edits = Edits(client)
        try:
            yield
        finally:
            await app.state.edits.close()


class LimitBody:
    """Middleware that refuses a body above the limit while it arrives."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise HTTPException(413, f"The limit is {self.limit} bytes.")
            return message

        await self.app(scope, counted, send)


app = FastAPI(lifespan=lifespan)
app.add_middleware(LimitBody, limit=MAX_BODY)


def edits_of(request: Request) -> Edits:
    """Return the edits of the running service."""
    edits: Edits = request.app.state.edits
    return edits


@app.put("/edits/{key}")
async def edit(
    key: Key,
    photo: Annotated[bytes, File()],
    prompt: Annotated[str, Form(max_length=2000)],
    edits: Annotated[Edits, Depends(edits_of)],
) -> FileResponse:
    """Answer with the edited photo; a repeated request pays nothing."""
    return photo_of(await edits.run(key, photo, prompt))


@app.get("/edits/{key}", response_model=None)
async def find(
    key: Key, edits: Annotated[Edits, Depends(edits_of)]
) -> FileResponse | JSONResponse:
    """Answer with the edited photo, or with 202 before the edit has ended."""
    outcome = await edits.find(key)
    return (
        JSONResponse({"status": "unfinished"}, 202)
        if outcome is None
        else photo_of(outcome)
    )


def photo_of(outcome: Outcome) -> FileResponse:
    """Return the photo of a saved edit, and raise the error of any other."""
    if outcome.error is not None:
        raise outcome.error
    return FileResponse(outcome.paths[0], headers={"X-Cost": str(outcome.cost)})


@app.exception_handler(ApimartError)
async def report(request: Request, error: ApimartError) -> JSONResponse:
    """Answer with the status that fits the error; details of the account are logged."""
    status = status_of(error)
    log.log(
        logging.ERROR if status >= 500 else logging.INFO,
        "%s: %s",
        request.url.path,
        error,
    )
    headers = {"Retry-After": "10"} if status in {409, 503, 504} else {}
    message = str(error) if status in {413, 415, 422} else "The edit is not finished."
    return JSONResponse(
        {"error": type(error).__name__, "message": message}, status, headers
    )


def status_of(error: ApimartError) -> int:
    """Return the HTTP status for an error."""
    for kind, status in STATUSES.items():
        if isinstance(error, kind):
            return status
    # 503 is free: rate limit, balance, key, network.
    # 502 may have been paid: SubmissionIndeterminateError.
    return 503 if error.is_transient or error.stops_batch else 502
