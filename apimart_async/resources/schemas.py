"""The schemas of models: fetched once per client, held against paid requests, asked about their promises."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import anyio
import attrs

from apimart_async import errors
from apimart_async.models import ModelSchema
from apimart_async.transport.paid_requests import Repeats, Trust
from apimart_async.transport.retry import Kind
from apimart_async.transport.schema_check import check_fields
from apimart_async.transport.schema_parsing import read_schema

if TYPE_CHECKING:
    from apimart_async.transport.api import Api

log: logging.Logger = logging.getLogger("apimart_async")

IMAGE_GENERATION: Final = "image_generation"
"""The operation of the schemas that are fetched before paid requests."""

_PATH: Final = "/v1/model-schema"
_FRESH_SECONDS: Final = 3600.0
_FAILURE_SECONDS: Final = 300.0
# A promise is relied on for as long after the last answer about it.
_PROMISE_SECONDS: Final = 2 * _FRESH_SECONDS
_TIMEOUT: Final = 5.0
_MOST_SCHEMAS: Final = 512
_MOST_LOST: Final = 64
_NOT_MODIFIED: Final = 304
ABSENT: Final = frozenset({400, 404, 405, 410, 422, 501})
"""Answers that mean that there is no such schema, or no such endpoint."""


@attrs.define(eq=False)
class _Entry:
    """The last answer about one schema.

    Attributes:
        schema: ``None`` if the service has none.
        etag: Version of the answer.
        answered_at: Moment of the last answer; ``None`` if there was none.
        expires_at: Moment from which the service is asked again.
        lock: Held by the request for it.
    """

    schema: ModelSchema | None = None
    etag: str | None = None
    answered_at: float | None = None
    expires_at: float = 0.0
    lock: anyio.Lock = attrs.field(factory=anyio.Lock)

    @property
    def is_fresh(self) -> bool:
        return monotonic() < self.expires_at

    @property
    def is_known(self) -> bool:
        return self.answered_at is not None


@attrs.frozen
class LostRequest:
    """A paid request that may have been executed, and whose answer was lost.

    Attributes:
        path: Endpoint.
        payload: Fields of the request.
        headers: Additional headers, as they were sent.
        repeats: Its repeats, which know the time of the first attempt.
        base_url: Base URL at which it may have been executed.
    """

    path: str
    payload: Mapping[str, Any]
    headers: Mapping[str, str] | None
    repeats: Repeats
    base_url: str | None


class LostRequests:
    """The last paid requests without an answer, by idempotency key; at most 64."""

    def __init__(self) -> None:
        self._requests: dict[str, LostRequest] = {}

    def keep(self, key: str, request: LostRequest) -> None:
        """Keep a request."""
        self._requests.pop(key, None)
        if len(self._requests) >= _MOST_LOST:
            del self._requests[next(iter(self._requests))]
        self._requests[key] = request

    def get(self, key: str) -> LostRequest | None:
        """Return a request."""
        return self._requests.get(key)

    def forget(self, key: str) -> None:
        """Remove a request that was answered."""
        self._requests.pop(key, None)


class CatalogueCache:
    """Facts of the catalogue that a client and its copies share: at most 512 schemas, and prices.

    Attributes:
        lost: Paid requests without an answer.
        prices: USD per image, by model.
        prices_expire_at: Moment from which they are fetched again.
        prices_lock: Held by the request for them.
    """

    def __init__(self) -> None:
        self.lost: LostRequests = LostRequests()
        self.prices: Mapping[str, float] = {}
        self.prices_expire_at: float = 0.0
        self.prices_lock: anyio.Lock = anyio.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}
        self._trusts: dict[str, Trust] = {}

    def entry(self, model: str, operation: str) -> _Entry:
        """Return the entry of a schema, a new one if there is none."""
        key = (model, operation)
        entry = self._entries.pop(key, None) or _Entry()
        if len(self._entries) >= _MOST_SCHEMAS:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry
        return entry

    def trust(self, model: str) -> Trust:
        """Return how promises were kept for a model."""
        return self._trusts.setdefault(model.casefold(), Trust())


class Schemas:
    """The schemas as one client fetches them.

    Args:
        api: Of the client.
        cache: Shared with the copies of the client.
    """

    def __init__(self, api: Api, cache: CatalogueCache) -> None:
        self._api = api
        self._cache = cache

    @property
    def lost(self) -> LostRequests:
        """Return the paid requests of the client without an answer."""
        return self._cache.lost

    async def get(self, model: str, operation: str | None, timeout: float | None) -> ModelSchema | None:
        """Return the schema of a model; ``None`` if the service has none.

        Raises:
            APIError: The request failed after all retries.
        """
        entry = self._cache.entry(model, operation or IMAGE_GENERATION)
        if not (entry.is_fresh and entry.is_known):
            async with entry.lock:
                if not (entry.is_fresh and entry.is_known):
                    await self._fetch(self._api, entry, model, operation, timeout)
        return entry.schema

    async def path(self, model: str) -> str | None:
        """Return the path that the schema of a model names; ``None`` if it is not known."""
        if self._api.settings.check == "off":
            return None
        schema = (await self._known(model)).schema
        return None if schema is None or schema.path is None else schema.path.rstrip("/")

    async def check(self, path: str, fields: Mapping[str, Any]) -> ModelSchema | None:
        """Hold a paid request against the schema of its model, if there is one and the client checks.

        Args:
            path: Endpoint of the request.
            fields: The request; only the number of its image URLs counts.

        Returns:
            The schema; ``None`` if it is not known or not for this request.

        Raises:
            InvalidArgumentError: The model does not take the request.
        """
        if self._api.settings.check == "off":
            return None
        schema = _for_request((await self._known(fields.get("model"))).schema, path, fields)
        if schema is not None:
            check_fields(schema, fields)
        return schema

    def repeats(self, path: str, fields: Mapping[str, Any]) -> Repeats:
        """Return the repeats of a paid request, which need the promise of the schema."""
        model = str(fields.get("model"))
        return Repeats(model, self._cache.trust(model), partial(self._retention, path, fields))

    async def _retention(self, path: str, fields: Mapping[str, Any]) -> float | None:
        """Return for how many seconds the service promises to remember the key of a paid request."""
        entry = await self._known(fields.get("model"))
        schema = _for_request(entry.schema, path, fields)
        if schema is None or schema.path is None or schema.idempotency is None or entry.answered_at is None:
            return None
        promise = schema.idempotency
        is_checkable = (promise.header.lower(), (promise.replay_header or "").lower()) == (
            "idempotency-key",
            "idempotency-replayed",
        )
        is_current = monotonic() - entry.answered_at <= _PROMISE_SECONDS
        return promise.retention_seconds if is_checkable and is_current else None

    async def _known(self, model: object) -> _Entry:
        """Return the entry of a model for a paid request.

        It raises no error of the service and takes 5 s at most: the request goes on without a schema. A
        failure is remembered for 5 minutes, in which the schema of an earlier answer stays in use.
        """
        if not isinstance(model, str):
            return _Entry()
        entry = self._cache.entry(model, IMAGE_GENERATION)
        if not entry.is_fresh:
            async with entry.lock:
                if not entry.is_fresh:
                    await self._try_fetch(entry, model)
        return entry

    async def _try_fetch(self, entry: _Entry, model: str) -> None:
        from apimart_async.transport.api import Api

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
            if error.status in ABSENT:
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
        entry.answered_at = monotonic()
        entry.expires_at = entry.answered_at + _FRESH_SECONDS


def _for_request(schema: ModelSchema | None, path: str, fields: Mapping[str, Any]) -> ModelSchema | None:
    """Return a schema if it is for a request: for its endpoint, and for its operation if it names one."""
    if schema is None or (schema.path or path).rstrip("/") != path or schema.method != "POST":
        return None
    return None if "operation" in fields and "operation" not in schema.parameters else schema
