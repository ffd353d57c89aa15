"""Tolerant reader of the schema of a model: a part of JSON Schema, reduced to parameters.

A rule that cannot be read, or that is more than a parameter expresses, is left out: the service decides then.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from apimart_async.models import Idempotency, ModelSchema, Parameter
from apimart_async.transport.json import is_mapping, is_sequence, not_understood, number, text, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_LONGEST_DEFINITION: Final = 64
_MOST_CHOICES: Final = 1000
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_PATH_START: Final = "/v1/"


def read_schema(payload: object) -> ModelSchema:
    """Read the schema of a model.

    Args:
        payload: Decoded JSON.

    Raises:
        APIResponseValidationError: It names no model or has no parameters.
    """
    top = _mapping(payload)
    source = top if "input_schema" in top else _mapping(top.get("data"))
    model, schema = text(source.get("model")), source.get("input_schema")
    if model is None or not is_mapping(schema):
        raise not_understood("schema of a model", payload)
    root = _resolved(schema, schema)
    parts = [root, *_parts(root, schema, ("allOf", *_ALTERNATIVES))]
    parameters = {
        name: _parameter(described, schema)
        for part in reversed(parts)
        for name, described in _mapping(part.get("properties")).items()
    }
    if not parameters:
        raise not_understood("schema of a model", payload)
    needed = [root, *_parts(root, schema, ("allOf",))]
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


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference inside the document; without a target, return ``{}``, which allows all."""
    for _ in range(_LONGEST_DEFINITION):
        reference = schema.get("$ref")
        if reference is None:
            return schema
        if not isinstance(reference, str) or not reference.startswith("#"):
            return {}
        found: object = root
        for name in reference.removeprefix("#").split("/")[1:]:
            found = _mapping(found).get(name.replace("~1", "/").replace("~0", "~"))
        schema = _mapping(found)
    return {}


def _parts(
    schema: Mapping[str, Any], root: Mapping[str, Any], words: Iterable[str]
) -> list[Mapping[str, Any]]:
    found = [entry for word in words for entry in _entries(schema.get(word))]
    return [_resolved(entry, root) for entry in found]


def _entries(value: object) -> list[dict[str, Any]]:
    return [entry for entry in value if is_mapping(entry)] if is_sequence(value) else []


def _is_open(schema: Mapping[str, Any]) -> bool:
    additional = schema.get("additionalProperties")
    return additional is True or is_mapping(additional) or "patternProperties" in schema


def _parameter(described: object, root: Mapping[str, Any]) -> Parameter:
    """Reduce the schema of a parameter; of alternatives, only the rules that all of them have."""
    schema = _resolved(_mapping(described), root)
    explained = Parameter(default=schema.get("default"), description=text(schema.get("description")))
    alternatives = _parts(schema, root, _ALTERNATIVES)
    if alternatives:
        branches = [_parameter(branch, root) for branch in alternatives]
        choices = None if any(branch.choices is None for branch in branches) else _union(branches, "choices")
        types = () if any(not branch.types for branch in branches) else _union(branches, "types")
        return attrs.evolve(explained, types=types, choices=choices)
    if "allOf" in schema or "not" in schema or "if" in schema:
        return explained
    names = _texts(schema.get("type")) or _texts([schema.get("type")])
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


def _union(branches: Iterable[Parameter], name: str) -> tuple[Any, ...]:
    found: list[Any] = []
    for branch in branches:
        found += [value for value in getattr(branch, name) if value not in found]
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
