"""The cells of a CSV manifest, and JSON as it stands in one: from text to values, purely."""

from __future__ import annotations

import csv
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

from apimart_async.batch.rows import COLUMNS
from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apimart_async.batch.rows import Record

# Spreadsheets choose by language.
_DELIMITERS: Final = ",;\t|"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,9}")
# What begins a JSON value other than a bare text.
_JSON: Final = re.compile(r'[-0-9\[{"]|(true|false|null)\Z')


def header_of(line: str) -> tuple[Sequence[str], str]:
    """Return the columns of a CSV file and the character between them.

    Args:
        line: The first line of the file.

    Raises:
        InvalidArgumentError: It names no column ``image``, or one twice.
    """
    for delimiter in _DELIMITERS:
        try:
            columns = [_column(cell) for cells in csv.reader([line], delimiter=delimiter) for cell in cells]
        except csv.Error:
            continue
        if "image" not in columns:
            continue
        twice = {column for column in columns if column and columns.count(column) > 1}
        if twice:
            raise InvalidArgumentError(f"The manifest has two columns {min(twice)}.")
        return columns, delimiter
    raise InvalidArgumentError(
        "The first line of the manifest names no column `image`; it should look like: image,prompt"
    )


def _column(cell: str) -> str:
    name = cell.strip()
    return name.lower() if name.lower() in COLUMNS else name


def record_of(columns: Sequence[str], cells: Sequence[str]) -> Record | str:
    """Return the values of a row by column, or what is wrong with the row.

    Args:
        columns: Their names; cells of one without a name must be empty.
        cells: As they stand; missing ones at the end count as empty.
    """
    if len(cells) > len(columns) and any(cells[len(columns) :]):
        return (
            f"It has {len(cells)} cells, but there are {len(columns)} columns: quote a text that holds a "
            "separator."
        )
    record: dict[str, Any] = {}
    for column, cell in zip(columns, cells, strict=False):
        if not column:
            if cell.strip():
                return f"It has a cell in a column without a name: {cell.strip()[:40]}"
        elif column == "n":
            record[column] = whole_number(cell)
        elif column in COLUMNS:
            record[column] = cell.strip()
        else:
            record[column] = typed(cell)
    return record


def typed(cell: str) -> object:
    """Return what a cell of a CSV file means as an option of a request.

    Args:
        cell: Its text.

    Returns:
        A number, ``True``, ``False``, a list or an object when the cell is JSON for it, the text inside when
        it is a JSON string (``"42"`` stays a text), ``None`` for ``null`` and an empty cell, and otherwise
        the text as it is: ``16:9``, ``1024x1024``, ``007`` and ``auto`` are texts.
    """
    text = cell.strip()
    if not text:
        return None
    if not _JSON.match(text):
        return text
    try:
        return parse_json(text)
    except ValueError:
        return text


def whole_number(cell: str) -> object:
    """Return the number in a cell, or the cell when there is none, to be complained about."""
    text = cell.strip()
    return int(text) if _WHOLE.fullmatch(text) else text or None


def parse_json(text: str) -> Any:  # noqa: ANN401 whatever it holds
    """Parse JSON as the standard has it.

    Raises:
        ValueError: It is none, or holds a number that JSON has no word for, or is nested without end.
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
