"""The models that an emulator describes: their endpoints, their parameters and their promises."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

from attrs import field, frozen

EDITS: Final = "/v1/images/edits"
GENERATIONS: Final = "/v1/images/generations"

_TEXT: Final[dict[str, Any]] = {"type": "string"}
_URLS: Final[dict[str, Any]] = {"type": "array", "items": {"type": "string"}}


@frozen(kw_only=True)
class ModelSpec:
    """A model with a schema.

    Attributes:
        model: Its name.
        path: Its endpoint.
        parameters: JSON Schemas of its parameters, beside `model`, `prompt` and `n`.
        max_n: The largest `n`.
        is_open: Whether it takes parameters that the schema does not name.
        promises: Whether the schema promises that an idempotency key is executed once.
        keeps: Whether that is so: otherwise each request is executed, whatever its key.
        retention: For how many seconds the schema says that a key is remembered.
        response_version: The version of the answer that the schema recommends, if any.
    """

    model: str
    path: str = GENERATIONS
    parameters: Mapping[str, Any] = field(factory=dict[str, Any])
    max_n: int = 10
    is_open: bool = False
    promises: bool = False
    keeps: bool = True
    retention: int = 86_400
    response_version: str | None = None

    def schema(self, operation: str) -> dict[str, Any]:
        """Return the body of `GET /v1/model-schema`."""
        common = {
            "model": {"type": "string", "const": self.model},
            "prompt": _TEXT,
            "n": {"type": "integer", "minimum": 1, "maximum": self.max_n, "default": 1},
        }
        described: dict[str, Any] = {
            "model": self.model,
            "operation": operation,
            "object": "model.input_schema",
            "endpoint": {"method": "POST", "path": self.path},
            "input_schema": {
                "type": "object",
                "properties": common | dict(self.parameters),
                "required": ["model"],
                "anyOf": [{"required": ["prompt"]}, {"required": ["messages"]}],
                "additionalProperties": self.is_open,
            },
            "schema_version": "2026-09-01",
        }
        if self.promises:
            described["idempotency"] = {
                "header": "Idempotency-Key",
                "replay_header": "Idempotency-Replayed",
                "required": False,
                "retention_seconds": self.retention,
                "scope": "api_key_endpoint",
            }
        if self.response_version is not None:
            described["response_contract"] = {
                "header": "X-APIMart-Response-Version",
                "version": self.response_version,
            }
        return described


_REFERENCES: Final[dict[str, Any]] = {"image_urls": _URLS, "messages": {"type": "array"}}
_PICTURE: Final[dict[str, Any]] = _REFERENCES | {
    "size": _TEXT,
    "resolution": {"type": "string", "enum": ["1k", "2k", "4k"]},
    "quality": {"type": "string", "enum": ["auto", "low", "medium", "high"]},
    "output_format": {"type": "string", "enum": ["png", "jpeg", "webp"]},
    "background": {"type": "string", "enum": ["auto", "transparent", "opaque"]},
    "mask_url": _TEXT,
    "webhook": _TEXT,
    "language": _TEXT,
    "metadata": {"type": "object"},
}

DEFAULT_MODELS: Final = (
    ModelSpec(
        model="grok-imagine-1.0-edit-apimart", path=EDITS, parameters={"image_urls": _URLS}, is_open=True
    ),
    ModelSpec(
        model="grok-imagine-1.5-edit-apimart", path=EDITS, parameters={"image_urls": _URLS}, is_open=True
    ),
    ModelSpec(model="gemini-3-pro-image-preview", parameters=_PICTURE, is_open=True),
    ModelSpec(model="gpt-image-2", parameters=_PICTURE),
    ModelSpec(model="gpt-image-2.5-ext", parameters=_PICTURE, response_version="2026-07-27"),
    ModelSpec(model="gpt-image-2.5-flare", parameters=_PICTURE, promises=True),
    ModelSpec(model="seedream-5", parameters=_PICTURE, max_n=15),
    ModelSpec(model="grok-imagine-1.5-apimart", parameters=_PICTURE, promises=True),
    ModelSpec(
        model="grok-imagine-2.0-ext",
        parameters=_PICTURE
        | {
            "operation": {"type": "string", "enum": ["generate", "segment", "region_edit"]},
            "image_with_roles": {"type": "array", "items": {"type": "object"}},
        },
        max_n=12,
        promises=True,
        response_version="2026-07-27",
    ),
)
"""The models with a schema, unless an emulator is given others."""


def etag_of(body: Mapping[str, Any]) -> str:
    """Return the version of a body, as its header `ETag` has it."""
    return f'"{hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:32]}"'
