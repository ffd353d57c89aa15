"""Identifiers: sortable, unique, and looking like the service's."""

from __future__ import annotations

import os

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def ulid(now: float) -> str:
    """Return a new ULID (26 characters of Crockford's base 32) for a moment in unix seconds."""
    number = (int(now * 1000) << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
