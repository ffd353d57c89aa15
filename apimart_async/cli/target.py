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
    """

    directory: Path
    file: Path | None = None

    def name(self, items: list[Item]) -> None:
        """Name the results of the only item after the file."""
        if self.file is not None:
            items[0].name = clean_stem(self.file.stem)

    async def place(self, item: Item) -> None:
        """Give the first image of an item that is done its exact path.

        Cancellation leaves it under the path that it was saved at.
        """
        if self.file is not None and item.paths:
            first, *others = item.paths
            item.paths = (await to_thread.run_sync(_move, first, self.file), *others)


def target_of(output: Path, images: int) -> Target:
    """Return the place that ``--output`` means: one file if it has the extension of an image.

    Args:
        output: The option; a directory that exists is one whatever its name.
        images: Number of images that the command makes.

    Raises:
        UsageError: A file is meant, and there will be several images or the file exists.
    """
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
    return Target(output.parent, output)


def _move(saved: Path, file: Path) -> Path:
    """Move a file, unless the new name is taken; blocks.

    Returns:
        Its path.
    """
    if saved == file:
        return file
    try:
        os.link(saved, file)
    except FileExistsError:
        say(f"{printable(str(file))} exists by now, so the result is in {printable(str(saved))}.")
        return saved
    except OSError:  # a file system without hard links
        saved.rename(file)
    else:
        saved.unlink()
    if saved.suffix.lower() != file.suffix.lower():
        kind = saved.suffix.removeprefix(".").upper().replace("JPG", "JPEG")
        say(f"{printable(str(file))} is a {kind} image, as the service has sent it.")
    return file
