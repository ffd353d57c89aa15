"""The photo of all jobs: a white pixel."""

from __future__ import annotations

from base64 import b64decode
from typing import Final

PNG: Final = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mP8/x8AAwMCAO+ip1sAAAAASUVORK5CYII="
)
