"""The catalogue: the models of the service, their schemas and their documentation."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import anyio
import attrs

from apimart_async import errors
from apimart_async.models import ModelSchema
from apimart_async.transport import parsing
from apimart_async.transport.api import Api
from apimart_async.transport.retry import Kind
from apimart_async.transport.schema_parsing import read_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from apimart_async.models import Model

log: logging.Logger = logging.getLogger("apimart_async")

IMAGE_GENERATION: Final = "image_generation"
"""The operation of every paid image request."""

_PATH: Final = "/v1/model-schema"
_DOCS_PATH: Final = "/v1/model-docs"
_FRESH_SECONDS: Final = 3600.0
_FAILURE_SECONDS: Final = 300.0
_TIMEOUT: Final = 5.0
_MOST_SCHEMAS: Final = 512
_NOT_MODIFIED: Final = 304
# Answers that mean that there is no such schema, or no such endpoint.
_ABSENT: Final = frozenset({400, 404, 405, 410, 422, 501})


@attrs.define(eq=False)
class _Entry:
    """The last answer about one schema.

    Attributes:
        schema: ``None`` if the service has none.
        etag: Version of the answer.
        expires_at: Moment from which the service is asked again.
        is_known: Whether the service has answered.
        lock: Held by the request for it.
    """

    schema: ModelSchema | None = None
    etag: str | None = None
    expires_at: float = 0.0
    is_known: bool = False
    lock: anyio.Lock = attrs.field(factory=anyio.Lock)

    @property
    def is_fresh(self) -> bool:
        return monotonic() < self.expires_at


class SchemaCache:
    """The schemas that a client and its copies have fetched; at most 512 are kept."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, str], _Entry] = {}

    def entry(self, model: str, operation: str) -> _Entry:
        """Return the entry of a schema, a new one if there is none."""
        key = (model, operation)
        entry = self._entries.pop(key, None) or _Entry()
        if len(self._entries) >= _MOST_SCHEMAS:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry
        return entry


class AsyncModels:
    """The models of the service and the requests they take. Free."""

    def __init__(self, api: Api, cache: SchemaCache) -> None:
        self._api = api
        self._cache = cache

    async def list(self, *, timeout: float | None = None) -> Sequence[Model]:
        """Fetch the models of the service.

        Args:
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The models; their ``id`` is the value for ``model=``.

        Raises:
            APIError: The request failed after all retries.
        """
        answer = await self._api.request("GET", "/v1/models", kind=Kind.READ, timeout=timeout)
        return parsing.read_models(answer.payload)

    async def schema(
        self, model: str, operation: str | None = None, *, timeout: float | None = None
    ) -> ModelSchema | None:
        """Return the schema of a model: its endpoint, its parameters and its promises.

        The client and its copies keep the answer for an hour, also that there is no schema, and then ask the
        service whether it has changed. Calls at the same time share one request.

        Args:
            model: Name of the model.
            operation: One of several operations of the model; its image generation by default.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The schema; ``None`` if the service has none for this model.

        Raises:
            InvalidArgumentError: The name is empty.
            APIError: The request failed after all retries.

        Cancellation leaves nothing behind; another call that waits for the same schema sends its own request.
        """
        if not model.strip():
            raise errors.InvalidArgumentError(f"model must be a text that is not empty, not {model!r}.")
        entry = self._cache.entry(model, operation or IMAGE_GENERATION)
        if not (entry.is_fresh and entry.is_known):
            async with entry.lock:
                if not (entry.is_fresh and entry.is_known):
                    await self._fetch(self._api, entry, model, operation, timeout)
        return entry.schema

    async def docs(self, model: str, *, timeout: float | None = None) -> Mapping[str, Any] | None:
        """Fetch the documentation of a model.

        Args:
            model: Name of the model.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The JSON object of the service, unchanged; ``None`` if the service has no documentation of it.

        Raises:
            InvalidArgumentError: The name is empty.
            APIError: The request failed after all retries.
        """
        if not model.strip():
            raise errors.InvalidArgumentError(f"model must be a text that is not empty, not {model!r}.")
        path = f"{_DOCS_PATH}?{urlencode({'model': model})}"
        try:
            answer = await self._api.request("GET", path, kind=Kind.READ, timeout=timeout)
        except errors.APIStatusError as error:
            if error.status in _ABSENT:
                return None
            raise
        return parsing.read_object(answer.payload, "documentation of a model")

    async def _known_schema(self, model: str) -> ModelSchema | None:
        """Return the schema of a model for a paid request; ``None`` if it is not known.

        It raises no error and takes at most 5 s: the request goes on without a schema. A failure is
        remembered for 5 minutes, in which the schema of an earlier answer stays in use.
        """
        entry = self._cache.entry(model, IMAGE_GENERATION)
        if not entry.is_fresh:
            async with entry.lock:
                if not entry.is_fresh:
                    await self._try_fetch(entry, model)
        return entry.schema

    async def _try_fetch(self, entry: _Entry, model: str) -> None:
        # One attempt: the paid request waits for it.
        api = Api(attrs.evolve(self._api.settings, max_retries=0), self._api.session, self._api.rate_limiter)
        reason = "no answer within 5 s"
        with anyio.move_on_after(_TIMEOUT):
            try:
                await self._fetch(api, entry, model, None, _TIMEOUT)
            except errors.ApimartError as error:
                reason = str(error)
            else:
                return
        entry.expires_at = monotonic() + _FAILURE_SECONDS
        log.info("The schema of %s was not fetched: %s", errors.visible(model), errors.visible(reason))

    async def _fetch(
        self, api: Api, entry: _Entry, model: str, operation: str | None, timeout: float | None
    ) -> None:
        query = urlencode({"model": model, "operation": operation or IMAGE_GENERATION})
        headers = {"If-None-Match": entry.etag} if entry.etag else None
        try:
            answer = await api.request(
                "GET", f"{_PATH}?{query}", kind=Kind.READ, timeout=timeout, extra_headers=headers
            )
        except errors.APIStatusError as error:
            if error.status in _ABSENT:
                entry.schema = entry.etag = None
            elif error.status != _NOT_MODIFIED or headers is None:
                raise
        else:
            schema = read_schema(answer.payload)
            # A schema of another model would refuse good requests and allow dangerous ones.
            is_asked = schema.model.casefold() == model.casefold() and (
                operation is None or operation == schema.operation
            )
            entry.schema, entry.etag = (schema, answer.etag) if is_asked else (None, None)
        entry.is_known = True
        entry.expires_at = monotonic() + _FRESH_SECONDS
