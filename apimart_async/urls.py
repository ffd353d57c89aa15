"""What may be shown of a URL, and where it leads: pure, part of the vocabulary."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit, urlunsplit

_LOCAL_NAMES: Final = ("localhost", "localdomain", "local", "internal", "home.arpa")


def bare_url(url: str) -> str:
    """Return a URL without credentials, query and fragment, to be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL, which say who gets to see the key."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return host.rstrip(".").lower().rpartition(".")[2] == "localhost"


def is_public(host: str) -> bool:
    """Tell whether a host may be on the internet, as far as its name or address says."""
    address = _address(host)
    if address is not None:
        return address.is_global and not address.is_multicast
    name = host.rstrip(".").lower()
    return "." in name and not name.endswith(tuple(f".{ending}" for ending in _LOCAL_NAMES))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Read an address in any spelling a connection would take, such as ``127.1`` or ``[::1]``."""
    text = host.strip("[]").partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except (OSError, UnicodeEncodeError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address.sixtofour or address
    return address
