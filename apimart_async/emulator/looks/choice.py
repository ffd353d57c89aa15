"""Which look a prompt asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from apimart_async.emulator.recipes import Look

_KEYWORDS: tuple[tuple[Look, tuple[str, ...]], ...] = (
    ("starry-sky", ("star", "milky way", "galaxy", "night sky", "星")),
    ("sunset", ("sunset", "sunrise", "golden hour", "dusk", "日落", "夕")),
    ("snow", ("snow", "winter", "blizzard", "frost", "雪")),
    ("cyberpunk", ("cyberpunk", "neon", "synthwave", "赛博", "サイバー")),
    ("watercolour", ("watercolo", "water colo", "aquarel", "水彩")),
    ("pencil", ("pencil", "sketch", "graphite", "铅笔", "鉛筆")),
    (
        "black-and-white",
        (
            "black and white",
            "black-and-white",
            "black & white",
            "b&w",
            "monochrome",
            "grayscale",
            "greyscale",
            "黑白",
            "白黒",
        ),
    ),
)


def choose_look(prompt: str) -> Look:
    """Return the look whose keyword comes first in a prompt; `colours` when there is none."""
    lowered = prompt.casefold()
    found: list[tuple[int, Look]] = [
        (at, look) for look, words in _KEYWORDS for word in words if (at := lowered.find(word)) >= 0
    ]
    return min(found)[1] if found else "colours"
