"""A manifest, read row by row: a CSV file, a JSONL file or a folder of images.

It is read twice, once to check every row before anything is paid and once for the jobs, and never held in
memory: a manifest of a million rows takes as much memory as one of ten.
"""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import attrs
from anyio import CancelScope, to_thread

from apimart_async.batch.manifest.csv import csv_rows
from apimart_async.batch.manifest.jsonl import jsonl_rows
from apimart_async.batch.manifest.rows import BadRow, Defaults, Row, read_row
from apimart_async.errors import InvalidArgumentError
from apimart_async.transport.media.inputs import shown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from apimart_async.batch.job import Job

ROWS_AT_ONCE: Final = 256
"""Rows read by one call in a worker thread."""

_LONGEST_LINE: Final = 32 * 1024 * 1024
"""Characters; an image of the largest size as a ``data:`` URL fits."""

_KINDS: Final[dict[str, Literal["csv", "jsonl"]]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
}
_IMAGES: Final = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif")


@attrs.frozen
class Manifest:
    """A manifest that was found.

    Attributes:
        path: The file or folder.
        kind: Its kind.
        defaults: For values that rows lack.
    """

    path: Path
    kind: Literal["csv", "jsonl", "folder"]
    defaults: Defaults = attrs.field(factory=Defaults)

    def rows(self) -> Generator[Row | BadRow]:
        """Yield the rows in order; blocks, and does not open the images.

        Raises:
            InvalidArgumentError: It cannot be read, or is not of its kind.
        """
        folder = os.path.abspath(self.path if self.kind == "folder" else self.path.parent)  # noqa: PTH100 links in it are the user's to keep
        try:
            if self.kind == "folder":
                with os.scandir(folder) as entries:
                    names = sorted(entry.name for entry in entries if _is_image(entry))
                for name in names:
                    yield read_row(shown(name), {"image": f".{os.sep}{name}"}, folder, self.defaults)
                return
            read = csv_rows if self.kind == "csv" else jsonl_rows
            with self.path.open(encoding=_encoding(self.path), errors="surrogateescape", newline="") as file:
                for line, values in read(_lines(file.readline)):
                    location = f"line {line}"
                    if isinstance(values, str):
                        yield BadRow(location, values)
                    else:
                        yield read_row(location, values, folder, self.defaults)
        except OSError as error:
            raise InvalidArgumentError(
                f"The manifest {self.path} cannot be read: {error.strerror or error}."
            ) from error

    async def jobs(self) -> AsyncGenerator[Job]:
        """Yield the jobs, read a few hundred at a time in a worker thread.

        Raises:
            InvalidArgumentError: It cannot be read, or a row is bad because it has changed since the check.

        Cancellation leaves it closed.
        """
        rows = self.rows()
        try:
            while chunk := await to_thread.run_sync(lambda: list(islice(rows, ROWS_AT_ONCE))):
                for row in chunk:
                    if isinstance(row, BadRow):
                        raise InvalidArgumentError(
                            f"The manifest {self.path}, {row.location}: {row.complaint}"
                        )
                    yield row.job
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(rows.close)


def open_manifest(path: str | os.PathLike[str], defaults: Defaults | None = None) -> Manifest:
    """Find a manifest, and determine its kind; blocks.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` file, or a folder of JPEG, PNG, WebP and GIF
            files. The columns of a file are ``image``, ``prompt``, ``model``, ``n``, ``id`` and ``name``; any
            other is an option of the request. Relative paths of images start from the folder of the file.
        defaults: For values that rows lack; a folder needs a prompt here.

    Raises:
        InvalidArgumentError: There is no such file, its kind is unknown, or a folder has no prompt.
    """
    path, defaults = Path(path), defaults or Defaults()
    if path.is_dir():
        if defaults.prompt is None:
            raise InvalidArgumentError(f"{path} is a folder of images: give the prompt with -p.")
        return Manifest(path, "folder", defaults)
    if not path.exists():
        raise InvalidArgumentError(f"There is no manifest {path}.")
    suffix = path.suffix.lower()
    if suffix in _IMAGES:
        raise InvalidArgumentError(f"{path} is an image: give its folder, or use `apimart edit`.")
    if suffix not in _KINDS or not path.is_file():
        raise InvalidArgumentError(
            f"{path} is no manifest: give a .csv or .jsonl file, or a folder of images."
        )
    return Manifest(path, _KINDS[suffix], defaults)


def _encoding(path: Path) -> str:
    """Return UTF-16 for a file with its byte order mark, as spreadsheets write it, and else UTF-8."""
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


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(_IMAGES) and not entry.name.startswith(".") and entry.is_file()
