"""The place of the results of ``edit`` and ``generate``: a directory, or one file with an exact name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import attrs
from anyio import to_thread

from apimart_async.cli.display.output import printable, say
from apimart_async.cli.signals import UsageError
from apimart_async.transport.media.filenames import clean_stem
from apimart_async.transport.object_storage import ObjectPath

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.cli.display.item import Item


@attrs.frozen
class Target:
    """The place of the results.

    Attributes:
        directory: Directory for the images.
        file: Exact path of the only image, if it was given.
        earlier: Names of files that were in the directory before; one may have the same content as the image.
    """

    directory: Path
    file: Path | None = None
    earlier: frozenset[str] = frozenset()

    def name(self, items: list[Item]) -> None:
        """Name the results of the only item after the file."""
        if self.file is not None:
            items[0].name = clean_stem(self.file.stem)

    async def place(self, item: Item) -> None:
        """Give the first image of an item that is done its exact path.

        Cancellation leaves it under the path that it was saved at.
        """
        if self.file is not None and item.paths and item.stage != "failed":
            first, *others = item.paths
            is_earlier = first.name in self.earlier
            item.paths = (await to_thread.run_sync(_move, first, self.file, is_earlier), *others)


def target_of(output: Path, images: int) -> Target:
    """Return the place that ``--output`` means: one file if it has the extension of an image.

    Args:
        output: The option; a directory that exists is one whatever its name.
        images: Number of images that the command makes.

    Raises:
        UsageError: A file is meant, and there will be several images or the file exists; or it is ``-``.
    """
    if str(output) == "-":
        raise UsageError("-o does not take -: results are files, and their paths go to stdout.")
    if not output.suffix or isinstance(output, ObjectPath):  # the import of the batch takes long
        return Target(output)
    from apimart_async.batch.manifest.files import IMAGE_EXTENSIONS

    if output.suffix.lower() not in IMAGE_EXTENSIONS or output.is_dir():
        return Target(output)
    if images != 1:
        raise UsageError(
            f"-o {printable(str(output))} names one file, but {images} images will be made: "
            "name a directory instead."
        )
    if os.path.lexists(output):
        raise UsageError(
            f"{printable(str(output))} exists already, and no file is overwritten: name another one."
        )
    stem = clean_stem(output.stem)
    earlier = output.parent.iterdir() if output.parent.is_dir() else ()
    return Target(
        output.parent, output, frozenset(path.name for path in earlier if path.name.startswith(stem))
    )


def _move(saved: Path, file: Path, is_earlier: bool) -> Path:  # noqa: FBT001 for to_thread.run_sync
    """Give a file a new name, unless that is taken; blocks.

    Args:
        saved: Its path.
        file: Its new path.
        is_earlier: Whether the file was there before the command, and stays.

    Returns:
        Its path.
    """
    if saved == file:
        return file
    try:
        if not _is_linked(saved, file):  # a file system without hard links
            if is_earlier:
                say(f"{printable(str(saved))} has had the same content before, so it is the result.")
                return saved
            file.open("xb").close()  # reserves the name, which a rename would take from another file
            saved.replace(file)
    except FileExistsError:
        say(f"{printable(str(file))} exists by now, so the result is in {printable(str(saved))}.")
        return saved
    if not is_earlier:
        saved.unlink(missing_ok=True)
    if saved.suffix.lower() != file.suffix.lower():
        kind = saved.suffix.removeprefix(".").upper().replace("JPG", "JPEG")
        say(f"{printable(str(file))} is a {kind} image, as the service has sent it.")
    return file


def _is_linked(saved: Path, file: Path) -> bool:
    """Give a file another name, and tell whether the file system can.

    Raises:
        FileExistsError: The name is taken.
    """
    try:
        os.link(saved, file)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True
