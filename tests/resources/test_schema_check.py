"""Schemas of models: read from JSON Schema, and compared with requests."""

from __future__ import annotations

from typing import Any

import pytest

from apimart_async import APIResponseValidationError, InvalidArgumentError, Parameter
from apimart_async.resources.schemas import check_fields
from apimart_async.transport.schema_parsing import read_schema


def schema(properties: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"model": "painter", "input_schema": {"type": "object", "properties": properties, **others}}


REFUSED: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (
        {"size": {}, "n": {}},
        {"sise": "1:1"},
        "painter has no parameter sise ('1:1'): did you mean size? It takes n, size.",
    ),
    (
        {"size": {"enum": ["1:1", "16:9"]}},
        {"size": "17:9"},
        "size must be one of '1:1', '16:9' for painter, not '17:9'.",
    ),
    (
        {"n": {"type": "integer", "minimum": 1, "maximum": 4}},
        {"n": 5},
        "n must be a number from 1 to 4 for painter, not 5.",
    ),
    (
        {"n": {"type": "integer", "exclusiveMaximum": 4}},
        {"n": 4},
        "n must be a number of at most 3 for painter, not 4.",
    ),
    (
        {"strength": {"type": "number", "minimum": 0.5}},
        {"strength": 0.4},
        "a number of at least 0.5 for painter, not 0.4.",
    ),
    ({"n": {"type": "integer"}}, {"n": "2"}, "n must be an integer for painter, not '2'."),
    ({"n": {"type": "integer"}}, {"n": True}, "n must be an integer for painter, not True."),
    ({"n": {"type": "integer"}}, {"n": 1.5}, "n must be an integer for painter, not 1.5."),
    ({"hd": {"type": "boolean"}}, {"hd": 1}, "hd must be a boolean for painter, not 1."),
    (
        {"seed": {"type": ["integer", "null"]}},
        {"seed": "x"},
        "seed must be an integer or a null for painter, not 'x'.",
    ),
    (
        {"prompt": {"type": "string", "maxLength": 3}},
        {"prompt": "long"},
        "a text whose length is of at most 3",
    ),
    (
        {"image_urls": {"type": "array", "maxItems": 1}},
        {"image_urls": ["a", "b"]},
        "a list whose length is of at most 1",
    ),
    ({"mode": {"const": "fast"}}, {"mode": "slow"}, "mode must be one of 'fast' for painter, not 'slow'."),
    (
        {"mode": {"anyOf": [{"enum": ["a"]}, {"enum": ["b"]}]}},
        {"mode": "c"},
        "mode must be one of 'a', 'b' for painter",
    ),
]


@pytest.mark.parametrize(("properties", "fields", "words"), REFUSED)
def test_error_names_parameter_value_and_allowed_values(
    properties: dict[str, Any], fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check_fields(read_schema(schema(properties)), fields)
    assert words in str(caught.value)
    assert 'check="off"' in str(caught.value)


def test_missing_parameter_is_named() -> None:
    described = read_schema(schema({"image_urls": {}}, required=["model", "image_urls"]))
    with pytest.raises(InvalidArgumentError, match="painter needs the parameter image_urls"):
        check_fields(described, {"model": "painter"})


ACCEPTED: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"size": {"enum": ["1K"]}}, {}, {"size": "1k"}),
    ({"n": {"type": "integer"}}, {}, {"n": 2.0}),
    ({"size": {"type": "string"}}, {}, {"size": None}),
    ({"size": {}}, {}, {"n": 1}),
    ({"size": {}}, {"additionalProperties": True}, {"seed": 7}),
    ({"size": {}}, {"additionalProperties": {"type": "integer"}}, {"seed": 7}),
    ({"size": {}}, {"patternProperties": {"^x-": {}}}, {"x-seed": 7}),
    ({"size": {"anyOf": [{"enum": ["auto"]}, {"type": "string"}]}}, {}, {"size": "640x480"}),
    ({"size": {"$ref": "#/$defs/size"}}, {"$defs": {"size": {"enum": ["1:1"]}}}, {"size": "1:1"}),
    ({"size": {"$ref": "https://other.example/size"}}, {}, {"size": 7}),
    ({"size": {"$ref": "#/properties/size"}}, {}, {"size": 7}),
    ({"size": {"type": "string", "nullable": True}}, {}, {"size": None}),
    ({"size": {"type": "picture"}}, {}, {"size": 7}),
    ({"size": {"allOf": [{"enum": ["1:1"]}]}}, {}, {"size": 7}),
    ({"size": True}, {}, {"size": 7}),
    ({"prompt": {}}, {"anyOf": [{"properties": {"messages": {"type": "array"}}}]}, {"messages": []}),
    ({"prompt": {}}, {"anyOf": [{"required": ["prompt"]}, {"required": ["messages"]}]}, {"prompt": "x"}),
]


@pytest.mark.parametrize(("properties", "others", "fields"), ACCEPTED)
def test_service_decides_where_the_schema_is_not_plain(
    properties: dict[str, Any], others: dict[str, Any], fields: dict[str, Any]
) -> None:
    check_fields(read_schema(schema(properties, **others)), {"model": "anything"} | fields)


def test_parameters_are_reduced_to_their_rules() -> None:
    described = schema(
        {"n": {"type": "integer", "minimum": 1, "maximum": 4, "default": 1, "description": "How many"}}
    )
    assert read_schema({"code": 200, "data": described}).parameters == {
        "n": Parameter(types=("integer",), minimum=1, maximum=4, default=1, description="How many")
    }


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"model": "painter"},
        {"input_schema": {"properties": {"n": {}}}},
        schema({}),
        {"data": 1},
    ],
)
def test_answer_without_model_or_parameters_is_not_a_schema(answer: Any) -> None:
    with pytest.raises(APIResponseValidationError, match="schema of a model"):
        read_schema(answer)


@pytest.mark.parametrize("path", [None, 7, "https://evil.example/v1/images", "//evil.example/v1", "images"])
def test_endpoint_elsewhere_is_not_kept(path: Any) -> None:
    assert read_schema(schema({"n": {}}) | {"endpoint": {"path": path}}).path is None


@pytest.mark.parametrize("promise", [None, True, {}, {"header": None}, {"retention_seconds": 60}])
def test_promise_without_a_header_is_none(promise: Any) -> None:
    assert read_schema(schema({"n": {}}) | {"idempotency": promise}).idempotency is None
