"""A JSONL manifest: one JSON object a line, read purely."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NoReturn

from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_UNDECODED: Final = re.compile("[\udc80-\udcff]")
_LONGEST: Final = 40


def jsonl_rows(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield the number of each line that is not blank, and its values by column, or the mistake in it."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if _UNDECODED.search(line):
            yield number, "It is not UTF-8: save it as UTF-8."
            continue
        try:
            values = parse_json(line, _as_object)
        except InvalidArgumentError as error:
            yield number, error.message
            continue
        except json.JSONDecodeError as error:
            yield number, f"It is not JSON: {error.msg}, character {error.pos + 1}."
            continue
        except ValueError as error:
            yield number, f"It is not JSON: {error}."
            continue
        yield number, values if isinstance(values, dict) else "It is not a JSON object."


def parse_json(
    text: str, as_object: Callable[[Sequence[tuple[str, Any]]], Mapping[str, Any]] | None = None
) -> Any:  # noqa: ANN401 any JSON value
    """Parse JSON strictly by the standard.

    Args:
        text: The text.
        as_object: Makes an object of its keys and values; of equal keys the last one wins by default.

    Raises:
        ValueError: The text is not JSON, holds NaN or an infinity, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=as_object)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _as_object(pairs: Sequence[tuple[str, Any]]) -> Mapping[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        # Only one of the values would be paid for, and nobody knows whether it is the right one.
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise InvalidArgumentError(f"It has the key {twice[:_LONGEST]!r} twice.")
    return values


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number
