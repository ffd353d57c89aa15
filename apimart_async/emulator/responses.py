"""JSON responses and the documented error bodies of both services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal

from aiohttp import web
from attrs import frozen

ErrorVariant = Literal["plain", "empty-code", "slug", "inside-200", "openai"]

ERROR_VARIANTS: Final[tuple[ErrorVariant, ...]] = ("plain", "empty-code", "slug", "inside-200")
"""The variants of APIMart's error bodies, the documented one first; AppleRouter's are OpenAI's."""

_ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "payment_required",
    403: "permission_error",
    409: "conflict_error",
    429: "rate_limit_error",
    500: "server_error",
    502: "bad_gateway",
    503: "service_unavailable",
}


@frozen(kw_only=True)
class ServiceError(Exception):
    """An error response of the service.

    Attributes:
        status: The HTTP status.
        message: `error.message`.
        code: `error.code`; the status when None.
        type: `error.type`; the usual type of the status when None.
        headers: Headers of the response.
        param: The wrong field, which only AppleRouter's errors name.
    """

    status: int
    message: str
    code: int | str | None = None
    type: str | None = None
    headers: Mapping[str, str] | None = None
    param: str | None = None

    def response(self, variant: ErrorVariant = "plain") -> web.Response:
        """Return the response in one of the variants."""
        status = self.status
        code = status if self.code is None else self.code
        kind = self.type or _ERROR_TYPES.get(status, "invalid_request_error")
        error: dict[str, Any] = {"code": code, "message": self.message, "type": kind}
        body: dict[str, Any] = {"error": error}
        if variant == "openai":
            error |= {"code": self.code, "param": self.param}
        elif variant == "empty-code":
            error["code"] = ""
        elif variant == "slug":
            error["code"] = self.code or kind
        elif variant == "inside-200" and status == HTTPStatus.BAD_REQUEST:
            status, body = 200, {"code": 400, "error": error}
        return json_response(body, status=status, headers=self.headers)


def bad_request(message: str) -> ServiceError:
    """Return APIMart's error for a malformed request."""
    return ServiceError(status=400, message=message)


def not_found(message: str) -> ServiceError:
    """Return the error for a path, task or file that does not exist."""
    return ServiceError(status=404, message=message, type="invalid_request_error")


def too_large(size: int, limit: int) -> ServiceError:
    """Return the error for an image with too many bytes."""
    message = f"file size {size} exceeds maximum {limit} bytes"
    return ServiceError(status=413, type="invalid_request_error", message=message)


def unsupported_image(kind: str) -> ServiceError:
    """Return the error for a file of a type that is not accepted."""
    return bad_request(f"unsupported image type: {kind}, allowed: jpeg, png, gif, webp")


def json_response(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return `body` as a JSON response."""
    return json_bytes(json.dumps(body, ensure_ascii=False).encode(), status=status, headers=headers)


def json_bytes(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return encoded JSON as a response."""
    return web.Response(
        body=body, status=status, headers=headers, content_type="application/json", charset="utf-8"
    )
