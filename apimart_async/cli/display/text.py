"""Texts from elsewhere, made fit for a line on a terminal."""

from __future__ import annotations

from typing import Final

_LONGEST_SENTENCE: Final = 1000


def printable(text: str) -> str:
    """Return a text as one line without anything a terminal would obey."""
    return "".join(letter if letter.isprintable() else "�" for letter in " ".join(text.split()))


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


def seconds(duration: float) -> str:
    """Write a duration: tenths of seconds at first, then minutes and hours."""
    if duration < 60:  # noqa: PLR2004 a minute
        return f"{duration:.1f} s"
    minutes, rest = divmod(round(duration), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def dollars(cost: float) -> str:
    """Write an amount in USD: cents, and what is less where there is any."""
    text = f"{cost:.4f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"${whole}.{cents:<02}"
