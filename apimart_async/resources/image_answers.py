"""Paid requests that are answered with the images: whole, or event by event."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

import attrs

from apimart_async import errors
from apimart_async.hooks import Operation
from apimart_async.interruption import interrupted, mark
from apimart_async.models import CompletedImageEvent, ImageEvent, ImageSet
from apimart_async.resources.image_fields import Arguments
from apimart_async.transport import image_parsing, observation, parsing
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.event_stream import EventStream
from apimart_async.transport.json import not_understood
from apimart_async.transport.media.multipart import Body
from apimart_async.transport.responses import Answer, FailedAttempt, indeterminate
from apimart_async.transport.retry import Effect, Kind
from apimart_async.urls import bare_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from apimart_async.models import Image
    from apimart_async.transport.api import Api

log: Final = logging.getLogger("apimart_async.resources")

_NOT_EXECUTED: Final = frozenset({Effect.REJECTED, Effect.DEFERRED})
_UNREAD: Final = "The answer to a paid request was not read to its end; it may have been billed."
_LEFT: Final = "A paid stream of images was left before its end and may have been billed."


@attrs.frozen
class ImageRequest:
    """A paid request that was checked, and not sent yet.

    Attributes:
        path: Path below the base URL.
        body: JSON text, or a form.
        arguments: The arguments that it was made from.
    """

    path: str
    body: Body | bytes
    arguments: Arguments


async def fetch_images(api: Api, request: ImageRequest) -> ImageSet:
    """Send a request and return the images of its answer.

    Raises:
        APIError: The request was not executed.
        SubmissionIndeterminateError: It may or may not have been executed.

    Cancellation may leave a paid request whose result is lost.
    """
    async with _operation(api, request):
        answer = await _send(api, request, accepts_events=False)
        try:
            # Images in base64 are copied into their URLs.
            found = await file_threads.run(image_parsing.read_image_set, answer.payload, request.arguments.n)
        except errors.APIResponseValidationError as error:
            raise indeterminate(_complete(request, error, answer)) from error
        except BaseException as raised:
            _note(raised, _UNREAD)
            log.warning("POST %s: %s", bare_url(answer.base_url + request.path), _UNREAD)
            raise
    _tell(request, answer, len(found.images))
    _tell_fewer(request, answer, len(found.images))
    return parsing.resolved(found, answer.base_url)


def _operation(api: Api, request: ImageRequest) -> AbstractAsyncContextManager[None]:
    name = "edit" if "/edits" in request.path else "generate"
    described = Operation("applerouter", name, request.arguments.model, api.settings.base_url)
    return observation.operation(api.session.hooks, described)


def _tell(request: ImageRequest, answer: Answer, images: int) -> None:
    """Log the images of an answer."""
    said = observation.as_name(answer.request_id)
    request_id = f", request id {said}" if said else ""
    url = bare_url(answer.base_url + request.path)
    line = f"POST {url} completed: {observation.counted(images, 'image')}{request_id}"
    log.info("%s.", errors.visible(line))


def _tell_fewer(request: ImageRequest, answer: Answer, images: int) -> None:
    """Log that an answer has fewer images than were asked for: all of them may be billed."""
    if images < request.arguments.n:
        url = bare_url(answer.base_url + request.path)
        log.warning("POST %s: %d of %d images came.", url, images, request.arguments.n)


@asynccontextmanager
async def stream_images(
    api: Api, prepare: Callable[[], Awaitable[ImageRequest]]
) -> AsyncGenerator[AsyncIterator[ImageEvent]]:
    """Prepare and send a request, and iterate over the events of its answer.

    Raises:
        ApimartError: The request could not be prepared; nothing was sent.
        APIError: The request was not executed.
        SubmissionIndeterminateError: It may or may not have been executed.

    Cancellation may leave a paid request whose result is lost.
    """
    request = await prepare()
    async with _operation(api, request):
        stream = _ImageStream(request, await _send(api, request, accepts_events=True))
        try:
            yield stream
        except BaseException as raised:
            if not stream.has_all:
                _note(raised, _LEFT)
            raise
        finally:
            stream.close()


def _note(raised: BaseException, note: str) -> None:
    """Add a note about paid work to the exception that interrupts it, and have ``interrupted`` find it."""
    raised.add_note(note)
    if not isinstance(raised, errors.ApimartError) and interrupted(raised) is None:
        mark(raised)


async def _send(api: Api, request: ImageRequest, *, accepts_events: bool) -> Answer:
    return await api.request(
        "POST",
        request.path,
        kind=Kind.PAID_WRITE,
        body=request.body,
        timeout=request.arguments.timeout,
        extra_headers=request.arguments.extra_headers,
        accepts_events=accepts_events,
    )


def _complete(request: ImageRequest, error: errors.APIError, answer: Answer) -> errors.APIError:
    error.method, error.url = "POST", bare_url(answer.base_url + request.path)
    error.request_id = answer.request_id or error.request_id
    error.task_id = error.task_id or parsing.submitted_task_id(answer.payload)
    return error


class _ImageStream:
    """The events of one answer, each read when it is asked for."""

    def __init__(self, request: ImageRequest, answer: Answer) -> None:
        self._request = request
        self._n = request.arguments.n
        self._answer = answer
        self._is_read = False
        self._events: deque[ImageEvent] = deque()
        self._images: list[Image] = []
        self._partial_images: list[Image] = []
        self._unreadable: errors.APIError | None = None
        self._has_ended = False

    @property
    def has_all(self) -> bool:
        """Return whether everything that was asked for has arrived, or an error was raised."""
        return self._has_ended or len(self._images) >= self._n

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ImageEvent:
        while not self._events:
            if self._has_ended:
                raise StopAsyncIteration
            try:
                await self._receive()
            except asyncio.CancelledError:
                self._disconnect()  # the event that was being read is lost: an error comes instead of it
                raise
        event = self._events.popleft()
        if len(self._images) >= self._n + image_parsing.SURPLUS_IMAGES:
            log.warning("The stream has more than %d images instead of %d.", len(self._images), self._n)
            self._has_ended = True
            raise StopAsyncIteration
        is_completed = isinstance(event, CompletedImageEvent)
        found = self._images if is_completed else self._partial_images
        image = self._resolved(event.image, len(self._images) + 1)
        if len(found) < image_parsing.MOST_IMAGES:
            found.append(image)
        return attrs.evolve(event, image=image)

    async def _receive(self) -> None:
        outcome = await self._next()
        unreadable: errors.APIError | None = None
        if isinstance(outcome, Answer):
            try:
                self._events += await file_threads.run(
                    image_parsing.read_image_events, outcome.payload, self._n
                )
            except errors.APIResponseValidationError as error:
                unreadable = error
        elif outcome is not None and isinstance(outcome.error, errors.APIResponseValidationError):
            unreadable = outcome.error
        else:
            self._end(outcome)
        # Such as a sign of life that is no event: images may follow.
        self._unreadable = unreadable or self._unreadable

    def _end(self, failure: FailedAttempt | None) -> None:
        self._has_ended = True
        if failure is None:
            if self._images and (self._unreadable is None or len(self._images) >= self._n):
                _tell_fewer(self._request, self._answer, len(self._images))
                return
            error = self._unreadable or not_understood("image", None)
            raise self._indeterminate(error) from error
        if len(self._images) >= self._n:
            log.info("POST %s: the stream broke behind its last image.", failure.error.url)
            return
        if failure.effect in _NOT_EXECUTED and not (self._images or self._partial_images):
            raise failure.error
        raise self._indeterminate(failure.error) from failure.error

    async def _next(self) -> Answer | FailedAttempt | None:
        stream = self._answer.payload
        if isinstance(stream, EventStream):
            return await stream.read()
        # The service does not stream: all images come at once.
        is_read, self._is_read = self._is_read, True
        return None if is_read else self._answer

    def _resolved(self, image: Image, index: int) -> Image:
        image = attrs.evolve(image, index=index)
        if image.url.startswith("data:"):
            return image
        one = ImageSet(datetime.now(UTC), (image,))
        return parsing.resolved(one, self._answer.base_url).images[0]

    def _indeterminate(self, error: errors.APIError) -> errors.SubmissionIndeterminateError:
        raised = indeterminate(_complete(self._request, error, self._answer))
        raised.images, raised.partial_images = tuple(self._images), tuple(self._partial_images)
        return raised

    def close(self) -> None:
        """Close the connection if more is to come."""
        if self._images:
            _tell(self._request, self._answer, len(self._images))
        if not self.has_all:
            log.warning("POST %s: %s", bare_url(self._answer.base_url + self._request.path), _LEFT)
        self._disconnect()

    def _disconnect(self) -> None:
        if isinstance(self._answer.payload, EventStream):
            self._answer.payload.close()
