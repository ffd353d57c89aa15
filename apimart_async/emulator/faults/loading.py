"""Faults from files and from JSON, read strictly: a misspelt field is an error, not silence."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any, cast

from attrs import asdict

from .fault import FIELDS, Fault

if TYPE_CHECKING:
    from pathlib import Path


def load_faults(path: Path) -> tuple[Fault, ...]:
    """Read faults from a file: `.toml` with one `[[faults]]` table each, otherwise JSON.

    Args:
        path: The file. JSON is a list of objects, one such object, or `{"faults": [...]}`.

    Raises:
        ValueError: The file is malformed; the message says which entry and field.
        OSError: The file cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return parse_faults(tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_faults(value: object) -> tuple[Fault, ...]:
    """Read faults from decoded JSON or TOML.

    Args:
        value: A list of objects with the fields of `Fault`, one such object, or `{"faults": [...]}`.

    Raises:
        ValueError: It is something else; the message says which entry and field.
    """
    if isinstance(value, dict):
        single = cast("dict[str, object]", value)
        value = single["faults"] if set(single) == {"faults"} else [single]
    if not isinstance(value, list):
        raise ValueError("faults must be a list of objects")  # noqa: TRY004 - one kind of error for callers
    return tuple(_parse(entry, index) for index, entry in enumerate(cast("list[object]", value), 1))


def fault_as_json(fault: Fault) -> dict[str, Any]:
    """Return a fault as JSON, without the arguments that have their default."""
    default = Fault(kind=fault.kind)
    return asdict(fault, filter=lambda attribute, value: value != getattr(default, attribute.name)) | {
        "kind": fault.kind
    }


def _parse(entry: object, index: int) -> Fault:
    if not isinstance(entry, dict):
        raise ValueError(f"fault {index} must be an object")  # noqa: TRY004 - one kind of error for callers
    options = cast("dict[str, Any]", entry)
    if "kind" not in options:
        raise ValueError(f"fault {index}: kind is required")
    if unknown := sorted(set(options) - FIELDS):
        raise ValueError(
            f"fault {index}: unknown field {', '.join(unknown)}; there are {', '.join(sorted(FIELDS))}"
        )
    try:
        return Fault(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"fault {index}: {error.args[0]}") from error
