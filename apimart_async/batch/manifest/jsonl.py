"""A JSONL manifest: one JSON object a line, read purely."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_UNDECODED: Final = re.compile("[\udc80-\udcff]")


def jsonl_rows(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield the number of each line that is not blank, and its values by column, or the mistake in it."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if _UNDECODED.search(line):
            yield number, "It is not UTF-8: save it as UTF-8."
            continue
        try:
            values = parse_json(line)
        except ValueError as error:
            yield number, f"It is not JSON: {error}."
            continue
        yield number, values if isinstance(values, dict) else "It is not a JSON object."


def parse_json(text: str) -> Any:  # noqa: ANN401 any JSON value
    """Parse JSON strictly by the standard.

    Raises:
        ValueError: The text is not JSON, holds NaN or an infinity, or is nested too deeply.
    """
    try:
        return json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is too large")
    return number
