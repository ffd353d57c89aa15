"""What is looked at before anything is sent: the pictures, and the place for the results."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import anyio

from apimart_async.cli.display.text import sentence
from apimart_async.cli.exits import UsageError
from apimart_async.errors import ImageError
from apimart_async.transport.concurrent import for_each
from apimart_async.transport.media import inputs


def once_each(images: Iterable[str]) -> list[str]:
    """Return the pictures in order without those that are given again, so that none is paid for twice."""
    return list({_identity(image): image for image in reversed(list(images))}.values())[::-1]


def _identity(image: str) -> str:
    return image if "://" in image else os.path.realpath(image)


def check_images(images: Sequence[str], *, limit: int = inputs.MAX_UPLOAD_BYTES) -> None:
    """Look at every picture.

    Args:
        images: Paths, addresses or ``data:`` URLs.
        limit: Most bytes one may have.

    Raises:
        UsageError: Some cannot be sent; it names each of them and why.
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
    """Name every problem that was found with pictures.

    Args:
        found: For each picture, what is wrong with it.

    Raises:
        UsageError: There are some.
    """
    problems = [problem for problem in found if problem]
    if len(problems) == 1:
        raise UsageError(f"{problems[0]} Nothing was sent.")
    if problems:
        listed = "\n".join(f"  {found}" for found in problems)
        raise UsageError(f"{len(problems)} of {len(found)} pictures cannot be sent, so none was:\n{listed}")


def check_directory(directory: Path) -> None:
    """Make the directory for the results and try that files can be written there.

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
