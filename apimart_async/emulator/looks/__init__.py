"""What an edit looks like: a handful of looks that a prompt can ask for, drawn with Pillow alone."""

from __future__ import annotations

from .choice import choose_look
from .drawing import draw, draw_tiny

__all__ = ["choose_look", "draw", "draw_tiny"]
