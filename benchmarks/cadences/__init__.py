"""The parts of `polling.py`."""

from __future__ import annotations
