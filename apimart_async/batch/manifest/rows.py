"""A row of a manifest turned into a job, purely: its columns, and the mistakes in it."""

from __future__ import annotations

import json
import os
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

import attrs

from apimart_async.batch.job import Job
from apimart_async.errors import InvalidArgumentError
from apimart_async.resources.edits import DEFAULT_MODEL
from apimart_async.resources.submission import check_request
from apimart_async.transport.files.names import NameTemplate
from apimart_async.transport.media.data_urls import is_data_url
from apimart_async.transport.media.filenames import clean_stem, url_filename
from apimart_async.transport.media.inputs import remote_url

if TYPE_CHECKING:
    from collections.abc import Mapping

COLUMNS: Final = frozenset({"image", "prompt", "model", "n", "id", "name"})
"""The columns of a job; any other is an option of the request."""

_RESERVED: Final = frozenset({"images", "image_urls"})
_TEXTS: Final = ("prompt", "model", "id", "name")
_LONGEST: Final = 40


@attrs.frozen
class Defaults:
    """Values for rows without their own.

    Attributes:
        prompt: The change to make; ``None`` when every row has its own.
        model: Any model of the service that edits; its default by default.
        n: Number of variants, 1 to 10.
    """

    prompt: str | None = attrs.field(default=None, repr=False)
    model: str | None = None
    n: int = 1


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


def read_row(location: str, values: Mapping[str, Any], folder: str, defaults: Defaults) -> Row | BadRow:
    """Turn a row into a job, or name its mistake.

    A row without a name is named after its id, and one without an id after its image, so that results can be
    told apart.

    Args:
        location: Its location.
        values: Its values by column; ``None`` and empty ones count as missing.
        folder: Base of relative paths.
        defaults: For missing values.
    """
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    try:
        return Row(location, _job(given, folder, defaults))
    except InvalidArgumentError as error:
        return BadRow(location, error.message)


def _job(given: dict[str, Any], folder: str, defaults: Defaults) -> Job:
    try:
        # Neither a request nor a journal can hold half a surrogate pair.
        json.dumps(given, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise InvalidArgumentError("It is not UTF-8: save it as UTF-8.") from error
    if type(given.get("id")) is int:
        given["id"] = str(given["id"])
    for column in _TEXTS:
        if not isinstance(given.get(column, ""), str):
            raise InvalidArgumentError(f"{column} must be a text, not {_shown(given[column])}.")
    prompt = given.get("prompt", defaults.prompt)
    if prompt is None:
        raise InvalidArgumentError("It has no prompt: fill the column, or give one for all rows with -p.")
    model, n, name = given.get("model", defaults.model), given.get("n", defaults.n), given.get("name")
    check_request(prompt, model or DEFAULT_MODEL, n)
    if name is not None:
        NameTemplate.parse(name.replace("{", "{{").replace("}", "}}"))
    image, job_id = _image(given.get("image"), folder), given.get("id")
    reserved = _RESERVED & given.keys()
    if reserved:
        raise InvalidArgumentError(f"{min(reserved)} cannot be an option: name the picture as image.")
    options = {column: value for column, value in given.items() if column not in COLUMNS}
    return Job(image, prompt, model, n, job_id, name or _name_after(job_id, image), options)


def _image(value: object, folder: str) -> str:
    if not isinstance(value, str):
        problem = "It has no image" if value is None else f"image must be a text, not {_shown(value)}"
        raise InvalidArgumentError(f"{problem}: give a path, or an https:// or data: URL.")
    if is_data_url(value) or remote_url(value) is not None:
        return value
    if "\0" in value:
        raise InvalidArgumentError("The path of the image holds a zero byte.")
    # Absolute, so that a batch can be continued from another directory.
    return os.path.normpath(os.path.join(folder, os.path.expanduser(value)))  # noqa: PTH111, PTH118 a text again


def _name_after(job_id: str | None, image: str) -> str | None:
    if job_id is not None:
        return clean_stem(job_id)
    if is_data_url(image):
        return None
    return clean_stem(PurePath(url_filename(image) if remote_url(image) else image).stem)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
