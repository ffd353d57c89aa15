"""A file in the making, which nobody sees until it is whole; all of it blocks.

Where Linux and the file system can, it has no name until then, and a program that dies leaves nothing of it.
Elsewhere it lies hidden beside its place.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from io import FileIO
from pathlib import Path
from random import getrandbits
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from apimart_async.transport.files.folder import Folder

_STEM_SHOWN: Final = 40
_DESCRIPTORS: Final = "/proc/self/fd"
_NAMELESS: Final[int | None] = getattr(os, "O_TMPFILE", None) if Path(_DESCRIPTORS).is_dir() else None

Draft: TypeAlias = "NamelessDraft | HiddenDraft"


def begin_draft(directory: Path, stem: str, folder: Folder) -> Draft:
    """Begin a file that is to lie in a directory, which is made when it is missing.

    Args:
        directory: Where to.
        stem: Part of what it is called while it is hidden.
        folder: What is known of the directory.

    Raises:
        OSError: The file system does not take it.
    """
    try:
        return _begin(directory, stem, folder)
    except FileNotFoundError:
        directory.mkdir(parents=True, exist_ok=True)
        return _begin(directory, stem, folder)


def _begin(directory: Path, stem: str, folder: Folder) -> Draft:
    if _NAMELESS is not None and folder.takes_nameless:
        try:
            return NamelessDraft(directory, stem, folder, os.open(directory, _NAMELESS | os.O_WRONLY, 0o666))
        except FileNotFoundError:
            raise
        except OSError:
            folder.takes_nameless = False
    return HiddenDraft(directory, stem)


class HiddenDraft:
    """A file with a hidden name.

    Attributes:
        file: To be written to; unbuffered: closing it has nothing left to write to a full disk.
        path: Where what was written can be read.
    """

    def __init__(self, directory: Path, stem: str) -> None:
        self.path: str = f"{directory}/.{stem[:_STEM_SHOWN]}-{getrandbits(32):08x}.part"
        self.file: FileIO = FileIO(self.path, "x")

    def finish(self, *, fsync: bool) -> None:
        """Note that all is written."""
        with self.file:
            if fsync:
                os.fsync(self.file.fileno())

    def take(self, target: str) -> bool:
        """Give the file its name unless that is taken: of several at once, one makes the link."""
        try:
            os.link(self.path, target)
        except FileExistsError:
            return False
        except OSError:
            return self._replace(target)
        os.unlink(self.path)
        return True

    def _replace(self, target: str) -> bool:
        # Not every file system has links. An empty file of that name, made by us alone, is as good a claim.
        try:
            FileIO(target, "x").close()
        except FileExistsError:
            return False
        try:
            os.replace(self.path, target)
        except OSError:
            Path(target).unlink(missing_ok=True)
            raise
        return True

    def drop(self) -> None:
        """Remove it, unless it has its name."""
        with suppress(OSError):
            self.file.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


class NamelessDraft:
    """A file without a name.

    Attributes:
        file: As of a hidden one.
        path: As of a hidden one.
    """

    def __init__(self, directory: Path, stem: str, folder: Folder, descriptor: int) -> None:
        self._directory = directory
        self._folder = folder
        self._stem = stem
        self._fsync = False
        self._hidden: HiddenDraft | None = None
        self.path: str = f"{_DESCRIPTORS}/{descriptor}"
        self.file: FileIO = FileIO(descriptor, "w")

    def finish(self, *, fsync: bool) -> None:
        """Note that all is written."""
        self._fsync = fsync
        if fsync:
            os.fsync(self.file.fileno())

    def take(self, target: str) -> bool:
        """Give the file its name unless that is taken."""
        has_taken = self._link(target) if self._hidden is None else self._hidden.take(target)
        if has_taken:
            self.file.close()
        return has_taken

    def _link(self, target: str) -> bool:
        try:
            # The path is whole, but without a folder to start from Python links the link, not the file.
            os.link(self.path, target, src_dir_fd=self.file.fileno(), follow_symlinks=True)
        except FileExistsError:
            return False
        except OSError:
            self._folder.takes_nameless = False
            return self._hide().take(target)
        return True

    def _hide(self) -> HiddenDraft:
        """Copy it to a hidden file, where the file system gives no name to one that has none."""
        hidden = self._hidden = HiddenDraft(self._directory, self._stem)
        with Path(self.path).open("rb") as written:
            shutil.copyfileobj(written, hidden.file)
        hidden.finish(fsync=self._fsync)
        return hidden

    def drop(self) -> None:
        """Remove it, unless it has its name."""
        with suppress(OSError):
            self.file.close()
        if self._hidden is not None:
            self._hidden.drop()
