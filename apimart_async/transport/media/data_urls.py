"""``data:`` URLs (RFC 2397) and base64, in all spellings that are not ambiguous; the rest is refused."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEME: Final = "data:"

_DAMAGE: Final = re.compile('[ "]')
_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SPACE: Final = b"\t\n\f\r "
_AT_THE_END: Final = "=\t\n\f\r "
_URL_SAFE: Final = bytes.maketrans(b"-_", b"+/")
_NOT_ASCII: Final = "its content is not ASCII"
_QUANTUM: Final = 4
_PIECE: Final = 256 * 1024


def is_data_url(text: str) -> bool:
    """Tell whether a text is a ``data:`` URL, well formed or not."""
    return text[: len(SCHEME)].lower() == SCHEME


def normalized(url: str) -> str:
    """Return a ``data:`` URL with its scheme in lower case, and any other URL as it is."""
    return SCHEME + url[len(SCHEME) :] if is_data_url(url) else url


def least_size(url: str) -> int:
    """Return a lower bound of the bytes in a ``data:`` URL, from its length alone.

    An escape takes three characters for a byte, base64 takes four for three bytes.
    """
    return max(0, (len(url) - url.find(",") - 1) // 3 - 2)


def decode(url: str) -> bytes:
    """Return the content of a ``data:`` URL.

    The declared type and its parameters are ignored: content is judged by its bytes. As in browsers, base64
    may be broken into lines or lack its padding; as from services, it may be URL-safe or have too much of it.

    Args:
        url: The URL; the scheme and ``base64`` in any case.

    Raises:
        ValueError: The text is not a ``data:`` URL, or its content does not match its header.
    """
    start = url.find(",") + 1
    if not is_data_url(url) or not start:
        raise ValueError("it has no comma before its content")
    is_base64 = url[:start].rpartition(";")[2].rstrip(", ").lstrip().lower() == "base64"
    if is_base64 and _DAMAGE.search(url, start):
        url, start = _repaired(url[start:]), 0
    if not is_base64 or "%" in url:
        raw = _unescape(url[start:])
        return b"".join(_decode_base64(raw.decode("latin-1"), 0)) if is_base64 else raw
    return b"".join(_decode_base64(url, start))


def _repaired(text: str) -> str:
    """Undo two usual damages of base64: quotation marks around it, and plus signs decoded to blanks."""
    text = text.strip('"').lstrip()
    if "+" in text or "\n" in text:
        return text  # blanks are line breaks
    while text.endswith(" ") and len(text) % _QUANTUM:
        text = text[:-1]
    return text.replace(" ", "+")


def _unescape(text: str) -> bytes:
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError(_NOT_ASCII) from None
    if _BROKEN_ESCAPE.search(raw):
        raise ValueError("a % in it is not followed by two hexadecimal digits")
    return unquote_to_bytes(raw)


def _decode_base64(text: str, start: int) -> Iterator[bytes]:
    # In pieces of about a millisecond: each keeps the interpreter's lock, and so stops the event loop.
    end = len(text)
    while end > start:
        tail = text[max(start, end - _PIECE) : end]
        kept = tail.rstrip(_AT_THE_END)
        end -= len(tail) - len(kept)
        if kept:
            break
    rest = b""
    try:
        for offset in range(start, end, _PIECE):
            piece = text[offset : min(offset + _PIECE, end)].encode("ascii")
            piece = rest + piece.translate(_URL_SAFE, _SPACE)
            # Padding within it must not become its end.
            whole = 0 if b"=" in piece else len(piece) - len(piece) % _QUANTUM
            rest = piece[whole:]
            yield binascii.a2b_base64(piece[:whole], strict_mode=True)
        yield binascii.a2b_base64(rest + b"=" * (-len(rest) % _QUANTUM), strict_mode=True)
    except UnicodeEncodeError:
        raise ValueError(_NOT_ASCII) from None
    except binascii.Error as error:
        raise ValueError("its content is not base64") from error


def encode(content: bytes, content_type: str) -> str:
    """Return a ``data:`` URL with the content in base64."""
    return f"{SCHEME}{content_type};base64,{base64.b64encode(content).decode('ascii')}"
