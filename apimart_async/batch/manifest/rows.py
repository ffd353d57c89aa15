"""A row of a manifest turned into a job: its columns, its options, its image, and its mistakes."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, cast

import attrs

from apimart_async.batch.job import Job
from apimart_async.batch.manifest.paths import found_path
from apimart_async.errors import InvalidArgumentError
from apimart_async.resources.edits import DEFAULT_MODEL
from apimart_async.resources.submission import check_request
from apimart_async.transport.files.names import NameTemplate
from apimart_async.transport.media.data_urls import is_data_url
from apimart_async.transport.media.filenames import clean_stem, url_filename
from apimart_async.transport.media.inputs import remote_url, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

COLUMNS: Final = frozenset({"image", "prompt", "model", "n", "id", "name"})
"""The columns of a job."""

OPTIONS: Final = frozenset(
    {
        *("background", "language", "mask_url", "moderation", "output_compression", "output_format"),
        *("quality", "resolution", "size", "webhook"),
    }
)
"""The documented fields of the service's requests; columns of these names are options."""

_PREFIX: Final = "option."
_MARK: Final = "\ufeff"
"""Byte order mark; a file that was saved repeatedly may have several."""

ALIASES: Final = {"file_name": "image"}
"""The name in the metadata files of Hugging Face's image folders."""

_IMAGES: Final = frozenset({"images", "image_urls"})
_CALLS: Final = ("webhook", "callback")
_TEXTS: Final = ("prompt", "model", "id", "name")
_ERRORS: Final = frozenset(
    {
        *("#BLOCKED!", "#CALC!", "#CONNECT!", "#DIV/0!", "#FIELD!", "#N/A", "#NAME?", "#NULL!", "#NUM!"),
        *("#REF!", "#SPILL!", "#UNKNOWN!", "#VALUE!"),
    }
)
_CELL: Final = frozenset({"path", "bytes"})
_LONGEST: Final = 40


@attrs.frozen
class ManifestOptions:
    """Values for rows without their own, and the rights of a manifest.

    Attributes:
        prompt: The change to make; ``None`` when every row has its own.
        model: Any model of the service that edits; its default by default.
        n: Number of variants, 1 to 10.
        recursive: Whether the images of a folder include those in its subfolders.
        output: Folder of the results; images in it are not images of the manifest.
        allow_outside: Whether rows may name images outside the folder of the manifest.
        allow_webhook: Whether rows may have the service call an address.
        convert: Whether images that have to be converted are taken.
    """

    prompt: str | None = attrs.field(default=None, repr=False)
    model: str | None = None
    n: int = 1
    recursive: bool = False
    output: Path | None = None
    allow_outside: bool = False
    allow_webhook: bool = False
    convert: bool = True


@attrs.frozen
class Folder:
    """The folder of a manifest.

    Attributes:
        path: Absolute; relative paths of images start from it.
        real: The same with its symbolic links resolved; images have to be inside it.
    """

    path: str
    real: str

    @classmethod
    def at(cls, path: str | os.PathLike[str]) -> Folder:
        """Return a folder; blocks."""
        return cls(os.path.abspath(path), os.path.realpath(path))  # noqa: PTH100 links in it are the user's to keep

    def contains(self, path: str) -> bool:
        """Tell whether a path ends inside the folder, wherever its symbolic links lead; blocks."""
        return Path(os.path.realpath(path)).is_relative_to(self.real)


@attrs.frozen
class Row:
    """A row that is a job.

    Attributes:
        location: Its location, for messages: ``"line 7"``, or the name of a file in a folder.
        job: Its job.
    """

    location: str
    job: Job


@attrs.frozen
class BadRow:
    """A row that is no job.

    Attributes:
        location: Its location: ``"line 7"``, or the name of a file in a folder.
        complaint: The mistake in it, as a sentence.
    """

    location: str
    complaint: str


@attrs.frozen
class Skipped:
    """A file of a folder that is left out.

    Attributes:
        location: Its name.
        reason: The kind of such files, for example ``"HEIC"`` or ``"in a subfolder"``.
    """

    location: str
    reason: str


class EmbeddedImage(io.BytesIO):
    """An image inside a manifest.

    Attributes:
        name: ``"train.parquet/7/cat.png"``, for messages and for the name of the upload.
        size: Bytes.
    """

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name: str = name
        self.size: int = len(content)


def read_columns(names: Sequence[str]) -> Sequence[str]:
    """Return the columns of a table, with known names in lower case.

    Raises:
        InvalidArgumentError: There is no column ``image``, or one twice.
    """
    columns = [column_name(name) for name in names]
    if "image" not in columns:
        columns = [ALIASES.get(column, column) for column in columns]
    if "image" not in columns:
        raise InvalidArgumentError(
            "The first line of the manifest names no column `image`; it should look like: image,prompt"
        )
    _check_distinct(columns, "The manifest")
    return columns


def column_name(name: str) -> str:
    """Return the name of a column: in lower case if it is known, and without spaces around it."""
    name = name.strip().strip(_MARK).strip()
    known = name.lower()
    if known.startswith(_PREFIX):
        return f"{_PREFIX}{name[len(_PREFIX) :]}"
    return known if known in COLUMNS | OPTIONS | ALIASES.keys() else name


def option_name(column: str) -> str | None:
    """Return the field of the request that a column is, ``None`` for any other column."""
    if column in OPTIONS:
        return column
    return column.removeprefix(_PREFIX) or None if column.startswith(_PREFIX) else None


def _check_distinct(columns: Sequence[str], subject: str) -> None:
    fields = [option_name(column) or column for column in columns if column]
    twice = {field for field in fields if fields.count(field) > 1}
    if twice:
        raise InvalidArgumentError(f"{subject} has two columns {min(twice)}.")


def read_row(
    location: str,
    values: Mapping[str, Any],
    folder: Folder,
    options: ManifestOptions,
    embedding: str = "",
) -> Row | BadRow:
    """Turn a row into a job, or name its mistake; blocks while the path of its image is resolved.

    A row without a name is named after its id, and one without an id after its image, so that results can be
    told apart. Columns that are neither of a job nor options become its ``extra``.

    Args:
        location: Its location.
        values: Its values by column; ``None`` and empty ones count as missing.
        folder: Of the manifest.
        options: Of the manifest.
        embedding: Path in the names of images that are inside the manifest.
    """
    try:
        named = {column_name(name): value for name, value in values.items()}
        if len(named) < len(values):
            _check_distinct([column_name(name) for name in values], "It")
        if "image" not in named:
            named = {ALIASES.get(name, name): value for name, value in named.items()}
        return Row(location, _job(named, folder, options, embedding))
    except InvalidArgumentError as error:
        return BadRow(location, error.message)


def _job(values: Mapping[str, Any], folder: Folder, options: ManifestOptions, embedding: str) -> Job:
    extra = {name: value for name, value in values.items() if name not in COLUMNS and not option_name(name)}
    given = {
        name: value
        for name, value in values.items()
        if name not in extra and value is not None and value != ""
    }
    _check_formulas(given)
    image = _image(given.pop("image", None), folder, options, embedding)
    try:
        # Neither a request nor a journal can hold half a surrogate pair.
        text = image if isinstance(image, str) else image.name
        json.dumps([text, given, extra], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError("It is not UTF-8: save it as UTF-8.") from error
    for column in ("n", "id"):
        # Spreadsheets and data frames write whole numbers as 2.0 in columns with gaps.
        if isinstance(given.get(column), float) and given[column].is_integer():
            given[column] = int(given[column])
    if type(given.get("id")) is int:
        given["id"] = str(given["id"])
    for column in _TEXTS:
        if not isinstance(given.get(column, ""), str):
            raise InvalidArgumentError(f"{column} must be a text, not {_shown(given[column])}.")
    prompt = given.get("prompt", options.prompt)
    if prompt is None:
        raise InvalidArgumentError("It has no prompt: fill the column, or give one for all rows with -p.")
    model, n, name = given.get("model", options.model), given.get("n", options.n), given.get("name")
    check_request(prompt, model or DEFAULT_MODEL, n)
    if name is not None:
        NameTemplate.parse(name.replace("{", "{{").replace("}", "}}"))
    job_id = given.get("id")
    fields = {field: value for column, value in given.items() if (field := option_name(column))}
    _check_fields(fields.keys() | {name for name in _IMAGES if extra.get(name)}, options)
    return Job(image, prompt, model, n, job_id, name or _name_after(job_id, image), fields, extra)


def _check_formulas(given: Mapping[str, Any]) -> None:
    for column, value in given.items():
        if isinstance(value, str) and value in _ERRORS:
            raise InvalidArgumentError(f"{column} is {value}, the error of a formula in a spreadsheet.")


def _check_fields(fields: AbstractSet[str], options: ManifestOptions) -> None:
    reserved = (COLUMNS | _IMAGES) & fields
    if reserved:
        raise InvalidArgumentError(
            f"{min(reserved)} cannot be an option: a row has image, prompt, model, n, id and name of its own."
        )
    calls = [field for field in sorted(fields) if any(word in field.lower() for word in _CALLS)]
    if calls and not options.allow_webhook:
        raise InvalidArgumentError(
            f"{calls[0]} would send the result to an address that the manifest chooses: permit it with "
            "--allow-webhook, or remove the column."
        )


def _image(value: object, folder: Folder, options: ManifestOptions, embedding: str) -> str | EmbeddedImage:
    value, filename = _content(value)
    if isinstance(value, bytes):
        return EmbeddedImage(value, f"{embedding}/{filename}")
    if not isinstance(value, str):
        problem = "It has no image" if value is None else f"image must be a text, not {_shown(value)}"
        raise InvalidArgumentError(f"{problem}: give a path, or an https:// or data: URL.")
    if is_data_url(value) or remote_url(value) is not None:
        return value
    if "\0" in value:
        raise InvalidArgumentError("The path of the image holds a zero byte.")
    path = found_path(value, folder.path)
    if not options.allow_outside and not folder.contains(path):
        raise InvalidArgumentError(
            f"{shown(value)} is outside the folder of the manifest: permit such paths with --allow-outside, "
            "if you trust the manifest."
        )
    return path


def _content(value: object) -> tuple[object, str]:
    """Return the text or the bytes of an image, and its file name, if the cell has one."""
    if not isinstance(value, Mapping):
        return value, "image"
    cell = cast("Mapping[str, object]", value)
    if not cell.keys() <= _CELL:
        return cell, "image"
    path, content = cell.get("path"), cell.get("bytes")
    filename = PurePath(path).name if isinstance(path, str) and path else "image"
    return (path if content is None else content), filename


def _name_after(job_id: str | None, image: str | EmbeddedImage) -> str | None:
    if job_id is not None:
        return clean_stem(job_id)
    if isinstance(image, EmbeddedImage):
        path = PurePath(image.name)
        return clean_stem(path.stem if path.suffix else f"row-{path.parent.name}")
    if is_data_url(image):
        return None
    return clean_stem(PurePath(url_filename(image) if remote_url(image) else image).stem)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
