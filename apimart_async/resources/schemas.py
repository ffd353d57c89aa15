"""The schemas of models: fetched once per client, to check paid requests and know the promises."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode
from weakref import WeakValueDictionary

import anyio
import attrs

from apimart_async import errors
from apimart_async.models import ModelSchema, Parameter
from apimart_async.transport import observation
from apimart_async.transport.paid_requests import Repeats, Trust
from apimart_async.transport.retry import Kind
from apimart_async.transport.schema_parsing import read_schema

if TYPE_CHECKING:
    from apimart_async.config import KeyFunction
    from apimart_async.credentials import Secret
    from apimart_async.transport.api import Api

log: logging.Logger = logging.getLogger("apimart_async.resources")

IMAGE_GENERATION: Final = "image_generation"
"""The operation of the schemas that are fetched before paid requests."""

_PATH: Final = "/v1/model-schema"
_FRESH_SECONDS: Final = 3600.0
_FAILURE_SECONDS: Final = 300.0
# A promise is relied on for as long after the last answer about it.
_PROMISE_SECONDS: Final = 2 * _FRESH_SECONDS
_TIMEOUT: Final = 5.0
_MOST_SCHEMAS: Final = 512
_NOT_MODIFIED: Final = 304
ABSENT: Final = frozenset({400, 404, 405, 410, 422, 501})
"""Answers that mean that there is no such schema, or no such endpoint."""


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_SHOWN: Final = 60
_MOST_SHOWN: Final = 40
_SWITCH: Final = 'With check="off" or APIMART_CHECK=off, the service decides.'


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


class CatalogueCache:
    """Facts of the catalogue that a client and its copies share: at most 512 schemas, and prices.

    Attributes:
        lost: The last paid requests without an answer, by API key and idempotency key.
        trusts: How promises were kept, by model: of models with requests, and of those that were tested.
        known_trusts: Those that were tested.
        prices: USD per image, by model.
        prices_expire_at: Moment from which they are fetched again.
        prices_lock: Held by the request for them.
    """

    def __init__(self) -> None:
        self.lost: dict[tuple[Secret | KeyFunction, str], LostRequest] = {}
        # Programs may let their users choose the model: names alone must not use up memory.
        self.trusts: WeakValueDictionary[str, Trust] = WeakValueDictionary()
        self.known_trusts: set[Trust] = set()
        self.prices: Mapping[str, float] = {}
        self.prices_expire_at: float = 0.0
        self.prices_lock: anyio.Lock = anyio.Lock()
        self._entries: dict[tuple[str, str], _Entry] = {}

    def entry(self, model: str, operation: str) -> _Entry:
        """Return the entry of a schema, a new one if there is none."""
        key = (model, operation)
        entry = self._entries.pop(key, None) or _Entry()
        if len(self._entries) >= _MOST_SCHEMAS:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = entry
        return entry


class Schemas:
    """The schemas as one client fetches them.

    Args:
        api: API of the client.
        cache: Shared with the copies of the client.

    Attributes:
        lost: The last paid requests without an answer, by API key and idempotency key.
    """

    def __init__(self, api: Api, cache: CatalogueCache) -> None:
        self._api = api
        self._cache = cache
        self.lost: dict[tuple[Secret | KeyFunction, str], LostRequest] = cache.lost

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
        """Check a paid request against the schema of its model, if there is one and the client checks.

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
        trust = self._cache.trusts.setdefault(model.casefold(), Trust(self._cache.known_trusts))
        return Repeats(model, trust, partial(self._retention, path, fields))

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

        It raises no error of the service and takes 5 s at most: the request is then sent without a schema. A
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
        api = self._api.revised(max_retries=0)  # as the paid request waits for it
        seconds = min(_TIMEOUT, self._api.settings.timeout.total)
        reason = f"no answer within {seconds:g} s"
        with anyio.move_on_after(seconds):
            try:
                await self._fetch(api, entry, model, None, seconds)
            except errors.ApimartError as error:
                reason = observation.named(error)
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


# --- a request checked against a schema -----------------------------------------------------------------


def check_fields(schema: ModelSchema, fields: Mapping[str, Any]) -> None:
    """Check the fields of a request.

    A text that differs from an allowed one in case only, ``None``, and a single image (``n=1``) are left to
    the service.

    Raises:
        InvalidArgumentError: The model has no such parameter, or not with this value, or needs another; it
            names the parameter, the value and the values that are allowed.
    """
    for name, value in fields.items():
        if name == "model" or value is None:
            continue
        parameter = schema.parameters.get(name)
        if parameter is not None:
            allowed = _violation(parameter, value)
            if allowed is not None:
                raise _refusal(f"{name} must be {allowed} for {schema.model}, not {_shown(value)}.")
        elif not schema.is_open and not (name == "n" and value == 1):
            raise _refusal(_unknown(schema, name, value))
    missing = [name for name in schema.required if name not in fields]
    if missing:
        raise _refusal(f"{schema.model} needs the parameter {missing[0]}.")


def _refusal(text: str) -> errors.InvalidArgumentError:
    return errors.InvalidArgumentError(errors.visible(f"{text} {_SWITCH}"))


def _unknown(schema: ModelSchema, name: str, value: object) -> str:
    names = sorted(schema.parameters)
    similar = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {similar[0]}? It takes " if similar else "it takes "
    return f"{schema.model} has no parameter {name} ({_shown(value)}): {hint}{_listed(names)}."


def _violation(parameter: Parameter, value: object) -> str | None:
    """Return the values that are allowed, in words, if this is none of them."""
    if parameter.types and not any(_has_type(value, name) for name in parameter.types):
        return " or ".join(map(_article, parameter.types))
    if parameter.choices is not None and not any(_is_same(value, choice) for choice in parameter.choices):
        return f"one of {_listed([_shown(choice) for choice in parameter.choices])}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _outside(value, parameter.minimum, parameter.maximum, "a number")
    if isinstance(value, (list, tuple)):
        return _outside(
            len(value),  # pyright: ignore[reportUnknownArgumentType]
            parameter.min_items,
            parameter.max_items,
            "a list whose length is",
        )
    if isinstance(value, str):
        return _outside(len(value), None, parameter.max_length, "a text whose length is")
    return None


def _has_type(value: object, name: str) -> bool:
    if name not in _TYPES:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _is_same(value: object, choice: object) -> bool:
    if isinstance(value, str) and isinstance(choice, str):
        return value.casefold() == choice.casefold()
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)


def _outside(value: float, low: float | None, high: float | None, subject: str) -> str | None:
    if (low is None or value >= low) and (high is None or value <= high):
        return None
    if low is None or high is None:
        return f"{subject} of at most {high:g}" if low is None else f"{subject} of at least {low:g}"
    return f"{subject} from {low:g} to {high:g}"


def _article(name: str) -> str:
    return f"an {name}" if name[:1] in "aio" else f"a {name}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"  # pyright: ignore[reportUnknownArgumentType] of images, of megabytes
    text = repr(value[: 2 * _SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
