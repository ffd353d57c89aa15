"""JSON text, the scalars in it, and the one cattrs converter between plain data and models.

Optional fields that cannot be read become ``None``: a paid answer is never thrown away over a detail.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard, TypeVar

import attrs
from cattrs import Converter
from cattrs.errors import BaseValidationError
from cattrs.fns import identity
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from apimart_async.errors import APIResponseValidationError, InvalidArgumentError
from apimart_async.models import (
    Balance,
    Image,
    ImageSet,
    Model,
    Task,
    TaskFailure,
    TokenDetails,
    Upload,
    Usage,
)

try:
    import orjson
except ImportError:  # it comes with the extra "speed"
    orjson = None  # type: ignore[assignment]

_MILLISECONDS_FROM: Final = 100_000_000_000
_LAST_YEAR: Final = 9000
_EXCERPT: Final = 200

LARGE_BYTES: Final = 256 * 1024
"""Size from which a document is decoded in a thread: there may be 100,000 values in fewer bytes."""

_LONG_TEXT: Final = 64 * 1024
# The most besides long texts: a hundred tasks in one answer need a tenth of it. A decoder keeps the
# interpreter's lock for 50 ms at most, and the values take some tens of megabytes.
_MOST_BYTES: Final = 16 * 1024 * 1024
_MOST_VALUES: Final = 250_000
_WINDOW_BYTES: Final = 256 * 1024
_MAX_TEXTS: Final = 100_000
_MAX_GAP: Final = 100
_HALVES: Final = re.compile(
    r"\\\\|\\u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|\\(?P<lone>u[dD][89a-fA-F][\da-fA-F]{2})"
)
# Those of encoders: of PHP, of MIME, and of .NET.
_ESCAPES_IN_BASE64: Final = (
    *((b"\\/", b"/"), (b"\\n", b"\n"), (b"\\r", b"\r")),
    *((b"\\u002B", b"+"), (b"\\u002b", b"+"), (b"\\u002F", b"/"), (b"\\u002f", b"/")),
    *((b"\\u003D", b"="), (b"\\u003d", b"=")),
)

Model_ = TypeVar("Model_")


# --- JSON -------------------------------------------------------------------------------------------------


class TooManyValuesError(APIResponseValidationError):
    """A document has more parts than any answer needs; it is not decoded."""


def _read_constant(_: str) -> None:
    """Read ``NaN`` and ``Infinity``, which are no JSON but in some answers, as an unknown number."""


_standard_decode: Final = json.JSONDecoder(parse_constant=_read_constant).decode
_tolerant_decode: Final = json.JSONDecoder(parse_constant=_read_constant, strict=False).raw_decode
_encode: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_encode_anything: Final = json.JSONEncoder(separators=(",", ":"), default=repr).encode


def loads(data: bytes) -> Any:  # noqa: ANN401 JSON is anything
    """Decode JSON.

    Raises:
        TooManyValuesError: It has more values, or more bytes besides long texts, than any answer needs.
        APIResponseValidationError: It is not JSON, or nested too deeply to read.
    """
    if len(data) > LARGE_BYTES:
        return _loads_large(data)
    return _loads(data)


def _loads(data: bytes) -> Any:  # noqa: ANN401 JSON is anything
    # A finished task takes 1 µs instead of 4. The standard library reads documents that orjson refuses, such
    # as one with a lone surrogate: the result is the same with and without orjson.
    if orjson is not None:
        try:
            return orjson.loads(data)
        except orjson.JSONDecodeError:
            pass
    return _loads_slowly(data)


def _loads_slowly(data: bytes) -> Any:  # noqa: ANN401 JSON is anything
    try:
        return _standard_decode(_with_whole_pairs(data.decode("utf-8-sig")))
    except (ValueError, RecursionError) as error:
        excerpt = data[:_EXCERPT].decode("utf-8", "replace")
        content = "an empty body" if not data.strip() else "something that is not JSON"
        message = f"The service answered with {content}."
        raise APIResponseValidationError(message, excerpt=excerpt) from error


def first_value(text: str) -> tuple[Any, str]:
    """Decode the JSON value that a text begins with, control characters in its texts included.

    Returns:
        The value, and the rest of the text.

    Raises:
        TooManyValuesError: It has more values than any answer needs.
        ValueError: The text does not begin with a value, or the value is nested too deeply to read.
    """
    whole = _with_whole_pairs(text)
    _check_count(whole, ",", "[", "{")
    try:
        value, end = _tolerant_decode(whole)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return value, whole[end:]


def _with_whole_pairs(text: str) -> str:
    """Escape halves of surrogate pairs: they could be neither sent nor stored, and an id would be lost."""
    if "\\ud" not in text and "\\uD" not in text:
        return text
    _check_count(text, "\\ud", "\\uD", "\\\\")
    return _HALVES.sub(lambda found: f"\\\\{found['lone']}" if found["lone"] else found[0], text)


def _loads_large(data: bytes) -> Any:  # noqa: ANN401 JSON is anything
    """Decode a large document, whose long texts, such as images in base64, are taken out first.

    A decoder keeps the interpreter's lock from the beginning of a document to its end: for 75 MB, every other
    thread, and so the event loop, stands still for 200 ms. Here, none of the steps takes more than some ms of
    an honest answer, and the rest is bounded.
    """
    mark = os.urandom(8).hex()
    texts: dict[str, str] = {}
    parts: list[bytes] = []
    copied = position = 0
    for _ in range(_MAX_TEXTS):
        start = _find_quote(data, position)
        end = _find_quote(data, start + 1) if start >= 0 else -1
        if end < 0:
            break
        position = end + 1
        if end - start > _LONG_TEXT and not data[position : position + _MAX_GAP].lstrip().startswith(b":"):
            name = f"{mark} {len(texts)}"
            texts[name] = _read_text(data[start + 1 : end])
            parts += [data[copied:start], f'"{name}"'.encode()]
            copied = position
    parts.append(data[copied:])
    rest = b"".join(parts)
    _check_count(rest, b",", b"[", b"{")
    if len(rest) > _MOST_BYTES:
        message = (
            f"The service's answer is not read: it has more than {_MOST_BYTES} bytes besides its long texts."
        )
        raise TooManyValuesError(message, excerpt=rest[:_EXCERPT].decode("utf-8", "replace"))
    return _put_back(_loads(rest), texts)


def _check_count(data: bytes | str, *marks: bytes | str) -> None:
    """Bound the values of a document by the characters that come before each but the first.

    Those within texts are counted too.

    Raises:
        TooManyValuesError: It may have more than any answer needs.
    """
    count = 0
    for start in range(0, len(data), _WINDOW_BYTES):  # in pieces, so that other threads run
        for mark in marks:
            count += data.count(mark, start, start + _WINDOW_BYTES)  # type: ignore[arg-type]
        if count > _MOST_VALUES:
            excerpt = data[:_EXCERPT]
            message = f"The service's answer is not read: it has more than {_MOST_VALUES} values or escapes."
            raise TooManyValuesError(
                message, excerpt=excerpt if isinstance(excerpt, str) else excerpt.decode("utf-8", "replace")
            )


def _find_quote(data: bytes, position: int) -> int:
    """Return the place of the next quotation mark without a backslash before it; -1 for none."""
    while position < len(data):
        place = data.find(b'"', position, position + _WINDOW_BYTES)
        if place < 0:
            position += _WINDOW_BYTES
            continue
        if _count_backslashes(data, place) % 2 == 0:
            return place
        position = place + 1
    return -1


def _count_backslashes(data: bytes, end: int) -> int:
    """Return the number of backslashes directly before a place."""
    window = 16
    while True:
        piece = data[max(0, end - window) : end]
        count = len(piece) - len(piece.rstrip(b"\\"))
        if count < len(piece) or window > end:
            return count
        window *= 16


def _read_text(literal: bytes) -> str:
    """Decode a JSON text without its quotation marks."""
    if b"\\" in literal and b"\\\\" not in literal:
        for escape, character in _ESCAPES_IN_BASE64:
            literal = literal.replace(escape, character)
    if b"\\" in literal:
        return str(_loads(b'"%s"' % literal))
    return literal.decode("utf-8", "replace")


def _put_back(document: Any, texts: Mapping[str, str]) -> Any:  # noqa: ANN401 JSON is anything
    containers: list[Any] = []

    def visit(value: Any) -> Any:  # noqa: ANN401 as above
        if isinstance(value, str):
            return texts.get(value, value)
        containers.append(value)
        return value

    found = visit(document)
    while containers:
        container = containers.pop()
        if is_mapping(container):
            container.update({name: visit(value) for name, value in container.items()})
        elif is_sequence(container):
            container[:] = map(visit, container)
    return found


def dumps(payload: Mapping[str, Any]) -> bytes:
    """Encode a request.

    Raises:
        InvalidArgumentError: A value has no JSON form.
    """
    try:
        return _encode(payload).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The request cannot be written as JSON: {error}."
        raise InvalidArgumentError(message) from error


def dumps_anything(content: Mapping[str, Any]) -> str:
    """Encode data of any types: values without a JSON form by their ``repr``.

    Returns:
        ASCII, as not every database has Unicode.
    """
    # A row of a journal takes 1 µs instead of 7. The standard library writes the values that orjson refuses.
    if orjson is not None:
        with suppress(TypeError):
            refused = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
            data = orjson.dumps(content, option=refused | orjson.OPT_PASSTHROUGH_SUBCLASS)
            if data.isascii():
                return data.decode()
    return _encode_anything(content)


# --- scalars ----------------------------------------------------------------------------------------------


def is_mapping(value: object) -> TypeGuard[dict[str, Any]]:
    """Tell a JSON object from everything else."""
    return isinstance(value, dict)


def mapping(value: object) -> dict[str, Any]:
    """Return a JSON object, or an empty one for anything else."""
    # Asked here, not in `is_mapping`: it is asked ten times of each edit.
    return value if isinstance(value, dict) else {}  # pyright: ignore[reportUnknownVariableType]


def is_sequence(value: object) -> TypeGuard[list[Any]]:
    """Tell a JSON array from everything else."""
    return isinstance(value, list)


_EXACT: Final = 2**53


def number(value: object) -> float | None:
    """Read a finite number, or a text that is one."""
    if value is None:
        return None
    if type(value) is int and -_EXACT < value < _EXACT:
        return float(value)  # nearly every number is one of these
    if isinstance(value, str):
        value = value.strip().removesuffix("%")
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


def amount(value: object) -> float | None:
    """Read a number that is not negative: a negative cost would make room in a budget."""
    found = number(value)
    return None if found is None or found < 0 else found


def whole(value: object) -> int | None:
    """Read a finite number without its fraction."""
    found = number(value)
    return None if found is None else int(found)


def text(value: object) -> str | None:
    """Read a text that is not empty, or a number as one."""
    if value is None:
        return None
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def moment(value: object) -> datetime | None:
    """Read a time before the year 9000: unix seconds or milliseconds, or an ISO 8601 text."""
    if value is None or isinstance(value, datetime):
        return value
    seconds = number(value)
    try:
        if seconds is not None:
            if seconds <= 0:
                return None
            found = datetime.fromtimestamp(seconds / 1000 if seconds >= _MILLISECONDS_FROM else seconds, UTC)
        elif isinstance(value, str):
            found = datetime.fromisoformat(value)
            found = found if found.tzinfo else found.replace(tzinfo=UTC)
        else:
            return None
    except (ValueError, OverflowError, OSError):
        return None
    # So that hours can be added to it.
    return found if found.year < _LAST_YEAR else None


# --- the converter ----------------------------------------------------------------------------------------


def _required_text(value: object, _: object) -> str:
    if not isinstance(value, str) or not value:
        message = f"expected a text, got {type(value).__name__}"
        raise ValueError(message)
    return value


def _required_moment(value: object, _: object) -> datetime:
    found = moment(value)
    if found is None:
        message = "expected a time"
        raise ValueError(message)
    return found


def _make_converter() -> Converter:
    """Make the one converter: strict for the fields that a model needs, tolerant for the rest."""
    made = Converter(detailed_validation=False)  # 7 µs a task instead of 11
    made.register_structure_hook(str, _required_text)
    made.register_structure_hook(datetime, _required_moment)
    # Not as a text, which takes longer to write and to read.
    made.register_unstructure_hook(datetime, datetime.timestamp)
    scalars = {float | None, str | None, int | None, bool | None}
    made.register_unstructure_hook_func(
        lambda kind: kind in scalars, identity
    )  # a fifth of the time of a task
    made.register_structure_hook_func(lambda kind: kind == float | None, lambda value, _: number(value))
    made.register_structure_hook_func(lambda kind: kind == str | None, lambda value, _: text(value))
    made.register_structure_hook_func(lambda kind: kind == datetime | None, lambda value, _: moment(value))
    made.register_structure_hook_func(
        lambda kind: kind == Mapping[str, Any],
        lambda value, _: value if is_mapping(value) else {},
    )
    made.register_structure_hook_func(lambda kind: kind == int | None, lambda value, _: whole(value))
    for model in (Upload, Image, TaskFailure, TokenDetails, Usage, Task, ImageSet, Balance, Model):
        attrs.resolve_types(model, globals() | {"Mapping": Mapping, "datetime": datetime, "Any": Any})
        made.register_structure_hook(model, make_dict_structure_fn(model, made))
        hook = make_dict_unstructure_fn(model, made, _cattrs_omit_if_default=True, raw=override(omit=True))
        made.register_unstructure_hook(model, hook)
    return made


converter: Final = _make_converter()


def structure(data: Mapping[str, Any], kind: type[Model_], answer: object) -> Model_:
    """Make a model of plain data.

    Raises:
        APIResponseValidationError: A required field of the model is missing; the error shows the ``answer``.
    """
    try:
        return converter.structure(data, kind)
    except (BaseValidationError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise not_understood(kind.__name__.lower(), answer) from error


def not_understood(subject: str, answer: object) -> APIResponseValidationError:
    """Make the error that names the missing subject and shows the beginning of the answer."""
    try:
        excerpt = json.dumps(answer, ensure_ascii=True)[:_EXCERPT]
    except (TypeError, ValueError, RecursionError):
        excerpt = None
    return APIResponseValidationError(
        f"The service's answer holds no {subject} that can be read.", excerpt=excerpt
    )
