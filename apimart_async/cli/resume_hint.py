"""How to go on with tasks that are paid for, as a command to be copied."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import attrs


@attrs.frozen
class ResumeHint:
    """What the command would have done with its tasks.

    Attributes:
        directory: Where their images were to be saved; ``None`` when they were only waited for.
        base_url: Given as an option.
        is_possible: Whether the service outlives the command.
        key: Name of the variable with the key.
    """

    directory: Path | None = None
    base_url: str | None = None
    is_possible: bool = True
    key: str = "APIMART_API_KEY"

    def command(self, task_ids: Sequence[str]) -> str | None:
        """Return the command that goes on with these tasks, or ``None`` when there is none."""
        if not task_ids or not self.is_possible:
            return None
        words = ["apimart", "task", "wait" if self.directory is None else "save", *task_ids]
        if self.directory is not None:
            words += ["-o", str(self.directory)]
        if self.base_url is not None:
            words += ["--base-url", self.base_url]
        return shlex.join(words)
