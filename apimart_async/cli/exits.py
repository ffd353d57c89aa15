"""How the command ends: its exit codes, and the error that is the user's to correct."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """The exit codes, as ``apimart --help`` lists them."""

    ALL_DONE = 0
    SOME_FAILED = 1
    USAGE = 2
    INTERRUPTED = 130


class UsageError(Exception):
    """The command cannot begin as it was typed, or where it was started; nothing was sent."""
