"""From the sizes a request may name to pixels."""

from __future__ import annotations

import re

_RESOLUTIONS = {"1k": 1024, "2k": 2048, "4k": 4096}
_RATIO = re.compile(r"([1-9]\d{0,2}):([1-9]\d{0,2})")
_PIXELS = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")


def pixels(size: str | None, resolution: str | None) -> tuple[int, int] | None:
    """Return the width and height of a size such as "16:9" or "1024x1024" at a resolution such as "2k".

    Returns:
        None where the picture's own size is to be kept.

    Raises:
        ValueError: One of them is no such size; its message says what one looks like.
    """
    side = _RESOLUTIONS.get((resolution or "1k").lower())
    if side is None:
        raise ValueError(f"resolution must be one of 1k, 2k, 4k, not {resolution}")
    if size is None or size == "auto":
        return None
    if (ratio := _RATIO.fullmatch(size)) is not None:
        width, height = int(ratio[1]), int(ratio[2])
        share = side / max(width, height)
        return max(1, round(width * share)), max(1, round(height * share))
    if (exact := _PIXELS.fullmatch(size)) is not None:
        return int(exact[1]), int(exact[2])
    raise ValueError(f'size must be "auto", a ratio such as "16:9" or pixels such as "1024x1024", not {size}')
