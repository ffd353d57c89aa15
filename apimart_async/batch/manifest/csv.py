"""A CSV manifest: its header, its rows, and the meaning of each field, read purely."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING, Any, Final

from apimart_async.batch.manifest.jsonl import parse_json
from apimart_async.batch.manifest.rows import COLUMNS
from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Spreadsheets pick the delimiter by locale.
_DELIMITERS: Final = ",;\t|"
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,9}")
# The start of a JSON value other than a bare text.
_JSON: Final = re.compile(r'[-0-9\[{"]|(true|false|null)\Z')


def csv_rows(lines: Iterator[str]) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield the line number of each row that is not blank, and its values by column, or the mistake in it.

    Raises:
        InvalidArgumentError: The header names no column ``image``, or one twice.
    """
    columns, delimiter = _header(next(lines, ""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        # A quoted field may span lines: a row is where it starts, below the header.
        number = reader.line_num + 2
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, f"It is not CSV: {error}."
            continue
        if any(field.strip() for field in fields):
            yield number, _values(columns, fields)


def _header(line: str) -> tuple[Sequence[str], str]:
    """Return the columns and the delimiter."""
    for delimiter in _DELIMITERS:
        try:
            columns = [_column(name) for names in csv.reader([line], delimiter=delimiter) for name in names]
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


def _column(name: str) -> str:
    name = name.strip()
    return name.lower() if name.lower() in COLUMNS else name


def _values(columns: Sequence[str], fields: Sequence[str]) -> Mapping[str, Any] | str:
    """Return the values of a row by column, or the mistake in it; missing fields at its end are empty."""
    if len(fields) > len(columns) and any(fields[len(columns) :]):
        return (
            f"It has {len(fields)} cells, but there are {len(columns)} columns: quote a text that holds a "
            "separator."
        )
    values: dict[str, Any] = {}
    for column, field in zip(columns, fields, strict=False):
        if not column:
            if field.strip():
                return f"It has a cell in a column without a name: {field.strip()[:40]}"
        elif column == "n":
            values[column] = whole_number(field)
        elif column in COLUMNS:
            values[column] = field.strip()
        else:
            values[column] = typed(field)
    return values


def typed(field: str) -> object:
    """Return the meaning of a field as an option of a request.

    Args:
        field: Its text.

    Returns:
        A number, ``True``, ``False``, a list or an object when the field is JSON for it, the text inside when
        it is a JSON string (``"42"`` stays a text), ``None`` for ``null`` and an empty field, and otherwise
        the text as it is: ``16:9``, ``1024x1024``, ``007`` and ``auto`` are texts.
    """
    text = field.strip()
    if not text:
        return None
    if not _JSON.match(text):
        return text
    try:
        return parse_json(text)
    except ValueError:
        return text


def whole_number(field: str) -> object:
    """Return the number in a field, or its text when there is none, for the check of the row to refuse."""
    text = field.strip()
    return int(text) if _WHOLE.fullmatch(text) else text or None
