"""Server-sent events: an answer that arrives as a series of JSON objects, read one at a time."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import attrs

from apimart_async.credentials import Secret
from apimart_async.errors import APIConnectionError, APIError, DownloadError
from apimart_async.transport.concurrency import file_threads
from apimart_async.transport.exchange import Download
from apimart_async.transport.json import LARGE_BYTES, is_mapping
from apimart_async.transport.responses import EVENTS_END, Answer, FailedAttempt, Reply, read_response
from apimart_async.transport.retry import Effect, Kind

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ERROR: Final = "error"
_OK: Final = 200
_MOST_LINES: Final = 100_000
_MANY_LINES: Final = 1000


class Event(NamedTuple):
    """One event.

    Attributes:
        name: Value of its field ``event``; empty without one.
        data: Value of its field ``data``; its lines are joined.
    """

    name: str
    data: bytes


class EventParser:
    """Split a ``text/event-stream`` into events. The work grows with the bytes, not with their chunks."""

    def __init__(self) -> None:
        self._line: list[bytes] = []
        self._data: list[bytes] = []
        self._name = ""
        self._is_first = True
        self._ended_in_return = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that are complete with this chunk.

        Raises:
            APIError: An event has more than 100,000 lines.
        """
        if not chunk:
            return []
        if self._ended_in_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._ended_in_return = chunk.endswith(b"\r")
        first, *others = _LINE_END.split(chunk)
        self._line.append(first)
        found: list[Event] = []
        for each in others:
            line, self._line = b"".join(self._line), [each]
            found += self._take(line)
        return found

    def finish(self) -> list[Event]:
        """Return the event at the end of the body, which may lack its empty line."""
        line, self._line = b"".join(self._line), []
        return [*self._take(line), *self._take(b"")]

    def _take(self, line: bytes) -> list[Event]:
        if self._is_first:
            self._is_first = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            data, self._data = self._data, []
            name, self._name = self._name, ""
            return [Event(name, b"\n".join(data))] if data else []
        field, _, value = line.partition(b":")
        if field == b"data":
            if len(self._data) == _MOST_LINES:
                raise APIError(f"An event of the service has more than {_MOST_LINES} lines.")
            self._data.append(value.removeprefix(b" "))
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode(errors="replace")
        return []


@attrs.define(eq=False)
class EventStream:
    """The events of the answer to a paid request; the code that asked for it closes it.

    An answer that is announced as events and is one JSON object counts as one event.

    Args:
        body: Body of the answer.
        headers: Headers of the answer.
        url: URL of the request.
        key: Taken out of everything that is read.
        complete: Adds the facts about the request to an error.
    """

    _body: Download
    _headers: Mapping[str, str]
    _url: str
    _key: Secret
    _complete: Callable[[APIError], None]
    _parser: EventParser = attrs.field(factory=EventParser, init=False)
    _events: deque[Event] = attrs.field(factory=deque[Event], init=False)
    _plain: list[bytes] = attrs.field(factory=list[bytes], init=False)
    _has_begun: bool = attrs.field(default=False, init=False)
    _has_ended: bool = attrs.field(default=False, init=False)

    async def read(self) -> Answer | FailedAttempt | None:
        """Return the next event, an error in its place, or ``None`` at the end of the answer.

        Cancellation closes the connection.
        """
        while not self._events:
            if self._has_ended:
                return None
            try:
                await self._receive()
            except (APIError, DownloadError) as error:
                self._has_ended = True
                failure = error if isinstance(error, APIError) else APIConnectionError(error.message)
                self._complete(failure)
                return FailedAttempt(Effect.UNKNOWN, failure)
        event = self._events.popleft()
        if event.data.strip() == EVENTS_END:
            self._has_ended = True
            self._events.clear()
            return None
        if len(event.data) > LARGE_BYTES:
            outcome = await file_threads.run(self._decode, event)
        else:
            outcome = self._decode(event)
        if isinstance(outcome, FailedAttempt):
            self._complete(outcome.error)
        return outcome

    async def _receive(self) -> None:
        chunk = await self._body.read()
        if not self._has_begun:
            self._has_begun = True
            if chunk.lstrip()[:1] == b"{":
                self._plain.append(b"")
        if self._plain:
            self._plain.append(chunk)
        if not chunk:
            self._has_ended = True
            self._events += [Event("", b"".join(self._plain))] if self._plain else self._parser.finish()
        elif not self._plain:
            # The split of a flood of short lines takes long.
            if chunk.count(b"\n") + chunk.count(b"\r") > _MANY_LINES:
                self._events += await file_threads.run(self._parser.feed, chunk)
            else:
                self._events += self._parser.feed(chunk)

    def _decode(self, event: Event) -> Answer | FailedAttempt:
        outcome = self._judge(event.data)
        if not isinstance(outcome, Answer) or not is_mapping(outcome.payload):
            return outcome
        name = self._key.redact(event.name)
        payload = {"type": name, **outcome.payload} if name else outcome.payload
        if _ERROR in (name, payload.get("type")):
            return self._judge(b'{"error":' + event.data + b"}")
        return outcome._replace(payload=payload)

    def _judge(self, data: bytes) -> Answer | FailedAttempt:
        return read_response(Reply(_OK, self._headers, data), Kind.PAID_WRITE, self._url, self._key)

    def close(self) -> None:
        """Give the connection back, or close it if there is more to come; a second call does nothing."""
        self._body.close()
