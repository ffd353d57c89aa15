"""A row of a manifest turned into a job: its columns, its options, its image, and its mistakes."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

import attrs

from apimart_async.batch.job import Job
from apimart_async.batch.manifest.jsonl import parse_json
from apimart_async.batch.manifest.paths import found_path, names_another_host
from apimart_async.batch.nesting import MOST_LEVELS, is_too_deep
from apimart_async.batch.requests import APIMART_MODELS, check_job
from apimart_async.errors import InvalidArgumentError
from apimart_async.resources.submission import Operation, is_free
from apimart_async.transport.files.names import NameTemplate
from apimart_async.transport.media.data_urls import is_data_url
from apimart_async.transport.media.filenames import clean_stem, url_filename
from apimart_async.transport.media.forms import is_in_store, remote_url, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

COLUMNS: Final = frozenset({"image", "image_with_roles", "prompt", "model", "n", "id", "name", "operation"})
"""The columns of a job."""

OPTIONS: Final = frozenset(
    {
        *("background", "language", "mask_url", "moderation", "output_compression", "output_format"),
        *("quality", "resolution", "size", "webhook"),
    }
)
"""The documented fields of the service's requests; columns of these names are options."""

NOT_UTF8: Final = "It is not UTF-8: save it as UTF-8."
_PREFIX: Final = "option."
_MARK: Final = "\ufeff"
"""Byte order mark; a file that was saved repeatedly may have several."""

ALIASES: Final = {"file_name": "image", "images": "image", "image_urls": "image"}
"""The name in the metadata files of Hugging Face's image folders, and those for several images."""

IMAGE_COLUMNS: Final = frozenset({"image", "option.mask"})
"""The columns whose cells may hold the bytes of an image."""

_IMAGES: Final = frozenset({"images", "image_urls"})
_KNOWN: Final = COLUMNS | OPTIONS | ALIASES.keys()
_CALLS: Final = ("webhook", "callback")
_TEXTS: Final = ("prompt", "model", "id", "name", "operation")
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
        model: Any model of the service; the default of the operation by default.
        n: Number of variants, 1 or more.
        operation: ``"edit"`` by default. Only with ``"generate"``, here or in a row, may a row have no image.
        recursive: Whether the images of a folder include those in its subfolders.
        output: Folder of the results; images in it are not images of the manifest.
        allow_outside: Whether rows may name images outside the folder of the manifest.
        allow_webhook: Whether rows may name an address for the service to call.
        convert: Whether images that have to be converted are taken.
        models: The operations of the service, and the model of rows that name none.
    """

    prompt: str | None = attrs.field(default=None, repr=False)
    model: str | None = None
    n: int = 1
    operation: Operation = "edit"
    recursive: bool = False
    output: Path | None = None
    allow_outside: bool = False
    allow_webhook: bool = False
    convert: bool = True
    models: Mapping[Operation, str] = APIMART_MODELS


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
    """A row that is not a valid job.

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


def read_columns(names: Sequence[str], *, needs_image: bool = True) -> Sequence[str]:
    """Return the columns of a table, with known names in lower case.

    Args:
        names: As they are.
        needs_image: Whether there must be a column ``image``, unless there is one ``operation``.

    Raises:
        InvalidArgumentError: There is no column ``image``, or one twice.
    """
    columns = [column_name(name) for name in names]
    if "image" not in columns:
        columns = [ALIASES.get(column, column) for column in columns]
    if needs_image and not {"image", "image_with_roles", "operation"} & set(columns):
        found = f", only {_shown(','.join(names))}" if any(names) else ""
        raise InvalidArgumentError(
            f"The first line of the manifest names no column `image`{found}; "
            "it should look like: image,prompt"
        )
    if "prompt" not in columns and not needs_image and "image" not in columns:
        raise InvalidArgumentError(
            "The first line of the manifest names no column `prompt`; it should look like: prompt"
        )
    _check_distinct(columns, "The manifest")
    return columns


def column_name(name: str) -> str:
    """Return the name of a column: in lower case if it is known, and without spaces around it."""
    name = name.strip().strip(_MARK).strip()
    known = name.lower()
    if known.startswith(_PREFIX):
        return f"{_PREFIX}{name[len(_PREFIX) :]}"
    return known if known in _KNOWN else name


def option_name(column: str) -> str | None:
    """Return the field of the request that a column is, ``None`` for any other column."""
    if column in OPTIONS:
        return column
    return column.removeprefix(_PREFIX) or None if column.startswith(_PREFIX) else None


def _check_distinct(columns: Sequence[str], subject: str) -> None:
    fields = [option_name(column) or column for column in columns if column]
    twice = {field for field, count in Counter(fields).items() if count > 1}
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
        folder: Folder of the manifest.
        options: Options of the manifest.
        embedding: Path in the names of images that are inside the manifest.
    """
    if is_too_deep(values):
        return BadRow(location, f"It has more than {MOST_LEVELS} lists or objects within each other.")
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
    cells, roles = _images_in(given)
    mask_cell = given.pop("option.mask", None)
    try:
        # Neither a request, a journal nor a path can hold half a surrogate pair.
        images = [_image(cell, folder, options, embedding) for cell in cells]
        mask = None if mask_cell is None else _image(mask_cell, folder, options, embedding)
        given_images = images if mask is None else [*images, mask]
        texts = [image if isinstance(image, str) else image.name for image in given_images]
        json.dumps([texts, roles, given, extra], ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(NOT_UTF8) from error
    for column in ("n", "id"):
        # Spreadsheets and data frames write whole numbers as 2.0 in columns with gaps.
        if isinstance(given.get(column), float) and given[column].is_integer():
            given[column] = int(given[column])
    if type(given.get("id")) is int:
        given["id"] = str(given["id"])
    for column in _TEXTS:
        if not isinstance(given.get(column, ""), str):
            raise InvalidArgumentError(f"{column} must be a text, not {_shown(given[column])}.")
    operation = cast("Operation", given.get("operation", options.operation).lower())
    prompt = given.get("prompt", "" if is_free(operation) else options.prompt)
    fields = {field: value for column, value in given.items() if (field := option_name(column))}
    if not images and operation != "generate":
        raise InvalidArgumentError(
            "It has no image: give a path, or an https:// or data: URL, or `generate` as its operation."
        )
    if prompt is None:
        raise InvalidArgumentError("It has no prompt: fill the column, or give one for all rows with -p.")
    name, job_id = given.get("name"), given.get("id")
    if name is not None:
        NameTemplate.parse(name.replace("{", "{{").replace("}", "}}"))
    _check_fields(fields.keys() | {name for name in _IMAGES if extra.get(name)}, options)
    job = Job(
        image=None if not images else images[0] if len(images) == 1 else images,
        prompt=prompt,
        model=given.get("model", options.model),
        n=given.get("n", options.n),
        id=job_id,
        name=name or _name_after(job_id, images[0] if images else None),
        options=fields if mask is None else {**fields, "mask": mask},
        extra=extra,
        operation=operation,
        roles=roles,
    )
    check_job(job, options.models)
    return job


def is_remote(image: str | EmbeddedImage) -> TypeGuard[str]:
    """Tell whether an image of a row is at a URL, which the service reads."""
    return isinstance(image, str) and remote_url(image) is not None


def all_images(job: Job) -> list[str | EmbeddedImage]:
    """Return the images of a job of a manifest, and its mask after them."""
    images: object = [] if job.image is None else job.image if isinstance(job.image, list) else [job.image]
    mask = [job.options["mask"]] if "mask" in job.options else []
    return [*cast("list[str | EmbeddedImage]", images), *mask]


def _images_in(given: dict[str, Any]) -> tuple[Sequence[object], Sequence[str]]:
    """Take the images and their roles from the values of a row.

    Raises:
        InvalidArgumentError: Two columns hold images, or roles have a wrong form.
    """
    image, pairs = given.pop("image", None), given.pop("image_with_roles", None)
    if pairs is None:
        images = _as_list(image)
        return [] if len(images) == 1 and _content(images[0])[0] is None else images, ()
    if image is not None:
        raise InvalidArgumentError("It has both image and image_with_roles: remove one of them.")
    entries = [
        cast("Mapping[str, Any]", pair) if isinstance(pair, Mapping) else dict[str, Any]()
        for pair in _as_list(pairs)
    ]
    if not entries or any(entry.keys() != {"url", "role"} for entry in entries):
        raise InvalidArgumentError(
            f'image_with_roles must look like [{{"url": "a.jpg", "role": "…"}}], not {_shown(pairs)}.'
        )
    return [entry["url"] for entry in entries], [entry["role"] for entry in entries]


def _as_list(value: object) -> list[object]:
    """Return a list, which a CSV file has as JSON, or a list of the only value."""
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError):
            parsed = parse_json(value)
            value = value if is_too_deep(parsed) else parsed
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _check_formulas(given: Mapping[str, Any]) -> None:
    for column, value in given.items():
        if isinstance(value, str) and value in _ERRORS:
            raise InvalidArgumentError(f"{column} is {value}, the error of a formula in a spreadsheet.")


def _check_fields(fields: AbstractSet[str], options: ManifestOptions) -> None:
    reserved = (COLUMNS | _IMAGES) & fields
    if reserved:
        raise InvalidArgumentError(
            f"{min(reserved)} cannot be an option: a row has columns for it and for "
            "image, prompt, model, n, id, name and operation."
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
        raise InvalidArgumentError(
            f"image must be a text, not {_shown(value)}: give a path, or an https:// or data: URL."
        )
    if is_data_url(value) or remote_url(value) is not None:
        return value
    if "\0" in value:
        raise InvalidArgumentError("The path of the image holds a zero byte.")
    if is_in_store(value):
        if not options.allow_outside:
            raise InvalidArgumentError(
                f"{shown(value)} is in object storage, which your credentials open: permit such images with "
                "--allow-outside, if you trust the manifest."
            )
        return value
    is_elsewhere = not options.allow_outside and names_another_host(value, folder.path)
    path = value if is_elsewhere else found_path(value, folder.path)
    if is_elsewhere or (not options.allow_outside and not folder.contains(path)):
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


def _name_after(job_id: str | None, image: str | EmbeddedImage | None) -> str | None:
    if job_id is not None:
        return clean_stem(job_id)
    if isinstance(image, EmbeddedImage):
        path = PurePath(image.name)
        return clean_stem(path.stem if path.suffix else f"row-{path.parent.name}")
    if image is None or is_data_url(image):
        return None
    filename = url_filename(image) if remote_url(image) else image
    return clean_stem(os.path.splitext(os.path.basename(filename))[0])  # noqa: PTH119, PTH122 a path takes five times as long


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
