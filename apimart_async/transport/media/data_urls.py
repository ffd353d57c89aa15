"""``data:`` URLs (RFC 2397), decoded strictly: malformed base64 and percent escapes are refused."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

SCHEME: Final = "data:"

_BROKEN_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SPACE: Final = b"\t\n\f\r "


def is_data_url(text: str) -> bool:
    """Tell whether a text is a ``data:`` URL, well formed or not."""
    return text[: len(SCHEME)].lower() == SCHEME


def least_size(url: str) -> int:
    """Return a lower bound of the bytes in a ``data:`` URL, from its length alone.

    An escape takes three characters for a byte, base64 takes four for three bytes.
    """
    return max(0, (len(url) - url.find(",") - 1) // 3 - 2)


def decode(url: str) -> bytes:
    """Return the content of a ``data:`` URL.

    The declared type and its parameters are ignored: content is judged by its bytes. As in browsers, base64
    may be broken into lines or lack its padding.

    Args:
        url: The URL; the scheme and ``base64`` in any case.

    Raises:
        ValueError: The text is not a ``data:`` URL, or its content does not match its header.
    """
    header, comma, content = url.partition(",")
    if not is_data_url(url) or not comma:
        raise ValueError("it has no comma before its content")
    try:
        raw = content.encode("ascii")
    except UnicodeEncodeError:
        raise ValueError("its content is not ASCII") from None
    if b"%" in raw:
        if _BROKEN_ESCAPE.search(raw):
            raise ValueError("a % in it is not followed by two hexadecimal digits")
        raw = unquote_to_bytes(raw)
    if header.rpartition(";")[2].strip().lower() != "base64":
        return raw
    packed = raw.translate(None, _SPACE)
    # The padding may be missing, but not partial.
    padded = packed if packed.endswith(b"=") else packed + b"=" * (-len(packed) % 4)
    try:
        return binascii.a2b_base64(padded, strict_mode=True)
    except binascii.Error as error:
        raise ValueError("its content is not base64") from error


def encode(content: bytes, content_type: str) -> str:
    """Return a ``data:`` URL with the content in base64."""
    return f"{SCHEME}{content_type};base64,{base64.b64encode(content).decode('ascii')}"
