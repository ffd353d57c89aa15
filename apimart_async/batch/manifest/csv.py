"""A CSV manifest: its header, its rows, and the meaning of each field, read purely."""

from __future__ import annotations

import csv
import re
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from apimart_async.batch.manifest.jsonl import parse_json
from apimart_async.batch.manifest.rows import ALIASES, COLUMNS, column_name, option_name, read_columns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

LONGEST_CELL: Final = 32 * 1024 * 1024
"""Maximum number of characters of a field: room for the largest image as a ``data:`` URL."""

# Spreadsheets pick the delimiter by locale.
_DELIMITERS: Final = ",;\t|"
# Excel reads the delimiter from a first line such as sep=; and does not show the line.
_SEPARATOR: Final = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*\Z', re.IGNORECASE)
_WHOLE: Final = re.compile(r"([+-]?[0-9]{1,9})([.,]0+)?")
_QUOTING: Final = "Write a quotation mark inside a quoted text twice, and close each quoted text."
# Data frames write missing values so.
_MISSING: Final = frozenset({"nan", "NaN", "NaT", "None", "<NA>"})
# The start of a JSON value other than a bare text.
_JSON: Final = re.compile(r'[-0-9\[{"]|(true|false|null)\Z')


def csv_rows(
    lines: Iterator[str], *, needs_image: bool = True
) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yield the line number of each row that is not blank, and its values by column, or the mistake in it.

    Args:
        lines: Lines of the file.
        needs_image: As for ``read_columns``.

    Raises:
        InvalidArgumentError: The header names no column ``image``, or one twice.
    """
    # The limit of the module, for all its readers; 131,072 characters by default.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    first, before = next(lines, ""), 1
    separator = _SEPARATOR.match(first)
    if separator is not None:
        first, before = next(lines, ""), 2
    delimiter = separator.group(1) if separator is not None else _delimiter(first)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    try:
        columns = read_columns(next(reader, list[str]()), needs_image=needs_image)
    except csv.Error:
        columns = read_columns([], needs_image=needs_image)
    while True:
        # A quoted field may span lines: the number is that of the first line.
        number = reader.line_num + before
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, f"It is not CSV: {error}. {_QUOTING}"
            continue
        # Some programs of Windows end a file with Ctrl-Z.
        if any(field.strip(" \t\r\n\x1a") for field in fields):
            yield number, _values(columns, fields)


def _delimiter(line: str) -> str:
    """Return the delimiter of a header: the first that makes a column ``image`` or ``prompt`` of it."""
    for wanted in ({"image", "image_with_roles", *ALIASES}, {"prompt", "operation"}):
        for delimiter in _DELIMITERS:
            with suppress(csv.Error):
                names = {column_name(name) for row in csv.reader([line], delimiter=delimiter) for name in row}
                if names & wanted:
                    return delimiter
    return ","


def _values(columns: Sequence[str], fields: Sequence[str]) -> Mapping[str, Any] | str:
    """Return the values of a row by column, or the mistake in it; missing fields at its end are empty."""
    if len(fields) > len(columns) and any(fields[len(columns) :]):
        return (
            f"It has {len(fields)} cells, but there are {len(columns)} columns: quote a text that holds a "
            "separator."
        )
    return {
        column or f"column {number}": _value(column, field)
        for number, (column, field) in enumerate(zip(columns, fields, strict=False), 1)
        if column or field.strip()
    }


def _value(column: str, field: str) -> object:
    if field.strip() in _MISSING and (column == "n" or option_name(column)):
        return None
    if column == "n":
        return whole_number(field)
    if column in COLUMNS:
        return field.strip()
    return typed(field) if option_name(column) else field


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
    """Return the number in a field, or its text when there is none, for the check of the row to refuse.

    Spreadsheets and data frames write ``2`` as ``2.0`` or ``2,0``.
    """
    text = field.strip()
    number = _WHOLE.fullmatch(text)
    return int(number.group(1)) if number is not None else text or None
