"""Credentials that are never shown: the API key, and the user and password of a proxy."""

from __future__ import annotations

import re
from base64 import b64encode
from typing import Final, Never, Self, TypeVar
from urllib.parse import quote, unquote, urlsplit

import attrs

from apimart_async.errors import InvalidArgumentError

_ESCAPE: Final = b"\\u00"
_ESCAPE_BYTES: Final = 6
_STARS: Final = "***"
_REDACTED: Final = "[api key]"
_SEARCHED_BYTES: Final = 1024 * 1024
_LEAST_CUT: Final = 4
# A shorter key, such as "id" or "task", is a word of the answers: they would be damaged, and paid tasks lost.
_LEAST_REDACTED: Final = 8
_T = TypeVar("_T")
_PROXY_PORTS: Final = {"http": 80, "https": 443}


class Secret:
    """A text that no repr, format, log record, pickle or local variable shows; ``open`` returns it."""

    __slots__ = ("_forms", "_needles", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        is_redacted = len(text) >= _LEAST_REDACTED
        # Unchanged, and in the form of URLs.
        quoted = (quote(text, safe=safe, errors="replace") for safe in ("", "/"))
        self._forms = tuple({text, *quoted}) if is_redacted else ()
        # Some services write a slash in JSON as "\/".
        written = {*self._forms, text.replace("/", "\\/")} if is_redacted else ()
        self._needles = tuple(form.encode("utf-8", "replace") for form in written)

    def open(self) -> str:
        """Return the text itself: for the request that needs it, and nothing else."""
        return self._text

    def redact(self, text: str) -> str:
        """Return a text without the secret."""
        for form in self._forms:
            text = text.replace(form, _REDACTED)
        return text

    def redact_cut(self, text: str) -> str:
        """Return a text without the secret, nor the beginning of a secret that was cut at its end."""
        text = self.redact(text)
        for length in range(len(self._text) - 1 if self._forms else 0, _LEAST_CUT - 1, -1):
            if text.endswith(self._text[:length]):
                return text[:-length]
        return text

    def redact_bytes(self, data: bytes) -> bytes:
        """Return bytes without the secret. Large ones are searched in pieces, so that other threads run."""
        for needle in self._needles:
            for start in range(0, len(data), _SEARCHED_BYTES):
                if data.find(needle, start, start + _SEARCHED_BYTES + len(needle)) >= 0:
                    data = data.replace(needle, _REDACTED.encode())
                    break
        return self._redact_escaped(data) if self._needles and _ESCAPE in data else data

    def _redact_escaped(self, data: bytes) -> bytes:
        """Return JSON text without the secret, whichever of its characters are escaped."""
        pattern = re.compile(b"".join(map(_json_forms, self._text)))
        for start in range(0, len(data), _SEARCHED_BYTES):
            if pattern.search(data, start, start + _SEARCHED_BYTES + _ESCAPE_BYTES * len(self._text)):
                return pattern.sub(_REDACTED.encode(), data)
        return data

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return _STARS

    __str__ = __repr__

    def __format__(self, _: str) -> str:
        return _STARS

    def __reduce__(self) -> Never:
        raise TypeError("A secret cannot be pickled.")


def _json_forms(letter: str) -> bytes:
    """Return a pattern for the forms of a character in JSON text."""
    form, code = re.escape(letter.encode("utf-8", "replace")), f"{ord(letter):04x}".encode()
    return rb"(?:\\?%s|\\u(?i:%s))" % (form, code)


def hide(value: _T | str) -> _T | Secret:
    """Return a text as a ``Secret``, and anything else as it is: for arguments, before they can raise."""
    return Secret(value) if isinstance(value, str) else value


@attrs.frozen
class Authorization:
    """The authorization of a request.

    Attributes:
        key: The key, which is taken out of answers.
        header: Value of the header ``Authorization``.
    """

    key: Secret
    header: Secret

    @classmethod
    def with_key(cls, key: Secret) -> Self:
        """Return the authorization with a key."""
        return cls(key, Secret(f"Bearer {key.open()}"))

    @classmethod
    def with_header(cls, header: Secret) -> Self:
        """Return the authorization that the header of a caller gives."""
        return cls(Secret(header.open().rpartition(" ")[2]), header)


@attrs.frozen
class Proxy:
    """An HTTP proxy.

    Attributes:
        url: Its URL, without user and password.
        authorization: Value of the header ``Proxy-Authorization``.
    """

    url: str
    authorization: Secret | None = None

    @classmethod
    def parse(cls, address: Secret) -> Self:
        """Read the address of a proxy: a URL, or host and port of an HTTP proxy.

        Raises:
            InvalidArgumentError: The text is not the address of an HTTP proxy.
        """
        proxy = cls._read(address)
        scheme, _, rest = proxy.url.partition("://")
        if scheme.startswith("socks"):
            raise InvalidArgumentError(
                "SOCKS proxies are not supported: use an HTTP proxy, or exempt the host in NO_PROXY."
            )
        if scheme not in _PROXY_PORTS or rest.startswith(":"):
            raise InvalidArgumentError("A proxy must look like http://proxy.example:3128.")
        return proxy

    @classmethod
    def _read(cls, address: Secret) -> Self:
        # Nothing is raised here, where local variables hold the password.
        url = address.open().strip()
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname or "", parts.port or _PROXY_PORTS.get(parts.scheme, 1080)
        except ValueError:
            return cls("://")
        host = f"[{host}]" if ":" in host else host
        if not parts.username:
            return cls(f"{parts.scheme}://{host}:{port}")
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        # The environment may hold bytes that are no text.
        header = f"Basic {b64encode(login.encode('utf-8', 'surrogateescape')).decode()}"
        return cls(f"{parts.scheme}://{host}:{port}", Secret(header))

    @property
    def host(self) -> str:
        """Return its host."""
        return urlsplit(self.url).hostname or ""
