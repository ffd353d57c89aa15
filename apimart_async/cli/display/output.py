"""Lines on the two streams, results on stdout and messages on stderr, and texts made safe for them."""

from __future__ import annotations

import os
import re
import shlex
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final, TextIO

from apimart_async.errors import visible

_LONGEST_SENTENCE: Final = 1000

_UNSAFE: Final = frozenset({"--resubmit-unsafe", "--retry-missing"})

ARGUMENTS: Final[ContextVar[Sequence[str]]] = ContextVar("arguments", default=())
"""The arguments of the command that runs."""

DEBUG: Final = "APIMART_DEBUG"
"""Variable of the environment for tracebacks and the log."""


def debugging() -> bool:
    """Tell whether the user wants tracebacks."""
    return os.environ.get(DEBUG, "") not in {"", "0"}


def write_line(line: str) -> bool:
    """Write a line of results to stdout at once, control characters escaped.

    Returns:
        ``False`` when it cannot be written, for example because the disk is full. A reader that has closed
        its end of the pipe is no failure.
    """
    try:
        _print(visible(line), sys.stdout)
    except OSError as error:
        complain(f"The results cannot be written: {error.strerror or error}.")
        return False
    return True


class _Quiet:
    """Whether ``-q`` was given."""

    is_on: bool = False


def set_quiet(*, quiet: bool) -> None:
    """Make ``say`` write only messages that are always shown, or all messages again."""
    _Quiet.is_on = quiet


def is_quiet() -> bool:
    """Tell whether progress and summaries are left out."""
    return _Quiet.is_on


def say(line: str, *, always: bool = False) -> None:
    """Write a line to stderr at once, control characters escaped; with ``-q`` only if ``always``."""
    if _Quiet.is_on and not always:
        return
    try:
        _print(visible(line), sys.stderr)
    except OSError:
        return  # the stream is closed


def complain(message: str) -> None:
    """Write an error of the command as a whole to stderr."""
    for line in f"apimart: {message}".split("\n"):
        say(line, always=True)


def is_terminal(stream: TextIO | None) -> bool:
    """Tell whether a stream is a terminal."""
    return stream is not None and stream.isatty()


def may_reach_terminal(stream: TextIO | None) -> bool:
    """Tell whether lines may appear on the terminal: directly, or by way of a pipe such as ``| tee``."""
    try:
        return stream is not None and (stream.isatty() or stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode))
    except OSError:  # the stream has no file descriptor
        return False


def _print(line: str, stream: TextIO | None) -> None:
    if stream is None:  # it was closed before the command started
        return
    try:
        print(line, file=stream, flush=True)
    except BrokenPipeError:
        _discard(stream)
    except OSError:
        _discard(stream)
        raise


def _discard(stream: TextIO) -> None:
    """Redirect a stream to the null device, so that the text in its buffer does not fail a second time."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


# --- texts --------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """Return a text as one line without control characters."""
    return "".join(letter if letter.isprintable() else "�" for letter in " ".join(text.split()))


def command_line(words: Sequence[str]) -> str:
    """Return a command that can be copied into a shell, without control characters."""
    return " ".join(map(_quoted, words))


def same_command() -> str | None:
    """Return the command that runs, to be copied into a shell; ``None`` if it cannot be repeated as it is.

    That is so if it reads stdin, or if an argument has the address of a server with a password, which may be
    in the query too. Options that may pay twice are left out: they were given for the jobs of earlier runs.
    """
    arguments = [each for each in ARGUMENTS.get() if each.replace("_", "-").partition("=")[0] not in _UNSAFE]
    is_secret = any("://" in argument and ("@" in argument or "?" in argument) for argument in arguments)
    return None if is_secret or "-" in arguments or not arguments else command_line(["apimart", *arguments])


def _quoted(word: str) -> str:
    if word.isprintable():
        return shlex.quote(word)
    return (
        "$'"
        + "".join(
            letter if letter.isprintable() and letter not in "'\\" else _escaped(letter) for letter in word
        )
        + "'"
    )


def _escaped(letter: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in letter.encode("utf-8", "surrogateescape"))


def shorten(text: str, length: int) -> str:
    """Cut a text in its middle when it is longer than ``length`` characters."""
    if len(text) <= length:
        return text
    head = (length - 1) // 2
    return f"{text[:head]}…{text[head + 1 - length :]}"


def sentence(text: str) -> str:
    """Return a text as one line that ends like a sentence, cut when it is very long."""
    line = shorten(printable(text), _LONGEST_SENTENCE)
    return line if line.endswith((".", "!", "?", "…")) else f"{line}."


def listed(problems: Sequence[str]) -> list[str]:
    """Return problems as indented lines; the advice at the end of several of them comes once, after them."""
    endings = Counter(ending for problem in problems for ending in _endings(problem))
    lines: list[str] = []
    advice: dict[str, None] = {}
    for problem in problems:
        shared = max((ending for ending in _endings(problem) if endings[ending] > 1), key=len, default="")
        lines.append(f"  {problem.removesuffix(shared).rstrip()}")
        advice[shared] = None
    return lines + list(filter(None, advice))


def _endings(problem: str) -> set[str]:
    """Return the text after each of its sentences."""
    return {problem[match.end() :] for match in re.finditer(r"\. (?=[A-Z])", problem)}


def seconds(duration: float) -> str:
    """Format a duration: short ones with tenths of seconds, longer ones in minutes and hours."""
    if duration < 60:  # noqa: PLR2004 a minute
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def unknown_costs(jobs: int) -> str:
    """Return the number of jobs whose cost is unknown, as text."""
    return f"the unknown cost of {jobs:,} {'job' if jobs == 1 else 'jobs'}"


def dollars(cost: float) -> str:
    """Write an amount in USD, with at least two and at most four decimals."""
    text = f"{cost:.4f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents:<02}"
