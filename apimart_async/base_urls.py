"""Where the key is sent: the base URLs of a client, and its proxy, checked before anything is sent."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import urlsplit

from apimart_async.arguments import texts, wrong_type
from apimart_async.credentials import Proxy, Secret, hide
from apimart_async.errors import InvalidArgumentError
from apimart_async.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

_HOST: Final = re.compile(r"[\w-]+(\.[\w-]+)*\.?|\[[\da-f:.]+(%(25)?[\w.-]+)?\]", re.ASCII)
_PATH: Final = re.compile(r"[!-\[\]-~]*")
_BLANK: Final = re.compile(r"[\s\x00-\x1f\x7f]")
_SHOWN: Final = 200


def resolve_base_urls(
    base_url: str | Iterable[str] | None, variable: str, default: str, *, allow_http: bool = False
) -> tuple[str, ...]:
    """Return the given base URLs, those of the environment or the default, each once.

    Args:
        base_url: One base URL, several separated by commas, or a sequence of these texts.
        variable: Name of the variable in the environment.
        default: Base URL of the service.
        allow_http: Whether the key may be sent unencrypted to another machine.

    Raises:
        InvalidArgumentError: A base URL is not an ``http(s)`` URL, carries credentials, a query or a
            fragment, or would send the key unencrypted to another machine; or some that are not on this
            machine have TLS and others have not.
    """
    if base_url is None:
        base_url = os.environ.get(variable, "").strip(" ,") or default
    given = texts(base_url)
    if given is None:
        raise wrong_type("base_url", "a URL or a list of URLs", base_url)
    urls = [url.strip() for text in given for url in text.split(",")]
    found = tuple(dict.fromkeys(_resolve_base_url(url, default, allow_http=allow_http) for url in urls))
    if not found:
        raise InvalidArgumentError(f"base_url must look like {default}, not {base_url!r}.")
    elsewhere = [parts for parts in map(urlsplit, found) if not is_loopback(parts.hostname or "")]
    if len({parts.scheme for parts in elsewhere}) > 1:
        raise InvalidArgumentError(
            "base_url mixes https:// and http://: if the encrypted address could not be reached, the API key "
            "would be sent unencrypted. Use one of them for all."
        )
    return found


def _resolve_base_url(url: str, default: str, *, allow_http: bool) -> str:
    """Return a base URL in one spelling: lower-case host, no usual port, no ``/v1`` and no trailing slash."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        # In the form in which names are looked up.
        host = host if host.isascii() else host.encode("idna").decode()
    except ValueError:
        raise _unreadable(url, default) from None
    host = f"[{host}]" if ":" in host else host
    # Blanks between two URLs would make one of them, and lead to another host.
    is_readable = _HOST.fullmatch(host) and _PATH.fullmatch(parts.path) and not _BLANK.search(url)
    if parts.scheme not in {"https", "http"} or not (parts.username or is_readable):
        raise _unreadable(url, default)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidArgumentError("base_url must not carry credentials, a query or a fragment.")
    if parts.scheme == "http" and not allow_http and not is_loopback(host):
        message = (
            f"base_url {url} would send the API key unencrypted: use https://, or in Python pass "
            "allow_http=True on a network you trust."
        )
        raise InvalidArgumentError(message)
    authority = host if port in {None, {"https": 443, "http": 80}[parts.scheme]} else f"{host}:{port}"
    return f"{parts.scheme}://{authority}{parts.path}".rstrip("/").removesuffix("/v1")


def _unreadable(url: str, default: str) -> InvalidArgumentError:
    """Make the error for a text that is no base URL; it may hold a password, or be the key by mistake."""
    if "://" not in url or "@" in url:
        return InvalidArgumentError(f"base_url must look like {default}, without user and password.")
    return InvalidArgumentError(f"base_url must look like {default}, not {url[:_SHOWN]!r}.")


def resolve_proxy(
    proxy: str | Secret | None, base_urls: Iterable[str], *, allow_http: bool = False
) -> Proxy | None:
    """Return the given proxy.

    Raises:
        InvalidArgumentError: The proxy is not an HTTP proxy, or would receive the key unencrypted.
    """
    if proxy is None:
        return None
    hidden = hide(proxy)
    if not isinstance(cast("object", hidden), Secret):
        raise wrong_type("proxy", "the URL of a proxy", proxy)
    resolved = Proxy.parse(hidden)
    bare = next((base_url for base_url in base_urls if base_url.startswith("http://")), None)
    if bare is not None and not allow_http and not is_loopback(resolved.host):
        message = (
            f"The proxy would see the API key unencrypted, as base_url is {bare}: use https://, or pass "
            "allow_http=True on a network you trust."
        )
        raise InvalidArgumentError(message)
    return resolved
