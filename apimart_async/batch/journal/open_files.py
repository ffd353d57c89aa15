"""The files of an open journal: if they are deleted, moved or replaced, further writes are lost."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class OpenFiles:
    """Files that were just opened. Everything here blocks.

    Args:
        paths: Paths of the files; those that do not exist are left out.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._found: dict[Path, os.stat_result] = {}
        for path in map(Path.absolute, paths):  # the program may change its folder
            with suppress(OSError):
                self._found[path] = path.stat()

    def are_unchanged(self) -> bool:
        """Tell whether each path still leads to the file that was opened."""
        try:
            return all(os.path.samestat(path.stat(), found) for path, found in self._found.items())
        except OSError:
            return False
