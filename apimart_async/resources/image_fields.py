"""The fields of requests to OpenAI-compatible services: their checks, in JSON and in forms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

import attrs

from apimart_async import errors
from apimart_async.arguments import check_types
from apimart_async.resources import submission

OutputFormat: TypeAlias = Literal["png", "jpeg", "webp", "gif", "svg"]
Background: TypeAlias = Literal["transparent", "opaque", "auto"]
Moderation: TypeAlias = Literal["low", "auto"]
Value: TypeAlias = str | int | None

JSON_EDITS_PATH: Final = "/v1/images/edits"

_UNNAMED: Final = "the model of the service"
_RANGES: Final = {"output_compression": range(101), "partial_images": range(4)}
_QWEN_PARAMETERS: Final = frozenset({"n", "size"})


@attrs.frozen
class Arguments:
    """The arguments that every request has."""

    prompt: str
    model: str | None
    n: int
    timeout: float | None
    extra_body: Mapping[str, Any] | None
    extra_headers: Mapping[str, str] | None


def check(arguments: Arguments, options: Mapping[str, Value]) -> dict[str, Value]:
    """Check arguments and options, and return the options that are not ``None``.

    Raises:
        InvalidArgumentError: An argument or an option is invalid.
    """
    model, extra_body = arguments.model, arguments.extra_body
    submission.check_request(
        arguments.prompt,
        _UNNAMED if model is None else model,
        arguments.n,
        extra_body=extra_body,
        extra_headers=arguments.extra_headers,
        timeout=arguments.timeout,
    )
    check_types(**{name: value for name, value in options.items() if name != "stream"})
    for name, allowed in _RANGES.items():
        value = options.get(name)
        if value is not None and (type(value) is not int or value not in allowed):
            raise errors.InvalidArgumentError(
                f"{name} must be a whole number from 0 to {allowed[-1]}, not {value!r}."
            )
    if "stream" in (extra_body or {}):
        raise errors.InvalidArgumentError("extra_body cannot hold stream: call the method stream() instead.")
    return {name: value for name, value in options.items() if value is not None}


def text_of(value: Value) -> str | None:
    """Return a value that is sent as a text."""
    return None if value is None else str(value)


def form_fields(arguments: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the fields of a form; those of nested objects are named ``outer[inner]``.

    Raises:
        InvalidArgumentError: A value has no form as text.
    """
    return [field for name, value in arguments.items() for field in _fields(name, value)]


def _fields(name: str, value: object) -> Iterator[tuple[str, str]]:
    if value is None:
        return
    if isinstance(value, bool):
        yield name, "true" if value else "false"
    elif isinstance(value, (str, int, float)):
        yield name, str(value)
    elif isinstance(value, Mapping):
        for inner, each in value.items():  # pyright: ignore[reportUnknownVariableType]
            yield from _fields(f"{name}[{inner}]", each)  # pyright: ignore[reportUnknownArgumentType]
    else:
        raise errors.InvalidArgumentError(
            f"{name} must be a text or a number to be sent in a form, not {value!r}."
        )


def takes_json(model: str) -> bool:
    """Tell whether the edits of a model are JSON with URLs of images: those of Qwen are."""
    return "qwen" in model.lower()


def check_qwen(mask: object, options: Mapping[str, Value]) -> None:
    """Check that a Qwen model knows all options.

    Raises:
        InvalidArgumentError: The model does not know an option.
    """
    unknown = sorted(options.keys() - _QWEN_PARAMETERS)
    unknown = unknown if mask is None else ["mask", *unknown]
    if unknown:
        raise errors.InvalidArgumentError(
            f"Qwen models do not take {', '.join(unknown)}: leave it out, or give extra_body="
            '{"parameters": {…}} with the parameters that they take.'
        )


def qwen_body(  # noqa: PLR0917 the parts of the body, in order
    urls: Sequence[str], prompt: str, model: str, n: int, size: Value, extra_body: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the JSON of an edit by a Qwen model: a message with the images and the prompt."""
    parameters: dict[str, Any] = {"n": n}
    if isinstance(size, str):
        parameters["size"] = size.replace("x", "*")
    given: object = extra_body.get("parameters")
    if isinstance(given, Mapping):
        parameters |= given
    content = [*({"image": url} for url in urls), {"text": prompt}]
    return {
        "model": model,
        "input": {"messages": [{"role": "user", "content": content}]},
        **extra_body,
        "parameters": parameters,
    }
