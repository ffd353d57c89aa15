"""What went wrong, from aiohttp's words to the package's."""

from __future__ import annotations

from typing import Final

import aiohttp
import attrs

from apimart_async import errors
from apimart_async.urls import bare_url


@attrs.define(eq=False, slots=False)
class NoAnswerError(Exception):
    """A try that brought no whole answer.

    Attributes:
        error: What the caller is told.
        sent: Whether any of the request's body may have left.
    """

    error: errors.APIError
    sent: bool


NEVER_SENT: Final = (
    aiohttp.ClientConnectorError,  # refused, unreachable, name look-up, TLS, proxy out of reach
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,  # the proxy refused to open a tunnel
    aiohttp.InvalidURL,
    UnicodeError,  # no name of a host
)

FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError, UnicodeError)
"""What an exchange may fail with."""


def connection_error(error: Exception, method: str, url: str) -> errors.APIConnectionError:
    """Say in the package's words what aiohttp says in its own."""
    late = isinstance(error, TimeoutError)
    if isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str):
        # What aiohttp says then is the head, as far as it came.
        error = aiohttp.ServerDisconnectedError("the server hung up in the middle of a head")
    reason = str(error) or ("no answer in time" if late else type(error).__name__)
    kind = errors.APITimeoutError if late else errors.APIConnectionError
    what = "Timed out" if late else "The connection failed"
    return kind(f"{what}: {reason}.", method=method, url=bare_url(url))
