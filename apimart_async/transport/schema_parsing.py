"""Tolerant reader of the schema of a model: a part of JSON Schema, reduced to parameters.

A rule that cannot be read, or that is more than a parameter expresses, is left out: the service decides then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from apimart_async.errors import APIResponseValidationError
from apimart_async.models import Idempotency, ModelSchema, Parameter
from apimart_async.transport.json import is_mapping, is_sequence, not_understood, number, text, whole

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST_DEFINITION: Final = 64
_LONGEST_REFERENCE: Final = 1000
_DEEPEST: Final = 16
_MOST_PARTS: Final = 5000
_MOST_CHOICES: Final = 1000
_MOST_TYPES: Final = 16
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_PATH_START: Final = "/v1/"


def read_schema(payload: object) -> ModelSchema:
    """Read the schema of a model.

    Args:
        payload: Decoded JSON.

    Raises:
        APIResponseValidationError: It names no model, has no parameters or has more than 5,000 parts.
    """
    top = _mapping(payload)
    source = top if "input_schema" in top else _mapping(top.get("data"))
    model, schema = text(source.get("model")), source.get("input_schema")
    if model is None or not is_mapping(schema):
        raise not_understood("schema of a model", payload)
    document = _Document(schema)
    root = document.resolved(schema)
    parts = [root, *document.parts(root, ("allOf", *_ALTERNATIVES))]
    parameters = {
        name: _parameter(described, document)
        for part in reversed(parts)
        for name, described in _mapping(part.get("properties")).items()
    }
    if not parameters:
        raise not_understood("schema of a model", payload)
    needed = [root, *document.parts(root, ("allOf",))]
    endpoint, contract = _mapping(source.get("endpoint")), _mapping(source.get("response_contract"))
    path = text(endpoint.get("path"))
    return ModelSchema(
        model=model,
        operation=text(source.get("operation")),
        method=(text(endpoint.get("method")) or "POST").upper(),
        path=path if path is not None and path.startswith(_PATH_START) else None,
        parameters=parameters,
        required=tuple(dict.fromkeys(name for part in needed for name in _texts(part.get("required")))),
        is_open=any(_is_open(part) for part in parts),
        idempotency=_idempotency(source.get("idempotency")),
        response_version=text(contract.get("version")),
        schema_version=text(source.get("schema_version")),
        raw=source,
    )


def _mapping(value: object) -> dict[str, Any]:
    return value if is_mapping(value) else {}


def _texts(value: object) -> list[str]:
    return [entry for entry in value if isinstance(entry, str)] if is_sequence(value) else []


@attrs.define
class _Document:
    """A schema whose parts are read, and the number of those that were.

    References may repeat a part without end, or as often as two to the power of their number.
    """

    root: Mapping[str, Any]
    _read: int = 0

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """Follow a reference inside the document; without a target, return ``{}``, which allows all.

        Raises:
            APIResponseValidationError: Too many parts were read.
        """
        self._read += 1
        if self._read > _MOST_PARTS:
            message = f"The schema of a model has more than {_MOST_PARTS} parts; it is not read."
            raise APIResponseValidationError(message)
        for _ in range(_LONGEST_DEFINITION):
            reference = schema.get("$ref")
            if reference is None:
                return schema
            if not isinstance(reference, str) or not reference.startswith("#"):
                return {}
            found: object = self.root
            for name in reference[1:_LONGEST_REFERENCE].split("/")[1:]:
                found = _mapping(found).get(name.replace("~1", "/").replace("~0", "~"))
            schema = _mapping(found)
        return {}

    def parts(self, schema: Mapping[str, Any], words: Iterable[str]) -> list[Mapping[str, Any]]:
        """Return the schemas that a schema is made of."""
        found = [entry for word in words for entry in _entries(schema.get(word))]
        return [self.resolved(entry) for entry in found]


def _entries(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if is_mapping(entry)] if is_sequence(value) else []


def _is_open(schema: Mapping[str, Any]) -> bool:
    additional = schema.get("additionalProperties")
    return additional is True or is_mapping(additional) or "patternProperties" in schema


def _parameter(described: object, document: _Document, depth: int = 0) -> Parameter:
    """Reduce the schema of a parameter; of alternatives, only the rules that all of them have."""
    schema = document.resolved(_mapping(described))
    explained = Parameter(default=schema.get("default"), description=text(schema.get("description")))
    if depth == _DEEPEST:
        return explained
    alternatives = document.parts(schema, _ALTERNATIVES)
    if alternatives:
        branches = [_parameter(branch, document, depth + 1) for branch in alternatives]
        choices = _union([branch.choices for branch in branches], _MOST_CHOICES)
        types = _union([branch.types or None for branch in branches], _MOST_TYPES) or ()
        return attrs.evolve(explained, types=types, choices=choices)
    if "allOf" in schema or "not" in schema or "if" in schema:
        return explained
    names = _texts(schema.get("type")) or _texts([schema.get("type")])
    if len(names) > _MOST_TYPES:
        names = []
    if schema.get("nullable") is True and names:
        names.append("null")
    return attrs.evolve(
        explained,
        types=tuple(names),
        choices=_choices(schema),
        minimum=_bound(schema, "minimum", "exclusiveMinimum", math.inf),
        maximum=_bound(schema, "maximum", "exclusiveMaximum", -math.inf),
        min_items=whole(schema.get("minItems")),
        max_items=whole(schema.get("maxItems")),
        max_length=whole(schema.get("maxLength")),
    )


def _union(branches: Iterable[tuple[Any, ...] | None], most: int) -> tuple[Any, ...] | None:
    """Return the values of all branches; ``None``, for any value, if a branch has none or there are many."""
    found: list[Any] = []
    for branch in branches:
        if branch is None:
            return None
        found += [value for value in branch if value not in found]
        if len(found) > most:
            return None
    return tuple(found)


def _choices(schema: Mapping[str, Any]) -> tuple[Any, ...] | None:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not is_sequence(values) or not 1 <= len(values) <= _MOST_CHOICES:
        return None
    is_plain = all(value is None or isinstance(value, (str, int, float)) for value in values)
    return tuple(values) if is_plain else None


def _bound(schema: Mapping[str, Any], inclusive: str, exclusive: str, inwards: float) -> float | None:
    """Return the last number allowed on one side: of whole numbers, the one next to an exclusive bound."""
    limit, excluded = number(schema.get(inclusive)), schema.get(exclusive)
    if isinstance(excluded, bool) or excluded is None:
        is_excluded = excluded is True  # as in draft 4
    else:
        limit, is_excluded = number(excluded), True
    if limit is None or not is_excluded:
        return limit
    if schema.get("type") == "integer" and limit.is_integer():
        return limit + math.copysign(1.0, inwards)
    return math.nextafter(limit, inwards)


def _idempotency(said: object) -> Idempotency | None:
    source = _mapping(said)
    header = text(source.get("header"))
    if header is None:
        return None
    retention = number(source.get("retention_seconds"))
    return Idempotency(
        header=header,
        replay_header=text(source.get("replay_header")),
        retention_seconds=retention if retention is not None and retention > 0 else None,
        scope=text(source.get("scope")),
    )
