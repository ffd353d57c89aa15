"""Checks of the caller's aiohttp session: it must neither replace the key nor send it to other hosts."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from apimart_async.errors import InvalidArgumentError
from apimart_async.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

    import aiohttp

_SECRETS: Final = ("Authorization", "Cookie")


def sends_secrets(session: aiohttp.ClientSession) -> bool:
    """Tell whether a session sends headers or cookies with every request that file hosts must not see."""
    has_header = any(name in session.headers for name in _SECRETS)
    # Cookies that no answer has set, such as those of `ClientSession(cookies=...)`, are for all hosts.
    return has_header or any(not cookie["domain"] for cookie in session.cookie_jar)


def check_session(session: aiohttp.ClientSession, base_urls: Iterable[str]) -> None:
    """Check a session.

    Raises:
        InvalidArgumentError: The session would replace the key, send it to a proxy unencrypted, or send a
            login of the user to file hosts.
    """
    if session.auth is not None:
        raise InvalidArgumentError("The auth of your session would replace the API key: leave it out.")
    if session.trust_env and any(_has_login(URL(url).host or "") for url in base_urls):
        raise InvalidArgumentError(
            "Your session has trust_env, and a login in your netrc file for this host, or for all hosts, "
            "would replace the API key: make the session without trust_env, or name another file in NETRC."
        )
    if not session.trust_env or "http" not in getproxies():
        return
    for url in map(URL, base_urls):
        host = url.host or ""
        if url.scheme == "http" and is_loopback(host) and not proxy_bypass(host):
            raise InvalidArgumentError(
                "Your session has trust_env, so that the proxy of the environment would see the API key for "
                f"{host} unencrypted: make the session without it, or exempt the host in NO_PROXY."
            )


def _has_login(host: str) -> bool:
    """Tell whether the user has a login for a host, which aiohttp sends if it trusts the environment."""
    name = "_netrc" if sys.platform == "win32" else ".netrc"
    with suppress(OSError, RuntimeError, UnicodeError, NetrcParseError):
        path = os.environ.get("NETRC") or str(Path.home() / name)
        return netrc(path).authenticators(host) is not None
    return False
