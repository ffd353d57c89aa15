"""Status and headers of the answers to API requests, recorded for a block of code."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.arguments import is_whole
from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_MOST: Final = 1000


@attrs.frozen
class Response:
    """The HTTP answer to one attempt of an API request.

    Attributes:
        method: HTTP method of the request.
        url: URL of the request, without credentials and query.
        status: HTTP status.
        headers: Headers of the answer, by names in any case, without the API key. They may hold cookies, so
            the ``repr`` omits them.
        request_id: Id of the request at the service, if the headers have one.
    """

    method: str
    url: str
    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    request_id: str | None = None


RECORDERS: Final[ContextVar[tuple[deque[Response], ...]]] = ContextVar("apimart_async recorders", default=())


@contextmanager
def record_responses(limit: int = _MOST) -> Generator[Sequence[Response]]:
    """Record the answers to the API requests that the block makes, retries and polls included.

    It works for every method of both clients and of their blocking twins, and in tasks that the block starts;
    other tasks and threads are not recorded. A poll that several waits share is recorded for one of them.
    Downloads from file hosts are not recorded.

    Args:
        limit: Number of answers that are kept, the last ones; 1 or more, default 1000.

    Returns:
        A context manager whose value is the growing sequence of the answers; it stays valid after the block.

    Raises:
        InvalidArgumentError: On entering, the limit is not a whole number of 1 or more.

    .. versionadded:: 0.1
    """
    if not is_whole(limit) or limit < 1:
        raise InvalidArgumentError(f"limit must be a whole number of 1 or more, not {limit!r}.")
    responses: deque[Response] = deque(maxlen=limit)
    token = RECORDERS.set((*RECORDERS.get(), responses))
    try:
        yield responses
    finally:
        RECORDERS.reset(token)
