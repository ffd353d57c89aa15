"""A Parquet or Arrow table as a manifest, read in batches; blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, cast

from apimart_async.batch.manifest.rows import IMAGE_COLUMNS, read_columns
from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

EXTENSIONS: Final = (".parquet", ".pq", ".arrow", ".arrows", ".feather", ".ipc")

_ROWS_AT_ONCE: Final = 256
_IMAGES_AT_ONCE: Final = 8
"""Rows converted at once where columns hold bytes."""

_BUFFER_BYTES: Final = 1024 * 1024


def table_rows(path: Path, *, needs_image: bool = True) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the number of each row, from 1, and its values by column.

    Images are bytes, or objects with ``path`` and ``bytes`` as in data sets of Hugging Face. Values of types
    that JSON lacks become texts, and other bytes than images their number. ``needs_image`` is that of
    ``read_columns``.

    Raises:
        InvalidArgumentError: The extra ``tables`` is missing, the file is damaged or of another format, or
            there is no column ``image``.
        OSError: The file cannot be read.
    """
    try:
        arrow: Any = import_module("pyarrow")
    except ModuleNotFoundError as missing:
        raise InvalidArgumentError(
            f"{path} is a table, which pyarrow reads: pip install '.[tables]' in the clone"
        ) from missing
    try:
        yield from _rows(arrow, path, needs_image=needs_image)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise InvalidArgumentError(
            f"{path} is damaged, or no Parquet, Arrow or Feather file: {reason}."
        ) from error


def _rows(arrow: Any, path: Path, *, needs_image: bool) -> Iterator[tuple[int, Mapping[str, Any]]]:  # noqa: ANN401 pyarrow has no types
    number = 0
    columns: Sequence[str] | None = None
    for batch in _batches(arrow, path):
        columns = columns or _columns(arrow, batch.schema, needs_image=needs_image)
        size = _images_or_rows(batch.schema)
        for start in range(0, batch.num_rows, size):
            part = batch.slice(start, size)
            values = [_values(arrow, column) for column in part.columns]
            for row in zip(*values, strict=True):
                number += 1
                yield (
                    number,
                    {
                        column: value if column in IMAGE_COLUMNS else plain(value)
                        for column, value in zip(columns, row, strict=True)
                    },
                )


def _batches(arrow: Any, path: Path) -> Iterator[Any]:  # noqa: ANN401 as above
    """Yield the record batches of a file; its first bytes decide the format."""
    with path.open("rb") as file:
        beginning = file.read(6)
    if beginning.startswith(b"PAR1"):
        parquet: Any = import_module("pyarrow.parquet")
        # Columns are read in small pieces: a row group with images may have hundreds of megabytes.
        with parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as table:
            size = _images_or_rows(table.schema_arrow)
            yield from table.iter_batches(size, use_threads=False)
        return
    ipc: Any = import_module("pyarrow.ipc")
    with arrow.memory_map(str(path)) as source:
        if beginning == b"ARROW1":
            with ipc.open_file(source) as table:
                batches = map(table.get_batch, range(table.num_record_batches))
                for batch in batches:
                    batch.validate(full=True)  # a stranger's offsets may lead anywhere
                    yield batch
        else:
            with ipc.open_stream(source) as table:
                for batch in table:
                    batch.validate(full=True)
                    yield batch


def _images_or_rows(schema: Any) -> int:  # noqa: ANN401 as above
    holds_bytes = any("binary" in str(field.type) for field in schema)
    return _IMAGES_AT_ONCE if holds_bytes else _ROWS_AT_ONCE


def _columns(arrow: Any, schema: Any, *, needs_image: bool) -> Sequence[str]:  # noqa: ANN401 as above
    """Return the columns; the only one with images as Hugging Face keeps them is ``image``."""
    images = [
        field.name
        for field in schema
        if arrow.types.is_struct(field.type) and {each.name for each in field.type} == {"bytes", "path"}
    ]
    names: list[str] = list(schema.names)
    if len(images) == 1 and "image" not in names:
        names[names.index(images[0])] = "image"
    return read_columns(names, needs_image=needs_image)


def _values(arrow: Any, column: Any) -> list[Any]:  # noqa: ANN401 as above
    if arrow.types.is_temporal(column.type):
        # Nanoseconds have no type in Python.
        return cast("list[Any]", column.cast(arrow.string()).to_pylist())
    return cast("list[Any]", column.to_pylist())


def plain(value: object) -> object:
    """Return a value with a JSON form."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case bytes():
            return f"{len(value):,} bytes"
        case Mapping():
            return {str(name): plain(each) for name, each in cast("Mapping[object, object]", value).items()}
        case list() | tuple():
            return [plain(each) for each in cast("Sequence[object]", value)]
        case _:
            return str(value)
