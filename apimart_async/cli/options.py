"""The arguments and options that several commands share, and their checks before anything is sent."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Final, TypeAlias

import anyio
from cyclopts import Parameter

from apimart_async.cli.display.output import sentence
from apimart_async.errors import ImageError
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.media import inputs


class UsageError(Exception):
    """The command cannot run with its arguments or in its environment; nothing was sent."""


def flag(name: str, text: str) -> Parameter:
    """Return the parameter of an option without a value."""
    return Parameter(name=name, negative=(), show_default=False, help=text)


DEFAULT_DIRECTORY: Final = Path("edited")

Images: TypeAlias = Annotated[
    list[str], Parameter(negative=(), help="Pictures: JPEG, PNG, WebP or GIF files of at most 20 MiB.")
]
TaskIds: TypeAlias = Annotated[list[str], Parameter(name="IDS", negative=(), help="Ids of tasks.")]
Output: TypeAlias = Annotated[
    Path, Parameter(name=("--output", "-o"), help="Directory for the results; made when it is missing.")
]
Json: TypeAlias = Annotated[
    bool, flag("--json", "Write one JSON object a line to stdout, for each argument in its order.")
]
Local: TypeAlias = Annotated[
    bool, flag("--local", "Try it without a key: an emulator on this machine does the work, for play money.")
]
Inline: TypeAlias = Annotated[
    bool, flag("--inline", "Send pictures inside the request instead of uploading them.")
]
BaseUrl: TypeAlias = Annotated[
    str | None,
    Parameter(name="--base-url", help="The service; APIMART_BASE_URL or https://api.apimart.ai by default."),
]
Timeout: TypeAlias = Annotated[
    float | None, Parameter(name="--timeout", help="Seconds to wait for each task; 600 by default.")
]


def check_timeout(timeout: float | None) -> None:
    """Check the option.

    Raises:
        UsageError: It is not more than 0.
    """
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--timeout must be more than 0 seconds, not {timeout:g}.")


def distinct(images: Iterable[str]) -> list[str]:
    """Return the pictures in order, without those given before, so that none is paid for twice."""
    return list({_identity(image): image for image in reversed(list(images))}.values())[::-1]


def _identity(image: str) -> str:
    return image if "://" in image else os.path.realpath(image)


def check_images(images: Sequence[str], *, limit: int = inputs.MAX_UPLOAD_BYTES) -> None:
    """Check every picture.

    Args:
        images: Paths, addresses or ``data:`` URLs.
        limit: Most bytes of a picture.

    Raises:
        UsageError: Some cannot be sent; it has the reason for each of them.
    """

    async def problem(image: str) -> str | None:
        try:
            if inputs.remote_url(image) is None:
                await inputs.open_media(image, limit=limit)
        except ImageError as error:
            return sentence(error.message)
        return None

    refuse_pictures(anyio.run(for_each, problem, images))


def refuse_pictures(found: Sequence[str | None]) -> None:
    """Raise an error with every problem that was found with pictures.

    Args:
        found: For each picture, its problem if it has one.

    Raises:
        UsageError: Some picture has a problem.
    """
    problems = [problem for problem in found if problem]
    if len(problems) == 1:
        raise UsageError(f"{problems[0]} Nothing was sent.")
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise UsageError(f"{len(problems)} of {len(found)} pictures cannot be sent, so none was:\n{listed}")


def check_directory(directory: Path) -> None:
    """Make the directory for the results, and check that files can be written there.

    Raises:
        UsageError: They cannot.
    """
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is not a directory: name another one with -o.")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"Nothing can be saved in {directory}: {reason}. Name another directory with -o."
        ) from error
