"""JSON responses and the documented error bodies of both services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal, get_args

from aiohttp import web
from attrs import frozen

ErrorVariant = Literal[
    "plain",
    "empty-code",
    "slug",
    "inside-200",
    "nested",
    "numeric",
    "id-in-message",
    "id-in-body",
    "event-stream",
    "page",
    "openai",
]

ERROR_VARIANTS: Final[tuple[ErrorVariant, ...]] = get_args(ErrorVariant)[:-1]
"""The variants of APIMart's error bodies, the documented one first; AppleRouter's are OpenAI's."""

_PAGE: Final = f"<html><body>{'<p>no</p>' * 2_200}</body></html>"
"""A page of 20 kB, as a gateway may put it into an error."""

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

    def response(self, variant: ErrorVariant = "plain", request_id: str = "") -> web.Response:
        """Return the response in one of the variants.

        Args:
            variant: The form of the body.
            request_id: Identifier of the request: in the variants "id-in-message" and "id-in-body", the body
                has it instead of a header.
        """
        status = self.status
        code = status if self.code is None else self.code
        kind = self.type or _ERROR_TYPES.get(status, "invalid_request_error")
        error: dict[str, Any] = {"code": code, "message": self.message, "type": kind}
        wrapped: dict[ErrorVariant, dict[str, Any]] = {
            "openai": {"error": error | {"code": self.code, "param": self.param}},
            "empty-code": {"error": error | {"code": ""}},
            "slug": {"error": error | {"code": self.code or kind}},
            "nested": {"error": {"error": error}},
            "id-in-message": {"error": error | {"message": f"{self.message} (request id: {request_id})"}},
            "id-in-body": {"error": error, "request_id": request_id},
            "page": {"error": error | {"message": f"{self.message} {_PAGE}"}},
        }
        body = wrapped.get(variant, {"error": error})
        if variant == "inside-200" and status == HTTPStatus.BAD_REQUEST:
            status, body = 200, {"code": 400, "error": error}
        elif variant == "numeric" and status == HTTPStatus.PAYMENT_REQUIRED:
            status, body = 200, {"code": 605, "message": "NOT_ENOUGH_BALANCE"}
        elif variant == "numeric" and isinstance(self.code, str):
            error |= {"code": status, "message": f"{self.code}: {self.message}"}
        response = json_response(body, status=status, headers=self.headers)
        if variant == "event-stream":
            response.content_type = "text/event-stream"
        return response


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
