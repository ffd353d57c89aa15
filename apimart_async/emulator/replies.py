"""Answers as the services word them: JSON, and the documented error bodies."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final, Literal

from aiohttp import web
from attrs import frozen

ErrorShape = Literal["plain", "empty-code", "slug", "inside-200", "openai"]

ERROR_SHAPES: Final[tuple[ErrorShape, ...]] = ("plain", "empty-code", "slug", "inside-200")
"""The shapes of APIMart's errors, the documented one first; AppleRouter's have OpenAI's."""

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
class Refusal(Exception):  # noqa: N818 - it is the service's answer, not a fault of the program
    """A request is answered with an error.

    Attributes:
        status: The HTTP status.
        message: The sentence in the body.
        code: `error.code`; the status when absent.
        type: `error.type`; what the status usually carries when absent.
        headers: Headers of the answer.
        param: The offending field, which only AppleRouter's answers name.
    """

    status: int
    message: str
    code: int | str | None = None
    type: str | None = None
    headers: Mapping[str, str] | None = None
    param: str | None = None

    @property
    def kind(self) -> str:
        """What `error.type` says."""
        return self.type or _ERROR_TYPES.get(self.status, "invalid_request_error")

    def response(self, shape: ErrorShape = "plain") -> web.Response:
        """Return the answer in one of the shapes errors come in."""
        status = self.status
        code = self.status if self.code is None else self.code
        body: dict[str, Any] = {"error": {"code": code, "message": self.message, "type": self.kind}}
        if shape == "openai":
            error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
            body = {"error": error}
        elif shape == "empty-code":
            body["error"]["code"] = ""
        elif shape == "slug":
            body["error"]["code"] = self.code or self.kind
        elif shape == "inside-200" and status == HTTPStatus.BAD_REQUEST:
            status, body = 200, {"code": 400, **body}
        return json_response(body, status=status, headers=self.headers)


def bad_request(message: str) -> Refusal:
    """Return APIMart's answer to a malformed request."""
    return Refusal(status=400, message=message)


def not_found(message: str) -> Refusal:
    """Return the answer for what does not exist."""
    return Refusal(status=404, message=message, type="invalid_request_error")


def json_response(
    body: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Return `body` as a JSON answer."""
    return web.Response(
        body=json.dumps(body, ensure_ascii=False).encode(),
        status=status,
        headers=headers,
        content_type="application/json",
        charset="utf-8",
    )


def too_large(size: int, limit: int) -> Refusal:
    """Return the answer to a picture with too many bytes."""
    message = f"file size {size} exceeds maximum {limit} bytes"
    return Refusal(status=413, type="invalid_request_error", message=message)


def unsupported_image(kind: str) -> Refusal:
    """Return the answer to a file that is no accepted picture."""
    return bad_request(f"unsupported image type: {kind}, allowed: jpeg, png, gif, webp")
