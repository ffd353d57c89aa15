"""File names that are valid on every system.

Such a name is one plain component: no separator, control character, quote or wildcard, no leading dot, no
device name of Windows.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import unquote

from apimart_async.transport.media.sniffing import IMAGES

# File systems take 255 bytes. A suffix, an extension and the name of the unfinished file have to fit as well.
STEM_BYTES: Final = 180

_DEVICES: Final = frozenset(
    {"AUX", "CON", "CONIN$", "CONOUT$", "NUL", "PRN"}
    | {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
)

PLAIN: Final = re.compile(
    rf"(?!(?i:{'|'.join(map(re.escape, sorted(_DEVICES)))})\Z)"
    rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{STEM_BYTES - 1}}}\Z"
)
"""Matches most stems that are valid everywhere; any other needs a closer look."""

# Control characters, those with a meaning on some file system or in a header, line and paragraph separators,
# characters that reorder the text around them, and halves of surrogate pairs.
_FORBIDDEN: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f"*/:<>?\\|\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]'
)
_QUERY: Final = re.compile(r"[?#].*\Z", re.DOTALL)
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")
_LEADING: Final = re.compile(r"^[\s.\-]+")
_TRAILING: Final = re.compile(r"[\s.]+$")


def safe_filename(name: str, content_type: str) -> str:
    """Return a file name that is safe to send, as close to the given name as possible.

    Args:
        name: Any text. Of a path, with either separator, only the last component counts.
        content_type: MIME type; gives the extension when the name has none.

    Returns:
        A plain name with an extension, at most 200 bytes in UTF-8. Other than ASCII characters are kept.
    """
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1].strip(" .")
    extension = _EXTENSION.search(last)
    if extension:
        return clean_stem(last[: extension.start()]) + extension.group()
    fitting = next((kind.extension for kind in IMAGES if kind.content_type == content_type), None)
    return clean_stem(last) + (fitting or ".bin")


def url_filename(url: str) -> str:
    """Return the decoded last component of the path of a URL; empty for a URL without a path."""
    path = _QUERY.sub("", url).partition("://")[2].partition("/")[2]
    return unquote(path.rstrip("/").rpartition("/")[2])


def clean_stem(text: str, limit: int = STEM_BYTES) -> str:
    """Turn any text into a stem that is valid on every system.

    Args:
        text: Any text.
        limit: Most bytes of the stem.

    Returns:
        The text with each forbidden character replaced by ``_``; ``"image"`` when nothing remains.
    """
    if len(text) <= limit and PLAIN.match(text):
        return text
    stem = _shorten(unicodedata.normalize("NFC", _FORBIDDEN.sub("_", text)), limit)
    return _shorten(f"_{stem}", limit) if _is_device(stem) else stem or "image"


def stem_fault(stem: str) -> str | None:
    """Say why a stem is not valid on every system, or return ``None`` for a valid one."""
    if not stem or stem.isspace():
        return "is empty"
    forbidden = _FORBIDDEN.search(stem)
    if forbidden:
        return f"holds {forbidden.group()!r}, which a file name cannot hold everywhere"
    if stem.startswith(".") or stem != stem.strip() or stem.endswith("."):
        return "begins with a dot, or begins or ends with a space, or ends with a dot"
    if _is_device(stem):
        return "is a device on Windows"
    if len(stem.encode()) > STEM_BYTES:
        return f"is longer than {STEM_BYTES} bytes"
    return None


def _shorten(stem: str, limit: int) -> str:
    cut = _LEADING.sub("", stem).encode()[:limit].decode(errors="ignore")
    return _TRAILING.sub("", cut)


def _is_device(stem: str) -> bool:
    return stem.partition(".")[0].rstrip().upper() in _DEVICES
