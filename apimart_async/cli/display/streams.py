"""The two streams of the command: results go to stdout, everything for a person to read to stderr."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def write_line(line: str) -> bool:
    """Write a line of results to stdout at once.

    Returns:
        Whether whoever wants it has it: false when, for example, the disk is full. A reader that has gone
        away wanted no more.
    """
    try:
        _print(line, sys.stdout)
    except OSError as error:
        complain(f"The results cannot be written: {error.strerror or error}.")
        return False
    return True


def say(line: str) -> None:
    """Write a line to stderr at once."""
    try:
        _print(line, sys.stderr)
    except OSError:
        return  # there is nobody left to tell


def complain(message: str) -> None:
    """Write an error of the command as a whole to stderr."""
    say(f"apimart: {message}")


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a person looks at it."""
    return stream is not None and stream.isatty()


def _print(line: str, stream: TextIO | None) -> None:
    if stream is None:  # it was closed before the command began
        return
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        _discard(stream)
    except OSError:
        _discard(stream)
        raise


def _discard(stream: TextIO) -> None:
    """Send what is and will be written to a stream nowhere, so that nothing fails a second time."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
