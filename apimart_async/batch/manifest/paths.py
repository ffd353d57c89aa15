"""The path of an image as a manifest spells it, which may differ from its name on this disk; blocks."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_QUOTES: Final = "\"'\u201c\u201d\u2018\u2019"
# Marks of direction and blanks without width, which come with a path that is copied from a window.
_INVISIBLE: Final = re.compile("[\u200b-\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")


def names_another_host(value: str, folder: str, paths: Any = os.path) -> bool:  # noqa: ANN401 a module
    """Tell whether a path is on a server of the network, or a device, that the folder is not on.

    Windows logs in to such a server with the user's name as soon as a program looks for the file.

    Args:
        value: Path in the manifest.
        folder: Path of the folder of the manifest.
        paths: ``os.path``, or that of another system.
    """
    drive, own = (paths.splitdrive(text.replace("/", "\\"))[0].casefold() for text in (_plain(value), folder))
    return bool(drive.startswith("\\\\") and drive != own)


def found_path(value: str, folder: str) -> str:
    """Return the absolute path of an image.

    If there is no file of the name as it is written, the same name is tried without quotation marks and
    invisible characters around it, with the separators of this system, and in both Unicode normal forms:
    Windows copies a path with quotation marks and writes backslashes, macOS decomposes letters.

    Args:
        value: Path in the manifest, relative to the folder.
        folder: Path of the folder of the manifest.
    """
    exact = _absolute(value, folder)
    if os.path.lexists(exact):
        return exact
    return next((path for path in _others(value, folder) if os.path.lexists(path)), exact)


def _others(value: str, folder: str) -> Iterator[str]:
    plain = _plain(value)
    for text in dict.fromkeys((plain, plain.replace("\\", os.sep))):
        if text and "\0" not in text:
            for form in ("NFC", "NFD"):
                yield _absolute(unicodedata.normalize(form, text), folder)


def _plain(value: str) -> str:
    return _INVISIBLE.sub("", value).strip().strip(_QUOTES).strip()


def _absolute(value: str, folder: str) -> str:
    # Absolute, so that a batch can be continued from another directory.
    return os.path.normpath(os.path.join(folder, os.path.expanduser(value)))  # noqa: PTH111, PTH118 a text again
