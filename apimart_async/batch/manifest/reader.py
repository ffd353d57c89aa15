"""A manifest, read row by row: a CSV or JSONL file, a table, a folder of images or a glob pattern.

It is read twice, once to check every row before anything is paid and once for the jobs, and never held in
memory: a manifest of a million rows takes as much memory as one of ten.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import attrs
from anyio import CancelScope, to_thread

from apimart_async.batch.manifest import files, tables
from apimart_async.batch.manifest.csv import LONGEST_CELL, csv_rows
from apimart_async.batch.manifest.jsonl import jsonl_rows
from apimart_async.batch.manifest.rows import (
    NOT_UTF8,
    BadRow,
    EmbeddedImage,
    Folder,
    ManifestOptions,
    Row,
    Skipped,
    all_images,
    read_row,
)
from apimart_async.errors import InvalidArgumentError
from apimart_async.resources.submission import is_free
from apimart_async.transport.media.forms import shown
from apimart_async.transport.object_storage import ObjectPath, is_object_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator

    from apimart_async.batch.job import Job

_ROWS_AT_ONCE: Final = 256
_BYTES_AT_ONCE: Final = 32 * 1024 * 1024
"""Maximum size of the images inside a manifest that are read at once."""

_FOLDER_IN_BUCKET: Final = (
    "A folder of a bucket cannot be listed: write a manifest with an s3:// URL in each row (and "
    "--allow-outside), or use the program of the recipe S3 in and out."
)
_MANIFEST_IN_BUCKET: Final = "A manifest is a file on this machine: download it from the bucket first."

Kind: TypeAlias = Literal["csv", "jsonl", "table", "folder", "pattern"]

_KINDS: Final[dict[str, Kind]] = {
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    **dict.fromkeys(tables.EXTENSIONS, "table"),
}


@attrs.frozen
class Manifest:
    """A manifest that was found.

    Attributes:
        path: The file, the folder or the pattern.
        kind: Its kind.
        options: Values that rows lack, and the rights of the manifest.
        base: Folder that relative paths of images start from; that of the file by default.
    """

    path: Path
    kind: Kind
    options: ManifestOptions = attrs.field(factory=ManifestOptions)
    base: Path | None = None

    @property
    def is_folder(self) -> bool:
        """Return whether its rows are files."""
        return self.kind in {"folder", "pattern"}

    @property
    def folder(self) -> Folder:
        """Return the folder that its images are in, and that relative paths start from; blocks."""
        if self.kind == "pattern":
            return Folder.at(files.fixed_part(self.path))
        if self.kind == "folder":
            return Folder.at(self.path)
        return Folder.at(self.path.parent if self.base is None else self.base)

    def rows(self) -> Generator[Row | BadRow | Skipped]:
        """Yield the rows in order; blocks, and does not open the images.

        Raises:
            InvalidArgumentError: The manifest cannot be read, or is not of its kind.
        """
        try:
            yield from self._files() if self.is_folder else self._lines()
        except OSError as error:
            raise InvalidArgumentError(
                f"The manifest {self.path} cannot be read: {error.strerror or error}."
            ) from error

    def _files(self) -> Iterator[Row | BadRow | Skipped]:
        results = self.options.output
        output = None if results is None or isinstance(results, ObjectPath) else os.path.realpath(results)
        base, convert = self.folder, self.options.convert
        found = (
            files.images(base.path, recursive=self.options.recursive, output=output, convert=convert)
            if self.kind == "folder"
            else files.matches(self.path, output, convert=convert)
        )
        for path, reason in found:
            # A name such as https: is no address.
            image = f".{os.sep}{path}" if self.kind == "folder" else os.path.abspath(path)  # noqa: PTH100 as in Folder.at
            if reason is not None:
                yield Skipped(shown(path), reason)
                continue
            row = read_row(shown(path), {"image": image}, base, self.options)
            is_badly_named = isinstance(row, BadRow) and row.complaint == NOT_UTF8
            yield BadRow(shown(path), "Its path is not UTF-8: rename it.") if is_badly_named else row

    @property
    def _needs_image(self) -> bool:
        return self.options.operation != "generate"

    def _lines(self) -> Iterator[Row | BadRow]:
        base = self.folder
        if self.kind == "table":
            for number, row in tables.table_rows(self.path, needs_image=self._needs_image):
                embedding = f"{self.path.name}/{number}"
                yield read_row(f"row {number}", row, base, self.options, embedding)
            return
        read = partial(csv_rows, needs_image=self._needs_image) if self.kind == "csv" else jsonl_rows
        with self.path.open(encoding=_encoding(self.path), errors="surrogateescape", newline="") as file:
            for line, values in read(_lines(file.readline)):
                location = f"line {line}"
                yield (
                    BadRow(location, values)
                    if isinstance(values, str)
                    else read_row(location, values, base, self.options)
                )

    async def jobs(self, skip: Iterable[int] = ()) -> AsyncGenerator[Job]:
        """Yield the jobs, read a few hundred at a time in a worker thread.

        Args:
            skip: Numbers of the rows to leave out, from 0, ascending.

        Raises:
            InvalidArgumentError: The manifest cannot be read, or a row has become bad since the check.

        Cancellation leaves it closed.
        """
        rows, bad = self.rows(), iter(skip)
        number, next_bad = 0, next(bad, -1)
        try:
            while chunk := await to_thread.run_sync(next_rows, rows):
                for row in chunk:
                    if not isinstance(row, Skipped):
                        is_left_out, number = number == next_bad, number + 1
                        if is_left_out:
                            next_bad = next(bad, -1)
                        elif isinstance(row, BadRow):
                            raise InvalidArgumentError(
                                f"The manifest {self.path}, {row.location}: {row.complaint}"
                            )
                        else:
                            yield row.job
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(rows.close)


def next_rows(rows: Iterator[Row | BadRow | Skipped]) -> list[Row | BadRow | Skipped]:
    """Return the next few hundred rows, fewer where they hold images; none at the end; blocks."""
    chunk: list[Row | BadRow | Skipped] = []
    size = 0
    for row in rows:
        chunk.append(row)
        if isinstance(row, Row):
            size += sum(image.size for image in all_images(row.job) if isinstance(image, EmbeddedImage))
        if len(chunk) == _ROWS_AT_ONCE or size >= _BYTES_AT_ONCE:
            break
    return chunk


def open_manifest(path: str | os.PathLike[str], options: ManifestOptions | None = None) -> Manifest:
    """Find a manifest, and determine its kind; blocks.

    Args:
        path: A ``.csv``, ``.tsv``, ``.jsonl`` or ``.ndjson`` file, a Parquet, Arrow or Feather table, a
            folder of images, or a glob pattern for images. The columns of a file are ``image``, ``prompt``,
            ``model``, ``n``, ``id``, ``name``, ``operation`` and ``image_with_roles``. Several images are
            a list, which is written as JSON in a CSV file. Documented fields of the request, such as
            ``size``, and columns called ``option.NAME`` are options of the request, of which ``option.mask``
            is an image; any other column is carried into ``results.jsonl``. Relative paths of images start
            from the folder of the file.
        options: Values that rows lack, and the rights of the manifest; a folder needs a prompt here.

    Raises:
        InvalidArgumentError: There is no such file, it is in object storage, its kind is unknown, or a folder
            has no prompt.
    """
    if is_object_url(path):
        is_file = Path(str(path)).suffix.lower() in _KINDS
        raise InvalidArgumentError(_MANIFEST_IN_BUCKET if is_file else _FOLDER_IN_BUCKET)
    path, options = Path(path), options or ManifestOptions()
    is_pattern = files.is_pattern(path)
    if is_pattern or path.is_dir():
        if options.prompt is None and not is_free(options.operation):
            subject = "a pattern" if is_pattern else "a folder of images"
            raise InvalidArgumentError(f"{path} is {subject}: give the prompt with -p.")
        return Manifest(path, "pattern" if is_pattern else "folder", options)
    if not path.exists():
        raise InvalidArgumentError(f"There is no manifest {path}.")
    suffix = path.suffix.lower()
    if suffix in files.IMAGE_EXTENSIONS:
        raise InvalidArgumentError(f"{path} is an image: give its folder, or use `apimart edit`.")
    if suffix not in _KINDS or not path.is_file():
        raise InvalidArgumentError(
            f"{path} is no manifest: give a .csv, .jsonl or .parquet file, or a folder of images."
        )
    return Manifest(path, _KINDS[suffix], options)


def _encoding(path: Path) -> str:
    """Return UTF-16 for a file with its byte order mark, or whose first letters have its zero bytes."""
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return "utf-16"
    is_zero = [byte == 0 for byte in head]
    if is_zero == [False, True, False, True]:
        return "utf-16-le"
    return "utf-16-be" if is_zero == [True, False, True, False] else "utf-8-sig"


def _lines(readline: Callable[[int], str]) -> Iterator[str]:
    number = 0
    while line := readline(LONGEST_CELL):
        number += 1
        if len(line) == LONGEST_CELL:
            raise InvalidArgumentError(
                f"Line {number} of the manifest is longer than {LONGEST_CELL:,} characters."
            )
        yield line
