"""What may go into a header, and headers as they are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from apimart_async import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_KEY: Final = 191

# Line breaks and other control characters but the tab, and halves of surrogate pairs.
_UNFIT: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")

_OURS: Final = {
    # One for all requests would have the first answer repeated; another than is noted, paid for twice.
    "idempotency-key": "pass idempotency_key to the request it is for",
    "content-length": "it follows from the body",
    "content-type": "it follows from the body",
    "transfer-encoding": "it follows from the body",
    "accept-encoding": "answers are read as they come, and one that was packed would be lost",
}


class Headers:
    """Headers that go with many requests, put into lines once.

    Args:
        groups: Name to value, checked; of names that differ in case alone the last one counts.

    Attributes:
        fields: Name to value.
    """

    def __init__(self, *groups: Mapping[str, str]) -> None:
        found = {name.lower(): (name, value) for group in groups for name, value in group.items()}
        self.fields: Mapping[str, str] = dict(found.values())
        self._lines = _lines(self.fields)
        self._has_host = "host" in found
        self._names = frozenset({"host", *found})

    def joined(self, further: Mapping[str, str] | None) -> Mapping[str, str]:
        """Return them with those of one request, which count where both name one."""
        return Headers(self.fields, further).fields if further else self.fields

    def lines(self, host: str, further: Mapping[str, str] | None) -> str:
        """Return them, and those of one request, as they are written.

        Args:
            host: Value of ``Host``, unless one of them is that.
            further: As for ``joined``.
        """
        if self._has_host or (further and not self._names.isdisjoint(map(str.lower, further))):
            return _lines(Headers({"Host": host}, self.fields, further or {}).fields)
        return f"Host: {host}\r\n{self._lines}{_lines(further) if further else ''}"


def _lines(fields: Mapping[str, str]) -> str:
    return "".join([f"{name}: {value}\r\n" for name, value in fields.items()])


def checked_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return the headers as they are.

    Raises:
        InvalidArgumentError: One of them could break out of its line, or is not for callers to set.
    """
    for name, value in headers.items():
        if name.lower() in _OURS:
            raise errors.InvalidArgumentError(f"The header {name} cannot be given: {_OURS[name.lower()]}.")
        if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise errors.InvalidArgumentError(f"{name!r} cannot be the name of a header.")
        if _UNFIT.search(value):
            raise errors.InvalidArgumentError(
                f"The value of the header {name} holds a line break or another control character."
            )
    return headers


def checked_idempotency_key(key: str) -> str:
    """Return the key as it is.

    Raises:
        InvalidArgumentError: It is not 1 to 191 visible ASCII characters, as the service demands.
    """
    if not 1 <= len(key) <= _LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        raise errors.InvalidArgumentError("idempotency_key must be 1 to 191 visible ASCII characters.")
    return key
