"""A manifest: what a batch is to do, as a CSV file, a JSONL file or a folder of images, read row by row.

It is read twice, once to check every row before anything is paid and once to do the jobs, and never held in
memory: a manifest of a million rows takes as much of it as one of ten.
"""

from __future__ import annotations

import csv
import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
from anyio import CancelScope, to_thread

from apimart_async.batch.cells import header_of, parse_json, record_of
from apimart_async.batch.rows import BadRow, Defaults, Record, Row, read_row
from apimart_async.errors import InvalidArgumentError
from apimart_async.transport.media.inputs import shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from apimart_async.batch.job import Job

_CHUNK: Final = 256
"""Rows that are read by one visit to a worker thread."""

_LONGEST_LINE: Final = 32 * 1024 * 1024
"""Characters; an image of the largest size as a ``data:`` URL fits."""

_KINDS: Final[dict[str, Literal["csv", "jsonl"]]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_PICTURES: Final = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif")
_UNDECODED: Final = re.compile("[\udc80-\udcff]")


@attrs.frozen
class Manifest:
    """Where the rows are and what they lack.

    Attributes:
        path: The file or folder.
        kind: What it is.
        defaults: What rows without a value of their own take.
    """

    path: Path
    kind: Literal["csv", "jsonl", "folder"]
    defaults: Defaults = attrs.field(factory=Defaults)

    def rows(self) -> Generator[Row | BadRow]:
        """Read the rows, in order, from the beginning; blocking.

        The pictures themselves are not looked at.

        Raises:
            InvalidArgumentError: It cannot be read, or not as a whole what it should be.
        """
        try:
            if self.kind == "folder":
                yield from _folder_rows(self.path, self.defaults)
            else:
                records = _csv_records if self.kind == "csv" else _json_records
                folder = os.path.abspath(self.path.parent)  # noqa: PTH100 links in it are the user's to keep
                with self.path.open(
                    encoding=_encoding(self.path), errors="surrogateescape", newline=""
                ) as file:
                    for line, record in records(_lines(file.readline)):
                        place = f"line {line}"
                        if isinstance(record, str):
                            yield BadRow(place, record)
                        else:
                            yield read_row(place, record, folder, self.defaults)
        except OSError as error:
            raise InvalidArgumentError(
                f"The manifest {self.path} cannot be read: {error.strerror or error}."
            ) from error

    async def jobs(self) -> AsyncGenerator[Job]:
        """Read the jobs, a few hundred at a time, off the event loop.

        Raises:
            InvalidArgumentError: It cannot be read, or a row cannot be done: it has changed since it was
                checked.
        """
        rows = self.rows()
        try:
            while chunk := await to_thread.run_sync(lambda: list(islice(rows, _CHUNK))):
                for row in chunk:
                    if isinstance(row, BadRow):
                        raise InvalidArgumentError(f"The manifest {self.path}, {row.place}: {row.complaint}")
                    yield row.job
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(rows.close)


def open_manifest(path: str | os.PathLike[str], defaults: Defaults | None = None) -> Manifest:
    """Find out what kind of manifest it is; blocking.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` file, or a folder of JPEG, PNG, WebP and GIF
            files. The columns of a file are ``image``, ``prompt``, ``model``, ``n``, ``id`` and ``name``; any
            other is an option of the request. Relative paths of images start from the folder of the file.
        defaults: What rows without a value of their own take; a folder needs a prompt here.

    Raises:
        InvalidArgumentError: There is no such file, it is of no kind that can be read, or a folder has no
            prompt.
    """
    place, defaults = Path(path), defaults or Defaults()
    if place.is_dir():
        if defaults.prompt is None:
            raise InvalidArgumentError(f"{place} is a folder of images: say what to change with -p.")
        return Manifest(place, "folder", defaults)
    if not place.exists():
        raise InvalidArgumentError(f"There is no manifest {place}.")
    suffix = place.suffix.lower()
    if suffix in _PICTURES:
        raise InvalidArgumentError(f"{place} is an image: give its folder, or use `apimart edit`.")
    if suffix not in _KINDS or not place.is_file():
        raise InvalidArgumentError(
            f"{place} is no manifest: give a .csv or .jsonl file, or a folder of images."
        )
    return Manifest(place, _KINDS[suffix], defaults)


# --- files --------------------------------------------------------------------------------------------------


def _encoding(path: Path) -> str:
    """Return UTF-8, with or without its mark, unless the file begins as spreadsheets begin UTF-16."""
    with path.open("rb") as file:
        return "utf-16" if file.read(2) in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"


def _lines(readline: Callable[[int], str]) -> Iterator[str]:
    number = 0
    while line := readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise InvalidArgumentError(
                f"Line {number} of the manifest is longer than {_LONGEST_LINE:,} characters."
            )
        yield line


def _json_records(lines: Iterator[str]) -> Iterator[tuple[int, Record | str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if _UNDECODED.search(line):
            yield number, "It is not UTF-8: save it as UTF-8."
            continue
        try:
            record = parse_json(line)
        except ValueError as error:
            yield number, f"It is not JSON: {error}."
            continue
        yield number, record if isinstance(record, dict) else "It is not a JSON object."


def _csv_records(lines: Iterator[str]) -> Iterator[tuple[int, Record | str]]:
    columns, delimiter = header_of(next(lines, ""))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        # A quoted cell may span lines: a row is where it begins, below the header.
        number = reader.line_num + 2
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, f"It is not CSV: {error}."
            continue
        if any(cell.strip() for cell in cells):
            yield number, record_of(columns, cells)


# --- folders ------------------------------------------------------------------------------------------------


def _folder_rows(folder: Path, defaults: Defaults) -> Iterator[Row | BadRow]:
    root = os.path.abspath(folder)  # noqa: PTH100 as above
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if _is_picture(entry))
    for name in names:
        yield read_row(shown(name), {"image": f".{os.sep}{name}"}, root, defaults)


def _is_picture(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(_PICTURES) and not entry.name.startswith(".") and entry.is_file()
