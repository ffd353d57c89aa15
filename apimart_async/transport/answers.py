"""Pure: the body of an answer decoded: JSON, JSON among other bytes, an event stream, or an image itself."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

from apimart_async.errors import APIResponseValidationError
from apimart_async.transport import json
from apimart_async.transport.error_parsing import read_error
from apimart_async.transport.image_parsing import data_url
from apimart_async.transport.json import is_mapping
from apimart_async.transport.media import sniffing

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATA: Final = b"data:"
_DATA_OF_IMAGE: Final = b"data:image/"
_COMMENT: Final = ":"
_BLANK: Final = "\0 \t\r\n"
_UTF_16_MARKS: Final = (b"\xff\xfe", b"\xfe\xff")
_PARTIAL: Final = "partial_image"
_COMPLETED: Final = ".completed"


def decode(data: bytes, *, is_good: bool) -> Any:  # noqa: ANN401 JSON is anything
    """Decode the body of an answer.

    A good answer is read even if a gateway has damaged it, as the id of a paid task may be in it.

    Args:
        data: Body.
        is_good: Whether the HTTP status says success. Any other body has to be JSON or an event stream.

    Raises:
        APIResponseValidationError: It is none of the known forms.
    """
    try:
        payload = json.loads(data)
    except APIResponseValidationError:
        found = _from_events(data)
        if found is None and is_good:
            found = _from_image(data) or _first_value(data)
        if found is None:
            raise
        return found
    if isinstance(payload, str) and is_good:
        # Some gateways encode JSON twice, or send the base64 of an image alone.
        packed = payload.encode(errors="replace")
        return _from_image(packed) or _first_value(packed) or payload
    return payload


def _from_events(data: bytes) -> Any | None:  # noqa: ANN401 JSON is anything
    """Return the last event of an event stream, or the images of all its events as one result."""
    events = [event for event in _events(data) if _PARTIAL not in str(event.get("type"))]
    images = [event for event in events if _is_final_image(event)]
    if images:
        return {"created": images[-1].get("created_at"), "usage": images[-1].get("usage"), "data": images}
    return events[-1] if events else None


def _events(data: bytes) -> Iterator[dict[str, Any]]:
    lines: list[bytes] = []
    for line in (*data.splitlines(), b""):
        if line.startswith(_DATA):
            lines.append(line.removeprefix(_DATA))
        elif not line.strip() and lines:
            try:
                payload = json.loads(b"\n".join(lines))
            except APIResponseValidationError:
                payload = None  # such as [DONE]
            lines.clear()
            if is_mapping(payload):
                yield payload


def _is_final_image(event: dict[str, Any]) -> bool:
    return str(event.get("type")).endswith(_COMPLETED) and bool(event.get("b64_json") or event.get("url"))


def _from_image(data: bytes) -> Any | None:  # noqa: ANN401 JSON is anything
    """Return a result for a body that is the image itself, or its base64, as some services answer."""
    if sniffing.identify(data[: sniffing.HEAD_BYTES]).extension is not None:
        return {"data": [{"b64_json": base64.b64encode(data).decode()}]}
    text = data.strip()
    if text.startswith(_DATA) and not text.startswith(_DATA_OF_IMAGE):
        return None  # an event
    found = data_url(text.decode("ascii", "replace"))
    return None if found is None else {"data": [{"url": found}]}


def _first_value(data: bytes) -> Any | None:  # noqa: ANN401 JSON is anything
    """Return the JSON object or array at the beginning of a text, behind comments of an event stream.

    Texts in another encoding lose their characters, but ids are ASCII. HTML with JSON in it is not read: it
    would be mistaken for an answer of the service.
    """
    try:
        encoding = "utf-16" if data.startswith(_UTF_16_MARKS) else "utf-8-sig"
        text = data.decode(encoding, "replace").lstrip(_BLANK)
        while text.startswith(_COMMENT):
            text = text.partition("\n")[2].lstrip(_BLANK)
        if not text.startswith(("{", "[")):
            return None
        value, rest = json.first_value(text)
    except ValueError:
        return None
    # An error with another value behind it may be about an earlier attempt of a gateway.
    return None if rest.strip(_BLANK) and read_error(value) is not None else value
