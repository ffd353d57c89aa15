"""Names of files: those that are sent with an upload, and those that results are saved under.

A name is one plain component, valid on every system: no separator, control character, quote or wildcard, no
leading dot, none that Windows keeps for a device. What the caller wrote is refused when it is not; what came
from elsewhere is made so.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.errors import InvalidArgumentError
from apimart_async.transport.media.sniffing import AVIF, GIF, IMAGES, JPEG, PNG, WEBP

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_TEMPLATE: Final = "{task_id}-{index}"

EXTENSIONS: Final = tuple(kind.extension for kind in IMAGES if kind.extension)

RESULT_EXTENSIONS: Final = tuple(kind.extension for kind in (JPEG, PNG, WEBP, GIF, AVIF) if kind.extension)
"""Those of what services make."""

_SPELLINGS: Final = {extension[1:]: extension for extension in RESULT_EXTENSIONS} | {"jpeg": ".jpg"}

# File systems take 255 bytes; a suffix, an extension and the name while unfinished have to fit as well.
_STEM_BYTES: Final = 180
_TASK_ID_BYTES: Final = 80
_TEMPLATES_KEPT: Final = 64
_EXTENSION: Final = re.compile(r"\.[A-Za-z0-9]{1,8}\Z")
_FORMATS: Final = {"task_id": "", "index": r"(0?[1-9])?d?", None: ""}
_IMAGE_EXTENSION: Final = re.compile(
    rf"({'|'.join(map(re.escape, (*EXTENSIONS, '.jpeg', '.tif')))})\Z", re.IGNORECASE
)
# Control characters, those with a meaning on some file system or in a header, line and paragraph separators,
# characters that reorder the text around them, and halves of surrogate pairs.
_FORBIDDEN: Final = re.compile(
    r'[\x00-\x1f\x7f-\x9f"*/:<>?\\|\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]'
)
_DEVICES: Final = frozenset(
    {"AUX", "CON", "CONIN$", "CONOUT$", "NUL", "PRN"}
    | {f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"}
)

# What needs no looking at: with these alone a name is fit for every system, unless it is a device.
_FIT: Final = re.compile(
    rf"(?!(?i:{'|'.join(map(re.escape, sorted(_DEVICES)))})\Z)[A-Za-z0-9][A-Za-z0-9_-]*\Z"
)


def safe_filename(name: str, content_type: str) -> str:
    """Return a file name that is safe to send, as near to the given one as can be.

    Args:
        name: Any text; of a path, with either separator, only the last component counts.
        content_type: MIME type, for the extension of a name that has none.

    Returns:
        A plain name with an extension, at most 200 bytes in UTF-8; non-ASCII characters are kept.
    """
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1].strip(" .")
    extension = _EXTENSION.search(last)
    if extension:
        return clean_stem(last[: extension.start()]) + extension.group()
    fitting = next((kind.extension for kind in IMAGES if kind.content_type == content_type), None)
    return clean_stem(last) + (fitting or ".bin")


def told_extension(url: str) -> str | None:
    """Return the extension of a result's file as its URL tells it; nothing if that tells none."""
    if not url.startswith("http"):
        return None
    return _SPELLINGS.get(url.partition("?")[0].rpartition(".")[2].lower())


_LEADING: Final = re.compile(r"^[\s.\-]+")
_TRAILING: Final = re.compile(r"[\s.]+$")


def clean_stem(text: str, limit: int = _STEM_BYTES) -> str:
    """Make any text a stem that is valid on every system.

    Args:
        text: Any text.
        limit: Length in bytes that is not passed.

    Returns:
        The text with what is forbidden replaced by ``_``; ``"image"`` when nothing is left.
    """
    if _is_fit(text, limit):
        return text
    stem = _shorten(unicodedata.normalize("NFC", _FORBIDDEN.sub("_", text)), limit)
    return _shorten(f"_{stem}", limit) if _is_device(stem) else stem or "image"


def _shorten(stem: str, limit: int) -> str:
    cut = _LEADING.sub("", stem).encode()[:limit].decode(errors="ignore")
    return _TRAILING.sub("", cut)


def _is_device(stem: str) -> bool:
    return stem.partition(".")[0].rstrip().upper() in _DEVICES


def _is_fit(text: str, limit: int = _STEM_BYTES) -> bool:
    """Tell of most names that nothing has to be done to them."""
    return len(text) <= limit and _FIT.match(text) is not None


def _clean_distinct(text: str, limit: int = _STEM_BYTES) -> str:
    """Clean so that texts that differ stay different: two tasks must never share a file."""
    if _is_fit(text, limit):
        return text
    stem = clean_stem(text, limit)
    if stem == text:
        return stem
    return f"{stem}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def _complaint(stem: str) -> str | None:
    """Say what is wrong with a stem that the caller chose, or nothing."""
    if not stem or stem.isspace():
        return "is empty"
    forbidden = _FORBIDDEN.search(stem)
    if forbidden:
        return f"holds {forbidden.group()!r}, which a file name cannot hold everywhere"
    if stem.startswith(".") or stem != stem.strip() or stem.endswith("."):
        return "begins with a dot, or begins or ends with a space, or ends with a dot"
    if _is_device(stem):
        return "is a device on Windows"
    if len(stem.encode()) > _STEM_BYTES:
        return f"is longer than {_STEM_BYTES} bytes"
    return None


@attrs.frozen
class NameTemplate:
    """How the files of a task are named: text with ``{task_id}`` and ``{index}`` in it.

    Attributes:
        text: What to format, without an extension.
        fields: The fields that occur.
    """

    text: str
    fields: frozenset[str]

    @classmethod
    @lru_cache(_TEMPLATES_KEPT)
    def parse(cls, template: str) -> NameTemplate:
        """Read a template.

        Args:
            template: Text in which ``{task_id}`` and ``{index}`` (from 1; ``{index:03}`` pads it) stand for
                themselves and ``{{`` for a brace. An image's extension at its end is ignored: the real one
                comes from the content.

        Raises:
            InvalidArgumentError: It has another field, or does not make a plain file name.
        """
        text = _IMAGE_EXTENSION.sub("", template)
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise InvalidArgumentError(
                f"The name template {template!r} is not well formed: {error}. Write {{{{ for a brace."
            ) from error
        for _, field, spec, conversion in parsed:
            if field not in _FORMATS or conversion or not re.fullmatch(_FORMATS[field], spec or ""):
                raise InvalidArgumentError(
                    f"The name template {template!r} may hold the fields {{task_id}} and {{index}} alone."
                )
        made = cls(text, frozenset(field for _, field, _, _ in parsed if field))
        complaint = _complaint(made._render("x", 1))
        if complaint:
            raise InvalidArgumentError(
                f"The name template {template!r} does not make a plain file name: it {complaint}."
            )
        return made

    def _render(self, task_id: str, index: int) -> str:
        return self.text.format(task_id=task_id, index=index)

    def stems(self, images: Sequence[tuple[str, int]]) -> list[str]:
        """Name the images, each differently.

        Args:
            images: Task id, which may be hostile, and index of each.

        Returns:
            A stem for each, without extension; a stem that is taken already gets ``-2``, ``-3``, … added.
        """
        if len(images) == 1:
            return [self._stem(*images[0])]
        taken: dict[str, int] = {}
        named: list[str] = []
        for task_id, index in images:
            counted = stem = self._stem(task_id, index)
            while counted in taken:
                taken[stem] += 1
                counted = f"{stem}-{taken[stem]}"
            taken[counted] = 1
            named.append(counted)
        return named

    def _stem(self, task_id: str, index: int) -> str:
        rendered = self._render(task_id, index)
        if len(task_id) <= _TASK_ID_BYTES and _is_fit(rendered):
            return rendered
        rendered = self._render(_clean_distinct(task_id, _TASK_ID_BYTES), index)
        # The template is plain by itself, so it is the id that made the whole unfit.
        return _clean_distinct(rendered) if _complaint(rendered) else rendered

    def identifies(self, count: int) -> bool:
        """Tell whether a name says by itself which of a task's ``count`` images it belongs to."""
        return "task_id" in self.fields and ("index" in self.fields or count == 1)
