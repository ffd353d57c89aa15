"""The settings of a client, as plain data with the defaults and the reasons for them."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from ssl import SSLContext
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urlsplit

import attrs
from attrs import validators

from apimart_async.errors import InvalidArgumentError
from apimart_async.urls import is_loopback

APIMART_BASE_URL: Final = "https://api.apimart.ai"
APPLEROUTER_BASE_URL: Final = "https://api.applerouter.ai"

ApiKey: TypeAlias = str | Callable[[], str | Awaitable[str]]


def _no_headers() -> dict[str, str]:
    return {}


def _positive(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value > 0:
        message = f"{type(instance).__name__}.{attribute.name} must be more than 0, not {value!r}."
        raise InvalidArgumentError(message)


def _not_negative(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    if not value >= 0:
        message = f"{type(instance).__name__}.{attribute.name} must be 0 or more, not {value!r}."
        raise InvalidArgumentError(message)


@attrs.frozen(kw_only=True)
class Timeout:
    """How long one HTTP request may take, in seconds.

    Attributes:
        connect: Until a connection is open, name look-up and TLS included.
        pool: Until a connection is free when all are in use.
        read: Without receiving a byte of the answer.
        total: The whole request, its retries not counted.
    """

    connect: float = attrs.field(default=10.0, validator=_positive)
    pool: float = attrs.field(default=600.0, validator=_positive)
    read: float = attrs.field(default=60.0, validator=_positive)
    total: float = attrs.field(default=300.0, validator=_positive)


@attrs.frozen(kw_only=True)
class Limits:
    """What a client may use at most.

    Attributes:
        connections: Open connections, over all hosts. More requests than this wait for their turn.
        requests: Requests to the API under way. The client begins with fewer, unless it is not adaptive.
        requests_per_second: Requests to the API per second; ``None`` for as many as the service takes.
        uploads: Uploads under way.
        downloads: Downloads under way.
        adaptive: Whether to find by itself, from 429 and 503, what the service takes. Without it ``requests``
            and ``requests_per_second`` are used as they are: for a service whose limits are known, or one
            that answers so whatever it is sent. A ``Retry-After`` pauses the client either way.
        keepalive: Seconds an idle connection is kept for the next request.
        answer_bytes: Size of a JSON answer.
        download_bytes: Size of one result image.
    """

    connections: int = attrs.field(default=64, validator=_positive)
    requests: int = attrs.field(default=64, validator=_positive)
    requests_per_second: float | None = attrs.field(default=None, validator=validators.optional(_positive))
    uploads: int = attrs.field(default=32, validator=_positive)
    downloads: int = attrs.field(default=32, validator=_positive)
    adaptive: bool = True
    keepalive: float = attrs.field(default=15.0, validator=_positive)
    answer_bytes: int = attrs.field(default=64 * 1024 * 1024, validator=_positive)
    download_bytes: int = attrs.field(default=256 * 1024 * 1024, validator=_positive)


@attrs.frozen(kw_only=True)
class Retry:
    """Backoff of requests that are safe to send again; durations in seconds.

    The delay before retry ``k`` is drawn evenly from 0 to ``min(max_delay, initial_delay * 2**(k - 1))``. A
    ``Retry-After`` of the service replaces that delay.

    Attributes:
        initial_delay: Maximum delay before the first retry; more than 0, default 0.5.
        max_delay: Maximum delay between two attempts; more than 0, default 8.
        max_retry_after: Longest ``Retry-After`` that a call obeys, default 60; a longer value fails the call
            at once.
        max_elapsed: Time since the first attempt after which no further attempt starts, default 300.
        indeterminate: How to treat a paid request that may have been executed: ``"raise"`` raises
            ``SubmissionIndeterminateError``; ``"same-key"`` sends the request again under the same
            idempotency key. Choose ``"same-key"`` only for a service and model that are known to honour keys:
            any other executes and bills the request twice.
    """

    initial_delay: float = attrs.field(default=0.5, validator=_positive)
    max_delay: float = attrs.field(default=8.0, validator=_positive)
    max_retry_after: float = attrs.field(default=60.0, validator=_not_negative)
    max_elapsed: float = attrs.field(default=300.0, validator=_not_negative)
    indeterminate: Literal["raise", "same-key"] = attrs.field(
        default="raise", validator=validators.in_(("raise", "same-key"))
    )


@attrs.frozen(kw_only=True)
class Poll:
    """How tasks are waited for, in seconds.

    When to look is learnt for each model, from how long its tasks take.

    Attributes:
        timeout: How long ``wait``, ``watch`` and ``run`` wait for a task unless told otherwise.
        delay_per_poll: How many seconds of delay one poll is worth. A smaller number tells of ends sooner and
            polls more: four times less is about half the delay for twice the polls.
        first: Until the first look at a task as long as nothing is known of how long its model takes; tasks
            are then believed to take about four times as long, or what the service estimates.
        shortest: Least time between two looks.
        longest: Most time between two looks. The first look may come later, where durations are known.
        requests_per_second: Most polls per second; ``None`` for no limit. Tasks that share a request count
            once. When it does not suffice, whoever has been due longest is served first.
    """

    timeout: float = attrs.field(default=600.0, validator=_positive)
    delay_per_poll: float = attrs.field(default=0.25, validator=_positive)
    first: float = attrs.field(default=5.0, validator=_positive)
    shortest: float = attrs.field(default=1.0, validator=_positive)
    longest: float = attrs.field(default=15.0, validator=_positive)
    requests_per_second: float | None = attrs.field(default=None, validator=validators.optional(_positive))


def resolve_api_key(api_key: ApiKey | None, variable: str, elsewhere: str) -> ApiKey:
    """Return the key given, or else the one in the environment.

    Args:
        api_key: What the caller passed.
        variable: Name of the environment variable.
        elsewhere: Sentence that names the way on without a key.

    Raises:
        InvalidArgumentError: There is none, it is blank, or it cannot be sent in a header.
    """
    if callable(api_key):
        return api_key
    key = os.environ.get(variable, "") if api_key is None else api_key
    if not key.strip():
        message = f"No API key: pass api_key=… or set {variable}. {elsewhere}".rstrip()
        raise InvalidArgumentError(message)
    return check_api_key(key)


def check_api_key(key: str) -> str:
    """Return the key without surrounding space.

    Raises:
        InvalidArgumentError: It is blank, or holds a character that a header cannot carry.
    """
    stripped = key.strip()
    if not stripped or not stripped.isascii() or not stripped.isprintable() or " " in stripped:
        raise InvalidArgumentError("The API key is blank or holds characters that a header cannot carry.")
    return stripped


def resolve_base_url(base_url: str | None, variable: str, default: str, *, allow_http: bool = False) -> str:
    """Return the base URL given, or else the environment's, or else the default, without a trailing slash.

    Raises:
        InvalidArgumentError: It is not an ``http(s)`` URL, carries credentials, a query or a fragment, or
            would send the key unencrypted to another machine.
    """
    url = (base_url if base_url is not None else os.environ.get(variable) or default).strip()
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        message = f"base_url must look like {default}, not {url!r}."
        raise InvalidArgumentError(message)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidArgumentError("base_url must not carry credentials, a query or a fragment.")
    if parts.scheme == "http" and not allow_http and not is_loopback(parts.hostname):
        message = (
            f"base_url {url} would send the API key unencrypted: use https://, or pass allow_http=True "
            "on a network you trust."
        )
        raise InvalidArgumentError(message)
    return url.rstrip("/").removesuffix("/v1")


def resolve_timeout(timeout: Timeout | float | None) -> Timeout:
    """Return the timeouts given; a number of seconds is the total.

    Raises:
        InvalidArgumentError: It is not more than 0.
    """
    if timeout is None:
        return Timeout()
    return timeout if isinstance(timeout, Timeout) else Timeout(total=timeout)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything a client was given, resolved and checked.

    Attributes:
        api_key: The key, or what returns it; never shown.
        base_url: Origin and path prefix of the API.
        timeout: Of one HTTP request.
        max_retries: Tries after the first, where trying again is safe.
        retry: Delays between tries.
        limits: What may be used at most.
        poll: How tasks are waited for.
        proxy: Proxy URL; ``None`` takes the environment's.
        ssl: TLS context; ``False`` turns certificate checks off.
        default_headers: Sent to the API with every request, never to a file host.
    """

    api_key: ApiKey = attrs.field(repr=False)
    base_url: str
    timeout: Timeout = attrs.field(factory=Timeout)
    max_retries: int = attrs.field(default=2, validator=_not_negative)
    retry: Retry = attrs.field(factory=Retry)
    limits: Limits = attrs.field(factory=Limits)
    poll: Poll = attrs.field(factory=Poll)
    proxy: str | None = attrs.field(default=None, repr=False)
    ssl: SSLContext | bool | None = attrs.field(default=None, repr=False)
    default_headers: Mapping[str, str] = attrs.field(factory=_no_headers, repr=False)


def revise(
    settings: Settings,
    variable: str,
    *,
    api_key: ApiKey | None = None,
    timeout: Timeout | float | None = None,
    max_retries: int | None = None,
    retry: Retry | None = None,
    poll: Poll | None = None,
    default_headers: Mapping[str, str] | None = None,
) -> Settings:
    """Return settings with what is given changed.

    Raises:
        InvalidArgumentError: A value cannot be right.
    """
    return attrs.evolve(
        settings,
        api_key=settings.api_key if api_key is None else resolve_api_key(api_key, variable, ""),
        timeout=settings.timeout if timeout is None else resolve_timeout(timeout),
        max_retries=settings.max_retries if max_retries is None else max_retries,
        retry=retry or settings.retry,
        poll=poll or settings.poll,
        default_headers=settings.default_headers if default_headers is None else dict(default_headers),
    )
