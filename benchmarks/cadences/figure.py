"""The trade-off between polls and delay, drawn as SVG for light and dark pages."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cadences.simulation import Result

_WIDTH, _HEIGHT, _GAP = 330, 250, 52
_TEXT, _OURS, _PEERS, _FIXED = "#7d8590", "#2f81f7", "#d29922", "#a371f7"
_DELAYS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_POLLS = (1, 2, 5, 10, 20, 50, 100)


def _x(delay: float) -> float:
    low, high = math.log(0.04), math.log(10)
    return _WIDTH * (math.log(min(max(delay, 0.04), 10)) - low) / (high - low)


def _y(polls: float) -> float:
    return _HEIGHT * (1 - (math.log(min(polls, 100)) - math.log(0.9)) / (math.log(100) - math.log(0.9)))


def _text(x: float, y: float, words: str, anchor: str = "middle", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{_TEXT}">{escape(words)}</text>'
    )


def _panel(name: str, ours: Sequence[Result], peers: Mapping[str, Result]) -> list[str]:
    parts = [_text(_WIDTH / 2, -10, name, size=13)]
    parts += [
        f'<line x1="0" x2="{_WIDTH}" y1="{_y(polls):.1f}" y2="{_y(polls):.1f}" stroke="{_TEXT}" '
        f'stroke-opacity="0.25"/>' + _text(-6, _y(polls) + 4, str(polls), "end")
        for polls in _POLLS
    ]
    parts += [_text(_x(delay), _HEIGHT + 16, f"{delay:g}") for delay in _DELAYS]
    points = " ".join(f"{_x(result.mean_delay):.1f},{_y(result.mean_polls):.1f}" for result in ours)
    parts.append(f'<polyline points="{points}" fill="none" stroke="{_OURS}" stroke-width="2.5"/>')
    for label, result in peers.items():
        is_fixed = label.startswith("every")
        x, y = _x(result.mean_delay), _y(result.mean_polls)
        colour = _FIXED if is_fixed else _PEERS
        short = label.removeprefix("every ") if is_fixed else label.split(",")[0].split(" growing")[0] + " …"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
        parts.append(_text(x + 6, y - 4, short, "start", 9))
    return parts


def draw(panels: Mapping[str, tuple[Sequence[Result], Mapping[str, Result]]]) -> str:
    """Return the figure, two panels to a row.

    Args:
        panels: For each family, the client at several settings of its knob, and the other schedules.
    """
    rows = -(-len(panels) // 2)
    width, height = 2 * (_WIDTH + _GAP) + 20, rows * (_HEIGHT + 64) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        "<style>text { font-family: system-ui, sans-serif }</style>",
        "<title>Polls per task against mean delay in seconds, both logarithmic</title>",
    ]
    for number, (name, (ours, peers)) in enumerate(panels.items()):
        left, top = _GAP + number % 2 * (_WIDTH + _GAP), 30 + number // 2 * (_HEIGHT + 64)
        parts.append(f'<g transform="translate({left} {top})">')
        parts += _panel(name, ours, peers)
        parts.append("</g>")
    legend = (("this client, by its knob", _OURS), ("fixed intervals", _FIXED), ("other schedules", _PEERS))
    for number, (words, colour) in enumerate(legend):
        x = _GAP + 10 + number * 170
        parts.append(f'<circle cx="{x}" cy="{height - 18}" r="4" fill="{colour}"/>')
        parts.append(_text(x + 9, height - 14, words, "start"))
    parts.append(_text(width - 12, height - 14, "across: mean delay in s, up: polls per task", "end"))
    return "\n".join([*parts, "</svg>", ""])
