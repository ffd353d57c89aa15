"""Names of result files, made from a template, the task's id and the image's index."""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache
from string import Formatter
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.errors import InvalidArgumentError
from apimart_async.transport.media.filenames import PLAIN, STEM_BYTES, clean_stem, stem_fault
from apimart_async.transport.media.sniffing import EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_TEMPLATE: Final = "{task_id}-{index}"

_TASK_ID_BYTES: Final = 80
_TEMPLATES_KEPT: Final = 64
_FORMATS: Final = {"task_id": "", "index": r"(0?[1-9])?d?", None: ""}
_IMAGE_EXTENSION: Final = re.compile(
    rf"({'|'.join(map(re.escape, (*EXTENSIONS, '.jpeg', '.tif')))})\Z", re.IGNORECASE
)


def template_of(stem: str, images: int) -> str:
    """Return the template for a given name: as it is for one image, with ``-1``, ``-2``, … for several."""
    escaped = stem.replace("{", "{{").replace("}", "}}")
    return escaped if images == 1 else f"{escaped}-{{index}}"


@attrs.frozen
class NameTemplate:
    """A template of file names: text with ``{task_id}`` and ``{index}`` in it.

    Attributes:
        text: The format string, without an extension.
        fields: The fields that occur in it.
    """

    text: str
    fields: frozenset[str]

    @classmethod
    @lru_cache(_TEMPLATES_KEPT)
    def parse(cls, template: str) -> NameTemplate:
        """Read a template.

        Args:
            template: Text with the fields ``{task_id}`` and ``{index}`` (from 1; ``{index:03}`` pads it with
                zeros); ``{{`` stands for a brace. The extension of an image at its end is ignored, as the
                extension of the file comes from the content.

        Raises:
            InvalidArgumentError: The template has another field or does not make a plain file name.
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
        example = text.format(task_id="x", index=1)
        if not PLAIN.match(example) and (fault := stem_fault(example)):
            raise InvalidArgumentError(
                f"The name template {template!r} does not make a plain file name: it {fault}."
            )
        return cls(text, frozenset(field for _, field, _, _ in parsed if field))

    def stems(self, images: Sequence[tuple[str, int]]) -> list[str]:
        """Return a distinct file name without extension for each image.

        Args:
            images: Task id, which may be hostile, and index of each image.

        Returns:
            The stems in the order of the images; a repeated stem gets ``-2``, ``-3``, … added.
        """
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
        rendered = self.text.format(task_id=task_id, index=index)
        if len(task_id) <= _TASK_ID_BYTES and PLAIN.match(rendered):
            return rendered
        rendered = self.text.format(task_id=_clean_distinct(task_id, _TASK_ID_BYTES), index=index)
        # The template alone makes a plain name, so the id is the cause of any fault.
        return _clean_distinct(rendered, STEM_BYTES) if stem_fault(rendered) else rendered

    def identifies(self, count: int) -> bool:
        """Tell whether a name belongs to a single one of a task's ``count`` images."""
        return "task_id" in self.fields and ("index" in self.fields or count == 1)


def _clean_distinct(text: str, limit: int) -> str:
    """Clean a text so that different texts stay different: two tasks must never share a file."""
    stem = clean_stem(text, limit)
    if stem == text:
        return stem
    return f"{stem}-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"
