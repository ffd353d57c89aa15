"""The images of a folder or of a glob pattern, and the reason why each other file is left out; blocks."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from apimart_async.transport.files.patterns import matches_of
from apimart_async.transport.media import conversion, inputs, sniffing

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_ACCEPTED: Final = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif")
_CONVERTIBLE: Final = {
    **dict.fromkeys((".heic", ".heif", ".hif"), sniffing.HEIC),
    **dict.fromkeys((".tif", ".tiff"), sniffing.TIFF),
    ".avif": sniffing.AVIF,
    ".bmp": sniffing.BMP,
    ".jxl": sniffing.JXL,
    ".jp2": sniffing.JPEG_2000,
    ".psd": sniffing.PSD,
}
IMAGE_EXTENSIONS: Final = (*_ACCEPTED, *_CONVERTIBLE)

SUBFOLDER: Final = "in a subfolder"
_LINK: Final = "link to a folder"
RESULT: Final = "result of a batch"
_JUNK: Final = frozenset({"thumbs.db", "desktop.ini"})
_PROGRAM: Final = "folder of a program"
# Folders that systems and programs keep thumbnails, copies and deleted files in.
_PROGRAM_FOLDERS: Final = frozenset(
    {
        *("#recycle", "#snapshot", "$recycle.bin", "@eadir", "@recently-snapshot", "@recycle", "__macosx"),
        *("lost+found", "lost.dir", "system volume information"),
    }
)
_PROGRAM_ENDINGS: Final = (".aplibrary", ".lrdata", ".photolibrary", ".photoslibrary")
_PLACEHOLDER: Final = ".icloud"
_NOT_LOCAL: Final = "only in iCloud"
_MAGIC: Final = re.compile(r"[*?\[]")
# O_NONBLOCK: a pipe may have the name of an image.
_READ: Final[int] = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_BINARY"))


def is_pattern(path: Path) -> bool:
    """Tell whether a path that names no file is a glob pattern."""
    return _MAGIC.search(str(path)) is not None and not os.path.lexists(path)


def fixed_part(pattern: Path) -> str:
    """Return the folder that all matches of a glob pattern are in."""
    parts: list[str] = []
    for part in PurePath(os.path.expanduser(pattern)).parts[:-1]:  # noqa: PTH111 a text again
        if _MAGIC.search(part):
            break
        parts.append(part)
    return os.path.join(*parts) if parts else os.curdir  # noqa: PTH118 a text again


def matches(pattern: Path, output: str | None, *, convert: bool) -> Iterator[tuple[str, str | None]]:
    """Yield each match of a glob pattern in order, and the reason why it is left out; ``**`` is any folders.

    Args:
        pattern: The pattern.
        output: Folder of the results, with symbolic links resolved; files in it are not yielded.
        convert: Whether images that have to be converted are taken.
    """
    refused, fixed = _refused(convert=convert), fixed_part(pattern)
    for path in sorted(matches_of(os.path.expanduser(pattern))):  # noqa: PTH111 a text again
        folder = os.path.dirname(path) or os.curdir  # noqa: PTH120 a text again
        if output is not None and PurePath(os.path.realpath(folder)).is_relative_to(output):
            continue
        if os.path.isdir(path):  # noqa: PTH112 a text again
            if "**" not in pattern.parts:
                yield path, "folder"
        elif any(map(_is_of_program, PurePath(os.path.relpath(folder, fixed)).parts)):
            yield path, f"in a {_PROGRAM}"
        elif os.path.basename(path).lower() not in _JUNK:  # noqa: PTH119 a text again
            yield path, _reason(path, refused)


def images(
    folder: str, *, recursive: bool, output: str | None, convert: bool
) -> Iterator[tuple[str, str | None]]:
    """Yield each file of a folder in order, by its path in the folder, and the reason why it is left out.

    Hidden files are not yielded, except placeholders of pictures in iCloud. Of subfolders that are left out,
    only images are yielded. Of a folder of a program, only its own name is yielded.

    Args:
        folder: Its path.
        recursive: Whether the images in subfolders are taken.
        output: Folder of the results, with symbolic links resolved; files in it are not yielded.
        convert: Whether images that have to be converted are taken.
    """
    refused = _refused(convert=convert)
    pending: list[tuple[str, str | None]] = [("", None)]
    while pending:
        below, left_out = pending.pop()
        subfolders: list[tuple[str, str | None]] = []
        for entry in _entries(os.path.join(folder, below), may_fail=left_out is not None):  # noqa: PTH118 a text again
            path = os.path.join(below, entry.name)  # noqa: PTH118 a text again
            if _is_placeholder(entry.name):
                name = entry.name[1 : -len(_PLACEHOLDER)]
                yield os.path.join(below, name), left_out or _NOT_LOCAL  # noqa: PTH118 a text again
            if entry.name.startswith(".") or entry.name.lower() in _JUNK:
                continue
            is_folder, is_file = _kind(entry)
            if is_folder and _is_of_program(entry.name):
                yield path, _PROGRAM
            elif not is_folder:
                reason = _reason(entry.path, refused) if is_file else "no regular file"
                if left_out is None or reason is None:
                    yield path, left_out or reason
            elif entry.is_symlink():
                # It may lead back to a folder above it.
                yield path, _LINK
            elif output is None or os.path.realpath(entry.path) != output:
                has_results = os.path.isdir(os.path.join(entry.path, ".batch"))  # noqa: PTH112, PTH118 a text again
                reason = left_out or (RESULT if has_results else None if recursive else SUBFOLDER)
                subfolders.append((path, reason))
        pending.extend(reversed(subfolders))


def _kind(entry: os.DirEntry[str]) -> tuple[bool, bool]:
    """Tell whether an entry is a folder, and whether it is a file; a link in a circle is neither."""
    try:
        return entry.is_dir(), entry.is_file()
    except OSError:
        return False, False


def _is_of_program(name: str) -> bool:
    name = name.lower()
    return name in _PROGRAM_FOLDERS or name.endswith(_PROGRAM_ENDINGS)


def _is_placeholder(name: str) -> bool:
    """Tell whether a file is the placeholder of a picture that macOS has moved to iCloud."""
    is_hidden = name.startswith(".") and name.endswith(_PLACEHOLDER)
    return is_hidden and name[: -len(_PLACEHOLDER)].lower().endswith(IMAGE_EXTENSIONS)


def _entries(folder: str, *, may_fail: bool) -> list[os.DirEntry[str]]:
    """Return the content of a folder in order of the names."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        if may_fail:
            return []
        raise


def _refused(*, convert: bool) -> Mapping[str, str]:
    """Return the extensions of images that could be converted and are not, each with the reason."""
    kinds = {kind: not convert or not conversion.can_decode(kind) for kind in _CONVERTIBLE.values()}
    return {
        extension: f"{extension[1:].upper()} "
        + (f"without the extra {conversion.extra_of(kind)}" if convert else "with --convert never")
        for extension, kind in _CONVERTIBLE.items()
        if kinds[kind]
    }


def _head(path: str) -> bytes:
    try:
        descriptor = os.open(path, _READ)
        try:
            return os.read(descriptor, sniffing.HEAD_BYTES)
        finally:
            os.close(descriptor)
    except OSError:
        return b""


def _reason(path: str, refused: Mapping[str, str]) -> str | None:
    """Return the reason why a file is left out, ``None`` for an image."""
    extension = os.path.splitext(path)[1].lower()  # noqa: PTH122 a text again
    if extension in refused and sniffing.identify(_head(path)) in inputs.ACCEPTED:
        return None  # phones and messengers give JPEGs names of other formats
    if extension in IMAGE_EXTENSIONS:
        return refused.get(extension)
    return extension[1:].upper() or "without an extension"
