"""The types of arguments, by name: an argument of one name has one type in all public methods."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast, runtime_checkable

from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    import attrs

_Kind: TypeAlias = tuple[str, tuple[Any, ...], tuple[type, ...]]
"""The name of a kind of argument, its types, and the types among these that are not of the kind."""


def is_number(value: object) -> bool:
    """Tell whether a value is an integer or a float, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(value: object) -> bool:
    """Tell whether a value is an integer, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool)


@runtime_checkable
class _Event(Protocol):
    def is_set(self) -> bool: ...


_TEXT: Final[_Kind] = ("a text", (str,), ())
_WHOLE: Final[_Kind] = ("a whole number", (int,), (bool,))
_SECONDS: Final[_Kind] = ("a number of seconds", (int, float), (bool,))
_FLAG: Final[_Kind] = ("True or False", (bool,), ())
_PATH: Final[_Kind] = ("a path", (str, os.PathLike), ())
_MAPPING: Final[_Kind] = ("a mapping such as a dict", (Mapping,), ())
_FUNCTION: Final[_Kind] = ("a function", (Callable,), ())
_ITERABLE: Final = (Iterable, AsyncIterable)

_REQUIRED: Final[Mapping[str, _Kind]] = {
    **dict.fromkeys(("model", "name"), _TEXT),
    **dict.fromkeys(("inline", "fsync", "allow_http", "retry_failed", "retry_missing"), _FLAG),
    **dict.fromkeys(("directory", "output"), _PATH),
    "jobs": ("an iterable of Job", _ITERABLE, (str, Mapping)),
    "max_retry_after": _SECONDS,
    "request": _MAPPING,
    "tasks": ("an iterable of tasks or of their ids", _ITERABLE, (str, Mapping)),
}
_OPTIONAL: Final[Mapping[str, _Kind]] = {
    **dict.fromkeys(("background", "filename", "idempotency_key", "input_fidelity", "language"), _TEXT),
    **dict.fromkeys(("moderation", "operation", "output_format", "quality", "resolution"), _TEXT),
    **dict.fromkeys(("path", "response_format", "safety_identifier", "size", "user", "webhook"), _TEXT),
    **dict.fromkeys(("n", "output_compression", "partial_images"), _WHOLE),
    **dict.fromkeys(("extra_body", "extra_headers"), _MAPPING),
    **dict.fromkeys(("on_job", "on_progress", "on_update", "template"), _FUNCTION),
    "max_cost": ("a number of USD", (int, float), (bool,)),
    "notified": ("an event", (_Event,), ()),
    "timeout": _SECONDS,
}


def check_types(**arguments: object) -> None:
    """Check the types of arguments by their names; only those of ``_OPTIONAL`` may be ``None``.

    Raises:
        InvalidArgumentError: An argument has another type; the message names the argument and its type, but
            not its value, which may be a secret.
    """
    for name, value in arguments.items():
        kind = _OPTIONAL.get(name)
        if kind is None:
            kind = _REQUIRED[name]
        elif value is None:
            continue
        words, types, others = kind
        if not isinstance(value, types) or isinstance(value, others):
            raise wrong_type(name, words, value)
        if kind is _FUNCTION:
            check_not_async(name, value)


def check_not_async(name: str, function: object) -> None:
    """Check that a function is not async: a call of it would only create a coroutine.

    Raises:
        InvalidArgumentError: The function is async.
    """
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise InvalidArgumentError(
            f"{name} must be a plain function, not an async one, which would not be awaited; "
            "asyncio.create_task and queues can be used in it."
        )


def wrong_type(name: str, expected: str, value: object) -> InvalidArgumentError:
    """Return the error for an argument of another type."""
    found = "None" if value is None else type(value).__name__
    return InvalidArgumentError(f"{name} must be {expected}, not {found}.")


# --- validators of attrs, which name the attribute ----------------------------------------------------------


def positive(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    """Check that an attribute is a number above 0."""
    _check_number(instance, attribute, value)
    if not value > 0:
        message = f"{type(instance).__name__}.{attribute.name} must be more than 0, not {value!r}."
        raise InvalidArgumentError(message)


def not_negative(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    """Check that an attribute is a number, 0 or more."""
    _check_number(instance, attribute, value)
    if not value >= 0:
        message = f"{type(instance).__name__}.{attribute.name} must be 0 or more, not {value!r}."
        raise InvalidArgumentError(message)


def _check_number(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    is_whole_only = str(attribute.type) == "int"
    if not (is_whole if is_whole_only else is_number)(value):
        name = f"{type(instance).__name__}.{attribute.name}".removeprefix("Settings.")
        raise wrong_type(name, "a whole number" if is_whole_only else "a number", value)


def flag(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check that an attribute is a truth value."""
    if not isinstance(value, bool):
        raise wrong_type(f"{type(instance).__name__}.{attribute.name}", "True or False", value)


def choice(*choices: str) -> Callable[[object, attrs.Attribute[Any], object], None]:
    """Return the check that an attribute is one of some texts."""

    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in choices:
            name = f"{type(instance).__name__}.{attribute.name}"
            raise InvalidArgumentError(
                f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}."
            )

    return check


def optional_plain_function(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check that an attribute is a function that is not async, or ``None``."""
    optional_function(instance, attribute, value)
    check_not_async(f"{type(instance).__name__}.{attribute.name}", value)


def optional_function(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """Check that an attribute is a function, or ``None``."""
    if not (value is None or callable(value)):
        raise wrong_type(f"{type(instance).__name__}.{attribute.name}", "a function", value)


def texts(value: object) -> tuple[str, ...] | None:
    """Return one text or several texts as a tuple; ``None`` for other values."""
    if isinstance(value, str):
        return (value,)
    given = tuple(cast("Iterable[object]", value)) if isinstance(value, Iterable) else (None,)
    return cast("tuple[str, ...]", given) if all(isinstance(each, str) for each in given) else None
