"""Glob patterns that end whatever links are in the folders; blocks."""

from __future__ import annotations

import glob
import os
from pathlib import PurePath


def matches_of(pattern: str) -> set[str]:
    """Return the matches of a pattern, with links and hidden files as a shell treats them.

    Unlike that of ``glob``, ``**`` follows no link: two links to a folder above them make an endless tree.
    """
    parts = PurePath(pattern).parts
    if "**" not in parts:
        return set(glob.iglob(pattern))
    number = parts.index("**")
    before, after = os.path.join("", *parts[:number]), parts[number + 1 :]
    found: set[str] = set()
    for base in glob.iglob(before) if before else [""]:
        for folder, subfolders, names in os.walk(base or os.curdir):
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            below = folder if base else folder[len(os.curdir + os.sep) :]
            if after:
                found |= matches_of(os.path.join(glob.escape(below), *after))
            else:
                found.update(os.path.join(below, name) for name in names if not name.startswith("."))
    return found
