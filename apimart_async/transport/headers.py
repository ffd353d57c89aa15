"""What may go into a header."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apimart_async import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_KEY: Final = 191

_OURS: Final = {
    # One for all requests would have the first answer repeated; another than is noted, paid for twice.
    "idempotency-key": "pass idempotency_key to the request it is for",
    "content-length": "it follows from the body",
    "content-type": "it follows from the body",
    "transfer-encoding": "it follows from the body",
    "accept-encoding": "answers are read as they come, and one that was packed would be lost",
}


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
        if any(character in value for character in "\r\n\0"):
            raise errors.InvalidArgumentError(f"The value of the header {name} has a line break in it.")
    return headers


def checked_idempotency_key(key: str) -> str:
    """Return the key as it is.

    Raises:
        InvalidArgumentError: It is not 1 to 191 visible ASCII characters, as the service demands.
    """
    if not 1 <= len(key) <= _LONGEST_KEY or not all("!" <= character <= "~" for character in key):
        raise errors.InvalidArgumentError("idempotency_key must be 1 to 191 visible ASCII characters.")
    return key
