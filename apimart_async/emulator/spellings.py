"""The spellings of base64 that services use, and images of any size."""

from __future__ import annotations

import base64
import os
import struct
import textwrap
import zlib
from typing import Final, Literal

Base64Spelling = Literal["plain", "data-url", "url-safe", "unpadded", "lines", "in-url"]

BASE64_SPELLINGS: Final[tuple[Base64Spelling, ...]] = (
    "plain",
    "data-url",
    "url-safe",
    "unpadded",
    "lines",
    "in-url",
)
"""The spellings of an image in base64, the documented one first."""

_LINE = 76
_END_OF_PNG = 12
_CHUNK_OVERHEAD = 12
_PADDING_CHUNK = b"paDd"


def inline_image(content: bytes, content_type: str, spelling: Base64Spelling) -> dict[str, str]:
    """Return an entry of `data` with the image inside: as `b64_json`, or for "in-url" as `url`."""
    text = base64.b64encode(content).decode()
    if spelling == "data-url":
        text = f"data:{content_type};base64,{text}"
    elif spelling == "url-safe":
        text = base64.urlsafe_b64encode(content).decode()
    elif spelling == "unpadded":
        text = text.rstrip("=")
    elif spelling == "lines":
        text = "\r\n".join(textwrap.wrap(text, _LINE))
    return {"url" if spelling == "in-url" else "b64_json": text}


def decode(text: str) -> bytes:
    """Return the image in base64 of any spelling."""
    packed = text.rpartition(",")[2].replace("-", "+").replace("_", "/")
    return base64.b64decode(f"{packed}==")


def enlarge(png: bytes, size: int) -> bytes:
    """Return a PNG of `size` bytes with the same pixels, by a chunk that decoders ignore."""
    padding = os.urandom(max(0, size - len(png) - _CHUNK_OVERHEAD))
    checksum = zlib.crc32(_PADDING_CHUNK + padding)
    chunk = struct.pack(">I", len(padding)) + _PADDING_CHUNK + padding + struct.pack(">I", checksum)
    return png[:-_END_OF_PNG] + chunk + png[-_END_OF_PNG:]
