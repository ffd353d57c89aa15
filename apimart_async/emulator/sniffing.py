"""What a file is, judged by its first bytes."""

from __future__ import annotations

SNIFF_BYTES = 32
"""How many of the first bytes `content_type` wants to see."""

EXTENSIONS = {"image/jpeg": "jpg", "image/png": "png", "image/gif": "gif", "image/webp": "webp"}
"""The accepted types, and the extension each is served with."""

_MAGIC = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"<!DOCTYPE html", "text/html; charset=utf-8"),
    (b"<html", "text/html; charset=utf-8"),
    (b"<svg", "image/svg+xml"),
    (b"<?xml", "text/xml; charset=utf-8"),
)
_BRANDS = {b"avif": "image/avif", b"heic": "image/heic", b"heix": "image/heic", b"mif1": "image/heif"}


def content_type(head: bytes) -> str:
    """Return the MIME type that the first `SNIFF_BYTES` of a file look like."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video/mp4")
    if all(byte >= ord(" ") or byte in b"\t\n\r\x0c\x1b" for byte in head):
        return "text/plain; charset=utf-8"
    return "application/octet-stream"
