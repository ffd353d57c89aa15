"""Facts about URLs and hosts: a URL without its secrets, its origin, and whether its host is public. Pure."""

from __future__ import annotations

import ipaddress
import re
import socket
import unicodedata
from typing import Final, TypeAlias
from urllib.parse import urlsplit, urlunsplit

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_LONGEST_SHOWN: Final = 2000
_LOCAL_NAMES: Final = ("localhost", "localdomain", "local", "internal", "home.arpa")
_GLOBAL_UNICAST: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_NOT_PUBLIC: Final[tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]] = (
    ipaddress.IPv4Network("192.88.99.0/24"),  # 6to4 relays
    ipaddress.IPv6Network("2001::/23"),  # Teredo, ORCHID and other protocols
    ipaddress.IPv6Network("2001:db8::/32"),  # documentation
    ipaddress.IPv6Network("3fff::/20"),  # documentation
)
_PATTERN: Final = re.compile(r"(\*\.)?[\w-]+(\.[\w-]+)*\.?")
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})


def bare_url(url: str) -> str:
    """Return a URL without credentials, query and fragment, and not too long, to be shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    bare = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return bare if len(bare) <= _LONGEST_SHOWN else f"{bare[:_LONGEST_SHOWN]}…"


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def is_loopback(host: str) -> bool:
    """Tell whether a host is this machine."""
    address = _address(host)
    if address is not None:
        return address.is_loopback
    return _name(host).rpartition(".")[2] == "localhost"


def is_public(host: str) -> bool:
    """Tell whether a host may be on the internet, judged by its name or address alone."""
    address = _address(host)
    if address is not None:
        return _is_global(address)
    name = _name(host)
    return (
        "." in name and "%" not in name and not name.endswith(tuple(f".{ending}" for ending in _LOCAL_NAMES))
    )


def is_pattern(text: str) -> bool:
    """Tell whether a text is a pattern for ``matches``."""
    if _network(text) is not None:
        return True
    return _PATTERN.fullmatch(text) is not None


def matches(pattern: str, host: str) -> bool:
    """Tell whether a pattern is a host's name, ``*.`` and its domain, its address or its network."""
    network, address = _network(pattern), _address(host)
    if network is not None or address is not None:
        return network is not None and address is not None and address in network
    name, wanted = _as_looked_up(host), _as_looked_up(pattern)
    return name.endswith(wanted[1:]) if wanted.startswith("*.") else name == wanted


def _is_global(address: Address) -> bool:
    if any(address in network for network in _NOT_PUBLIC):
        return False
    if isinstance(address, ipaddress.IPv4Address):
        return address.is_global and not address.is_multicast
    if address in _NAT64:
        return _is_global(_embedded(address))
    if address.sixtofour is not None:  # versions of Python judge these addresses differently
        return _is_global(address.sixtofour)
    if address not in _GLOBAL_UNICAST or not address.is_global:
        return False
    is_isatap = int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    return not is_isatap or _is_global(_embedded(address))


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address:
    return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text.strip("[]"), strict=False)
    except ValueError:
        return None


def _name(host: str) -> str:
    """Return a host as a name is looked up: other digits and dots are those of ASCII."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").rstrip(".").lower()


def _as_looked_up(name: str) -> str:
    """Return a name in ASCII, as it is looked up."""
    name = _name(name)
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode()
    except UnicodeError:
        return name


def _address(host: str) -> Address | None:
    """Read an address in any spelling that a connection accepts, such as ``127.1`` or ``[::1]``."""
    text = _name(host).strip("[]")
    if ":" in text:
        text = text.partition("%")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(text))
        except (OSError, UnicodeEncodeError):
            return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address
