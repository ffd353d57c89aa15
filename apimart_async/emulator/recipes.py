"""What a result is drawn from: small enough to keep one per task."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

Look = Literal[
    "starry-sky",
    "sunset",
    "snow",
    "cyberpunk",
    "watercolour",
    "pencil",
    "black-and-white",
    "colours",
]


@frozen
class Stored:
    """A picture that was uploaded or sent inline, by the digest of its content."""

    digest: str


@frozen
class Placeholder:
    """A picture somewhere else: the emulator does not fetch it but draws one that says so."""

    label: str


@frozen
class Imagined:
    """No picture at all: one is drawn from the prompt."""

    seed: int


Source = Stored | Placeholder | Imagined


@frozen(kw_only=True)
class Recipe:
    """Everything that decides the pixels of a task's results.

    Attributes:
        source: The picture to edit.
        look: How it is edited.
        seed: Of everything random in the drawing; image `i` of a task is drawn with `seed + i`.
        size: Width and height in pixels to deliver, or None for the source's own (within limits).
        mask: Digest of a stored mask whose transparent pixels say where to edit, or None.
        png: Whether the results are PNG, which keeps an alpha channel, instead of JPEG.
    """

    source: Source
    look: Look
    seed: int
    size: tuple[int, int] | None = None
    mask: str | None = None
    png: bool = False

    @property
    def content_type(self) -> str:
        """The MIME type of the results."""
        return "image/png" if self.png else "image/jpeg"

    @property
    def extension(self) -> str:
        """The extension of the results' names."""
        return "png" if self.png else "jpg"
