"""Pure: a request held against the schema of its model, before money is spent on it."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from apimart_async.errors import InvalidArgumentError, visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from apimart_async.models import ModelSchema, Parameter

_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
    "null": (type(None),),
}
_SHOWN: Final = 60
_MOST_SHOWN: Final = 40
_SWITCH: Final = 'With check="off" or APIMART_CHECK=off, the service decides.'


def check_fields(schema: ModelSchema, fields: Mapping[str, Any]) -> None:
    """Check the fields of a request.

    A text that differs from an allowed one in case only, ``None``, and a single image (``n=1``) are left to
    the service.

    Raises:
        InvalidArgumentError: The model has no such parameter, or not with this value, or needs another; it
            names the parameter, the value and the values that are allowed.
    """
    for name, value in fields.items():
        if name == "model" or value is None:
            continue
        parameter = schema.parameters.get(name)
        if parameter is not None:
            allowed = _violation(parameter, value)
            if allowed is not None:
                raise _refusal(f"{name} must be {allowed} for {schema.model}, not {_shown(value)}.")
        elif not schema.is_open and not (name == "n" and value == 1):
            raise _refusal(_unknown(schema, name, value))
    missing = [name for name in schema.required if name not in fields]
    if missing:
        raise _refusal(f"{schema.model} needs the parameter {missing[0]}.")


def _refusal(text: str) -> InvalidArgumentError:
    return InvalidArgumentError(visible(f"{text} {_SWITCH}"))


def _unknown(schema: ModelSchema, name: str, value: object) -> str:
    names = sorted(schema.parameters)
    similar = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {similar[0]}? It takes " if similar else "it takes "
    return f"{schema.model} has no parameter {name} ({_shown(value)}): {hint}{_listed(names)}."


def _violation(parameter: Parameter, value: object) -> str | None:
    """Return the values that are allowed, in words, if this is none of them."""
    if parameter.types and not any(_has_type(value, name) for name in parameter.types):
        return " or ".join(map(_article, parameter.types))
    if parameter.choices is not None and not any(_is_same(value, choice) for choice in parameter.choices):
        return f"one of {_listed([_shown(choice) for choice in parameter.choices])}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _outside(value, parameter.minimum, parameter.maximum, "a number")
    if isinstance(value, (list, tuple)):
        return _outside(
            len(value),  # pyright: ignore[reportUnknownArgumentType]
            parameter.min_items,
            parameter.max_items,
            "a list whose length is",
        )
    if isinstance(value, str):
        return _outside(len(value), None, parameter.max_length, "a text whose length is")
    return None


def _has_type(value: object, name: str) -> bool:
    if name not in _TYPES:
        return True
    if isinstance(value, bool):
        return name == "boolean"
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name])


def _is_same(value: object, choice: object) -> bool:
    if isinstance(value, str) and isinstance(choice, str):
        return value.casefold() == choice.casefold()
    return value == choice and isinstance(value, bool) == isinstance(choice, bool)


def _outside(value: float, low: float | None, high: float | None, subject: str) -> str | None:
    if (low is None or value >= low) and (high is None or value <= high):
        return None
    if low is None or high is None:
        return f"{subject} of at most {high:g}" if low is None else f"{subject} of at least {low:g}"
    return f"{subject} from {low:g} to {high:g}"


def _article(name: str) -> str:
    return f"an {name}" if name[:1] in "aio" else f"a {name}"


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    return ", ".join(names[:_MOST_SHOWN]) + more


def _shown(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"  # pyright: ignore[reportUnknownArgumentType] of images, of megabytes
    text = repr(value[: 2 * _SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
