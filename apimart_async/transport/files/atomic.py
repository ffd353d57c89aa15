"""A download on its way to a file: unseen until it is whole, then there all at once.

No file that exists is ever written to or replaced, and a file gets its name when it is whole: a program that
dies at any moment leaves a whole file of that name or none. That the same holds after a power cut has to be
asked for: waiting until file and name are on the disk takes milliseconds, and a fifth of what an edit costs.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from apimart_async.errors import DownloadError
from apimart_async.transport.files.draft import begin_draft
from apimart_async.transport.files.folder import folder_at
from apimart_async.transport.files.names import RESULT_EXTENSIONS
from apimart_async.transport.files.threads import on_disk
from apimart_async.transport.media import sniffing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from apimart_async.transport.files.draft import Draft
    from apimart_async.transport.files.folder import Folder

_BUFFER_BYTES: Final = 512 * 1024
_LARGE_BYTES: Final = 1024 * 1024
_MOST_NAMESAKES: Final = 10_000


class Coming(Protocol):
    """What is written, piece by piece."""

    async def pour(self, take: Callable[[bytes | memoryview], bool], /) -> bool:
        """Hand over what comes until that is all, or there is no more room; return whether it was all."""
        ...


async def land(
    content: Coming, directory: Path, stem: str, *, told: str | None = None, fsync: bool = False
) -> Path:
    """Write an image to a new file, or find the file that holds the same already.

    Args:
        content: What comes; its first piece is long enough to tell the kind of image.
        directory: Made when it is missing.
        stem: Name without extension, valid on every system. Where a file of that name holds something else,
            ``-2``, ``-3``, … is added to it.
        told: Extension that its URL tells; what it gets comes from its content.
        fsync: Return only when it would survive a power cut.

    Returns:
        Where it is.

    Raises:
        DownloadError: The file system did not take it; the reason is in the message.

    Failing or cancelling it leaves no file behind.
    """
    folder = folder_at(str(directory))
    landing = _Landing(directory, stem, folder, told=told, fsync=fsync)
    try:
        while not await content.pour(landing.take):
            await on_disk(landing.spill)
        # Syncing takes milliseconds, however quick the folder is.
        path = await (on_disk(landing.publish) if fsync else folder.call(landing.publish))
        if path is None:  # namesakes have to be read
            path = await on_disk(landing.publish_beside)
    except OSError as error:
        raise _not_saved(directory, error) from error
    else:
        return path
    finally:
        if landing.is_on_disk:
            with anyio.CancelScope(shield=True):
                await on_disk(landing.discard)


async def find_saved(directory: Path, stems: Sequence[str], told: Sequence[str | None]) -> list[Path | None]:
    """Find the images that are saved already, of the kinds services make; one cut short does not count.

    Asking for all five extensions is 0.05 of a download of 200 KB. Where files have been called as their URLs
    tell, it is asked for that one alone; if that is wrong for once, an image that is there already is
    downloaded again, and finds its like.

    Args:
        directory: Made when it is missing.
        stems: Their names without extension.
        told: Extension that the URL of each tells.

    Raises:
        DownloadError: The directory is missing and cannot be made.
    """
    folder = folder_at(str(directory))
    try:
        return await folder.call(_find_saved, directory, stems, told, folder)
    except OSError as error:
        raise _not_saved(directory, error) from error


def _find_saved(
    directory: Path, stems: Sequence[str], told: Sequence[str | None], folder: Folder
) -> list[Path | None]:
    if not folder.was_there:
        directory.mkdir(parents=True, exist_ok=True)
        folder.was_there = True
    return [
        _complete_image(f"{directory}/{stem}", extension, folder)
        for stem, extension in zip(stems, told, strict=True)
    ]


def _not_saved(directory: Path, error: OSError) -> DownloadError:
    return DownloadError(
        f"Nothing can be saved in {directory}: {error.strerror or error}. "
        "What was paid for is not lost: make room or choose another directory, and save again."
    )


class _Landing:
    """The state of one file in the making; all of its methods but ``take`` block."""

    def __init__(self, directory: Path, stem: str, folder: Folder, *, told: str | None, fsync: bool) -> None:
        self._told = told
        self._fsync = fsync
        self._directory = directory
        self._stem = stem
        self._folder = folder
        self._head = b""
        self._pieces: list[bytes] = []
        self._buffered = 0
        self._draft: Draft | None = None
        self._failure: OSError | None = None

    @property
    def is_on_disk(self) -> bool:
        """Tell whether there is anything to discard."""
        return self._draft is not None

    def take(self, piece: bytes | memoryview) -> bool:
        """Write a piece at once where the folder is quick, or keep it; return whether there is room for more.

        Where there is none, ``spill`` makes room, or raises what went wrong.
        """
        self._head = self._head or bytes(piece[: sniffing.HEAD_BYTES])
        # On the loop at once, as long as it is in the processor's cache; to a thread rarely.
        if not self._folder.is_quick or self._pieces or len(piece) > _LARGE_BYTES:
            self._pieces.append(bytes(piece))
            self._buffered += len(piece)
            return self._buffered < _BUFFER_BYTES
        try:
            self._folder.call_now(self._write, piece)
        except OSError as error:
            self._failure = error
        return self._failure is None

    def spill(self) -> Draft:
        """Write what is kept."""
        if self._failure is not None:
            raise self._failure
        for piece in self._pieces:
            self._write(piece)
        self._pieces.clear()
        self._buffered = 0
        return self._draft or self._begin()

    def _write(self, piece: bytes | memoryview) -> None:
        file = (self._draft or self._begin()).file
        written = file.write(piece)
        while written < len(piece):
            written += file.write(memoryview(piece)[written:])

    def _begin(self) -> Draft:
        self._draft = begin_draft(self._directory, self._stem, self._folder)
        return self._draft

    def publish(self) -> Path | None:
        """Finish the file and give it its name; return nothing if that is taken."""
        draft = self._draft
        if draft is None or self._pieces or self._failure is not None:
            draft = self.spill()
        draft.finish(fsync=self._fsync)
        name = self._name(1)
        return self._published(name) if draft.take(f"{self._directory}/{name}") else None

    def publish_beside(self) -> Path:
        """Give a finished file the first name that is free, or drop it when a namesake holds the same."""
        draft = self.spill()
        for number in range(1, _MOST_NAMESAKES):
            name = self._name(number)
            path = f"{self._directory}/{name}"
            if draft.take(path):
                return self._published(name)
            if _same_content(draft.path, path):
                draft.drop()
                return self._published(name)
        message = f"there are {_MOST_NAMESAKES} files called {self._stem} already"
        raise OSError(message)

    def _name(self, number: int) -> str:
        extension = sniffing.identify(self._head).extension or ".bin"
        return f"{self._stem}{f'-{number}' if number > 1 else ''}{extension}"

    def _published(self, name: str) -> Path:
        if self._fsync:
            _sync_directory(self._directory)
        self._draft = None
        self._folder.learn(self._told, name[name.rindex(".") :])
        return self._directory.joinpath(name)

    def discard(self) -> None:
        """Remove what there is."""
        if self._draft is not None:
            self._draft.drop()


def _same_content(draft: str, other: str) -> bool:
    try:
        # What is no file, such as a pipe that would never end, has no size either.
        if os.stat(other).st_size != os.stat(draft).st_size:
            return False
        with Path(draft).open("rb") as left, Path(other).open("rb") as right:
            while block := left.read(_BUFFER_BYTES):
                if block != right.read(_BUFFER_BYTES):
                    return False
    except OSError:
        return False
    return True


def _sync_directory(directory: Path) -> None:
    """Make a new name in it survive a power cut, on systems where a directory can be synced."""
    with suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _complete_image(stem: str, told: str | None, folder: Folder) -> Path | None:
    for extension in RESULT_EXTENSIONS if told is None or not folder.trusts_urls else (told,):
        # Most are not there, and an exception takes longer than asking.
        if os.access(stem + extension, os.F_OK) and _is_complete(stem + extension):
            folder.learn(told, extension)
            return Path(stem + extension)
    return None


def _is_complete(path: str) -> bool:
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            return False
        with FileIO(path) as file:
            head = file.read(sniffing.HEAD_BYTES)
            file.seek(max(0, status.st_size - sniffing.TAIL_BYTES))
            tail = file.read(sniffing.TAIL_BYTES)
    except OSError:
        return False
    kind = sniffing.identify(head)
    return kind.extension is not None and not sniffing.is_cut_short(kind, head, tail, status.st_size)
