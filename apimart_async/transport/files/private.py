"""Files for their user alone, in folders that a stranger may have prepared. Everything here blocks.

No link is followed: one could lead to a file outside, which would then be emptied or filled.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path  # attrs resolves it at run time
from random import getrandbits
from typing import TYPE_CHECKING, Final, Self, TextIO

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable

_FILE_MODE: Final = 0o600
_FOLDER_MODE: Final = 0o700
_CREATE: Final = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0)


class LinkError(OSError):
    """There is a link where a file or a folder has to be."""


def make_private_folder(folder: Path) -> None:
    """Create a folder for its user alone, or check that there is no link in it.

    Raises:
        LinkError: The folder or a file in it is a link.
        OSError: It cannot be created.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=_FOLDER_MODE)
    refuse_links(folder)
    with suppress(PermissionError):  # the folder of another user
        folder.chmod(_FOLDER_MODE)


def refuse_links(folder: Path) -> None:
    """Check that a folder and the files in it are no links.

    Raises:
        LinkError: The folder or a file is a link.
        OSError: It cannot be read.
    """
    paths = [folder, *folder.iterdir()] if not folder.is_symlink() else [folder]
    for path in paths:
        refuse_link(path)


def refuse_link(path: Path, *, hard: bool = False) -> None:
    """Check that a path is no link; nothing need be there.

    Args:
        path: The path.
        hard: Whether a file with a second name is refused too: the file outside would be written with it.

    Raises:
        LinkError: The path is a link.
        OSError: It cannot be examined.
    """
    with suppress(FileNotFoundError):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            raise LinkError(f"{path} is a symbolic link, which could lead anywhere; remove it")
        if hard and stat.S_ISREG(status.st_mode) and status.st_nlink > 1:
            raise LinkError(
                f"{path} is a hard link: a file of another name would be written too; put a copy in its place"
            )


def create_private_file(path: Path) -> int:
    """Create a file for its user alone, and return its descriptor, open for writing.

    Raises:
        FileExistsError: The file, or a link of this name, exists.
        OSError: It cannot be created.
    """
    return os.open(path, _CREATE, _FILE_MODE)


@attrs.define(eq=False)
class Replacement:
    """A text file that replaces another when it is whole.

    Attributes:
        target: Path of the file to replace, which may be missing. A link there is replaced, not followed.
    """

    target: Path
    _path: Path
    _file: TextIO

    @classmethod
    def begin(cls, target: Path) -> Self:
        """Create the new file, under a random name beside the target.

        Raises:
            OSError: It cannot be created.
        """
        path = target.with_name(f".{target.name}-{getrandbits(64):016x}.part")
        descriptor = create_private_file(path)
        return cls(target, path, os.fdopen(descriptor, "w", encoding="utf-8", errors="replace", newline=""))

    def write(self, parts: Iterable[str]) -> None:
        """Append texts.

        Raises:
            OSError: The file system refused them.
        """
        self._file.writelines(parts)

    def finish(self) -> None:
        """Give the new file the name of the target.

        Raises:
            OSError: The file system refused.
        """
        self._file.close()
        self._path.replace(self.target)

    def discard(self) -> None:
        """Remove the new file, unless it is finished."""
        with suppress(OSError):
            self._file.close()
        self._path.unlink(missing_ok=True)
