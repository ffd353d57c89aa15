"""The settings of a client as plain data, with their defaults, and how its arguments become settings."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from ssl import SSLContext
from typing import Any, Final, Literal, TypeAlias, TypeVar, cast

import attrs
from attrs import validators

from apimart_async.arguments import (
    choice,
    flag,
    is_number,
    not_negative,
    optional_plain_function,
    positive,
    texts,
    wrong_type,
)
from apimart_async.credentials import Proxy, Secret, hide
from apimart_async.errors import InvalidArgumentError
from apimart_async.urls import is_pattern

APIMART_BASE_URL: Final = "https://api.apimart.ai"
APPLEROUTER_BASE_URL: Final = "https://api.applerouter.ai"
RESULT_HOSTS_VARIABLE: Final = "APIMART_RESULT_HOSTS"

# Line breaks and other control characters but the tab, and halves of surrogate pairs.
_UNFIT_IN_HEADERS: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")
_KEY: Final = re.compile(r"[\x21-\x7e]{1,8192}")
_RESERVED_HEADERS: Final = {
    # A client-wide key would replay the first answer; an unrecorded key could be billed twice.
    "idempotency-key": "pass idempotency_key to the request it is for",
    "content-length": "it follows from the body",
    "content-type": "it follows from the body",
    "transfer-encoding": "it follows from the body",
    "accept-encoding": "answers in other codings than gzip and deflate would be lost",
    "host": "it follows from base_url",
    "proxy-authorization": "give user and password in the URL of the proxy",
    **dict.fromkeys(
        (
            "connection",
            "expect",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "upgrade",
            "http2-settings",
        ),
        "it concerns the connection, which the client manages",
    ),
}

KeyFunction: TypeAlias = Callable[[], str | Awaitable[str]]
CHECK_VARIABLE: Final = "APIMART_CHECK"

_T = TypeVar("_T")
Check: TypeAlias = Literal["schema", "off"]
ApiKey: TypeAlias = str | Secret | KeyFunction


def _environment_hosts() -> list[str]:
    return os.environ.get(RESULT_HOSTS_VARIABLE, "").replace(",", " ").split()


def _host_patterns(hosts: Iterable[str]) -> tuple[str, ...]:
    found = texts(hosts)
    if found is None:
        raise wrong_type("Limits.result_hosts", "a list of texts", hosts)
    return found


def _are_patterns(instance: object, _: attrs.Attribute[Any], patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        if not is_pattern(pattern):
            message = (
                f"{type(instance).__name__}.result_hosts holds {pattern!r}, which is no host, no *.domain "
                "and no network."
            )
            raise InvalidArgumentError(message)


@attrs.frozen(kw_only=True)
class Timeout:
    """Maximum durations of one HTTP request in seconds, each more than 0.

    Attributes:
        connect: Time to open a connection, including name resolution and TLS; default 10.
        pool: Time to wait for a free connection while all are in use; default 600.
        read: Time without a byte of the answer; default 60.
        total: Time for one attempt of the request, without its retries; default 300.
    """

    connect: float = attrs.field(default=10.0, validator=positive)
    pool: float = attrs.field(default=600.0, validator=positive)
    read: float = attrs.field(default=60.0, validator=positive)
    total: float = attrs.field(default=300.0, validator=positive)


@attrs.frozen(kw_only=True)
class Limits:
    """Maximum use of resources by a client, each more than 0.

    Attributes:
        connections: Connections in use, over all hosts; further requests wait. Idle connections that are
            kept for the next request do not count. Default 64.
        requests: Concurrent requests to the API, default 64. An adaptive client starts with fewer.
        requests_per_second: Requests to the API per second; ``None``, the default, for no limit but the
            service's.
        uploads: Concurrent uploads, default 32.
        downloads: Concurrent downloads, default 32.
        adaptive: Whether to learn the limits of the service from its answers 429 and 503; default True.
            ``False`` uses ``requests`` and ``requests_per_second`` unchanged: for a service with known
            limits, or one whose 429 and 503 mean something else. Then each ``Retry-After`` pauses the client.
        keepalive: Seconds until an idle connection is closed, default 15.
        answer_bytes: Size of a JSON answer in bytes, default 64 MiB.
        image_answer_bytes: Size of a JSON answer that may hold images in base64, default 1 GiB: the answer to
            a paid request, or to a request for one task.
        download_bytes: Size of one result image in bytes, default 256 MiB.
        result_hosts: Hosts that results may be fetched from though they are not public, or though their URLs
            are ``http://``: names (``files.example.com``, ``*.example.com``), addresses and networks
            (``10.0.0.0/8``). By default those in ``APIMART_RESULT_HOSTS``, separated by commas.
    """

    connections: int = attrs.field(default=64, validator=positive)
    requests: int = attrs.field(default=64, validator=positive)
    requests_per_second: float | None = attrs.field(default=None, validator=validators.optional(positive))
    uploads: int = attrs.field(default=32, validator=positive)
    downloads: int = attrs.field(default=32, validator=positive)
    adaptive: bool = attrs.field(default=True, validator=flag)
    keepalive: float = attrs.field(default=15.0, validator=positive)
    answer_bytes: int = attrs.field(default=64 * 1024 * 1024, validator=positive)
    image_answer_bytes: int = attrs.field(default=1024 * 1024 * 1024, validator=positive)
    download_bytes: int = attrs.field(default=256 * 1024 * 1024, validator=positive)
    result_hosts: tuple[str, ...] = attrs.field(
        factory=_environment_hosts, converter=_host_patterns, validator=_are_patterns
    )


@attrs.frozen(kw_only=True)
class Retry:
    """Backoff of requests that are safe to send again; durations in seconds.

    The delay before retry ``k`` is uniformly distributed between 0 and
    ``min(max_delay, initial_delay * 2**(k - 1))``. A ``Retry-After`` of the service replaces that delay.

    Attributes:
        initial_delay: Maximum delay before the first retry; more than 0, default 0.5.
        max_delay: Maximum delay between two attempts; more than 0, default 8.
        max_retry_after: Longest ``Retry-After`` that a call obeys, default 60; a longer value fails the call
            at once.
        max_elapsed: Time since the first attempt after which no further attempt starts, default 300; 0 sends
            no request again.
        indeterminate: How to treat a paid request that may have been executed: ``"raise"`` raises
            ``SubmissionIndeterminateError``; ``"schema"``, the default, sends it again under the same
            idempotency key if the schema of its model promises that a key is executed once and that repeated
            answers are marked, while the service remembers the key, and raises otherwise; an answer that is
            not marked ends this for the model. ``"same-key"`` sends the request again under the same
            idempotency key. Choose ``"same-key"`` only for a service and model that are known to honour keys:
            any other executes and bills the request twice.
    """

    initial_delay: float = attrs.field(default=0.5, validator=positive)
    max_delay: float = attrs.field(default=8.0, validator=positive)
    max_retry_after: float = attrs.field(default=60.0, validator=not_negative)
    max_elapsed: float = attrs.field(default=300.0, validator=not_negative)
    indeterminate: Literal["schema", "raise", "same-key"] = attrs.field(
        default="schema", validator=choice("schema", "raise", "same-key")
    )


@attrs.frozen(kw_only=True)
class Poll:
    """Schedule of the polls of tasks; durations in seconds, each more than 0.

    The client learns the duration of the tasks of each model and polls when they are likely to end.

    Attributes:
        timeout: Maximum time that ``wait``, ``watch`` and ``run`` wait for a task by default; default 600.
        delay_per_poll: Delay that is worth one poll, default 0.25. Where tasks take many polls, a fourth of
            it about halves the delay and doubles the polls. A poll that shares a request costs its share,
            down to a fourth, unless there is a maximum number of polls per second.
        first: Time until the first poll of a task while the durations of its model are unknown, default 5;
            an eighth of it beside four or more other waits, which share the request. Such tasks are expected
            to take four times as long, or the ``estimated_time`` of the service as far as it is at most 20 s;
            of a longer one, a third, but no less than 20 s.
        shortest: Minimum time between two polls of a task, default 0.5. Where half of the tasks of a model
            end sooner than in twice this time, it is half of their median duration.
        longest: Maximum time between two polls of a task, default 15. The first poll may come later when the
            durations of its model are known.
        requests_per_second: Maximum number of polls per second; ``None``, the default, for no limit. Tasks
            that share a request count once. Above the limit, the tasks longest overdue are polled first.
    """

    timeout: float = attrs.field(default=600.0, validator=positive)
    delay_per_poll: float = attrs.field(default=0.25, validator=positive)
    first: float = attrs.field(default=5.0, validator=positive)
    shortest: float = attrs.field(default=0.5, validator=positive)
    longest: float = attrs.field(default=15.0, validator=positive)
    requests_per_second: float | None = attrs.field(default=None, validator=validators.optional(positive))


@attrs.frozen(kw_only=True)
class Media:
    """Changes to pictures before they are sent.

    Attributes:
        convert: ``"auto"``, the default, converts such pictures before they are sent: HEIC, AVIF, TIFF, BMP,
            JPEG 2000 and Photoshop files, and files over the size limit of the service (20,971,520 bytes for
            APIMart). They become PNG if pixels are transparent and otherwise JPEG at quality 92, upright and
            with their ICC profile; a file that is still too large is scaled down. The conversion needs the
            extra ``formats``. ``"never"`` refuses such pictures: for programs that promise to send pictures
            unchanged, or that must not decode files of strangers.
        keep_metadata: Whether to leave EXIF, XMP and IPTC metadata (place, time, camera, author, comments and
            thumbnails) and bytes behind the end of a picture in it; default False, as the URL of an upload is
            public. Pixels, colours, animation and the EXIF orientation stay in any case. A converted picture
            keeps no metadata, and your own URLs are passed on as they are.
        on_convert: Called in the event loop after each conversion, with the sentence that the logger
            ``apimart_async`` gets too: ``"photo.heic was converted from a HEIC photo to JPEG."``
    """

    convert: Literal["auto", "never"] = attrs.field(default="auto", validator=choice("auto", "never"))
    keep_metadata: bool = attrs.field(default=False, validator=flag)
    on_convert: Callable[[str], object] | None = attrs.field(default=None, validator=optional_plain_function)


def _resolve_timeout(timeout: Timeout | float | None) -> Timeout:
    if timeout is None:
        return Timeout()
    if is_number(timeout):
        return Timeout(total=cast("float", timeout))
    return _instance(timeout, Timeout, "timeout", "a Timeout or a number of seconds")


def _resolve_retry(retry: Retry | None) -> Retry:
    return Retry() if retry is None else _instance(retry, Retry, "retry", "a Retry")


def _resolve_limits(limits: Limits | None) -> Limits:
    return Limits() if limits is None else _instance(limits, Limits, "limits", "a Limits")


def _resolve_poll(poll: Poll | None) -> Poll:
    return Poll() if poll is None else _instance(poll, Poll, "poll", "a Poll")


def _resolve_media(media: Media | None) -> Media:
    return Media() if media is None else _instance(media, Media, "media", "a Media")


def _instance(value: object, kind: type[_T], name: str, words: str) -> _T:
    if not isinstance(value, kind):
        raise wrong_type(name, words, value)
    return value


def _resolve_check(check: Check | None) -> Check:
    return cast("Check", os.environ.get(CHECK_VARIABLE) or "schema") if check is None else check


def _is_check(_: object, __: object, check: object) -> None:
    if check not in ("schema", "off"):
        raise InvalidArgumentError(f"check and {CHECK_VARIABLE} must be 'schema' or 'off', not {check!r}.")


def _resolve_headers(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    if headers is not None:
        check_headers(headers, "default_headers")
    return dict(headers or {})


def _is_ssl(_: object, __: object, ssl: Any) -> None:  # noqa: ANN401 mypy would take it for the field's
    if not (ssl is None or isinstance(ssl, bool | SSLContext)):
        raise wrong_type("ssl", "an ssl.SSLContext or False", ssl)


@attrs.frozen(kw_only=True)
class Settings:
    """The resolved and checked arguments of a client.

    Attributes:
        api_key: The key or the function that returns it.
        base_url: Origin and path prefix of the API.
        mirrors: Further base URLs of the same account, in order of preference.
        timeout: Timeouts of one HTTP request; a number of seconds is the total.
        max_retries: Retries of a request that is safe to send again.
        retry: Delays between the attempts.
        limits: Maximum use of resources.
        poll: Schedule of the polls.
        media: Changes to pictures before they are sent.
        check: Whether paid requests are checked against the schema of their model.
        proxy: Proxy; ``None`` takes the proxy from the environment.
        ssl: TLS context; ``False`` turns certificate checks off.
        default_headers: Headers of every request to the API; never sent to a file host. An ``Authorization``
            among them replaces the key.
        allow_http: Whether the key may be sent unencrypted to another machine.
    """

    api_key: Secret | KeyFunction = attrs.field(repr=lambda _: "***")  # a callable object may show its key
    base_url: str
    mirrors: tuple[str, ...] = attrs.field(default=(), converter=tuple[str, ...])
    timeout: Timeout = attrs.field(default=None, converter=_resolve_timeout)
    max_retries: int = attrs.field(default=2, validator=not_negative)
    retry: Retry = attrs.field(default=None, converter=_resolve_retry)
    limits: Limits = attrs.field(default=None, converter=_resolve_limits)
    poll: Poll = attrs.field(default=None, converter=_resolve_poll)
    media: Media = attrs.field(default=None, converter=_resolve_media)
    check: Check = attrs.field(default=None, converter=_resolve_check, validator=_is_check)
    proxy: Proxy | None = None
    ssl: SSLContext | bool | None = attrs.field(default=None, repr=False, validator=_is_ssl)
    default_headers: Mapping[str, str] = attrs.field(default=None, converter=_resolve_headers, repr=False)
    allow_http: bool = False

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Return every base URL, preferred first."""
        return self.base_url, *self.mirrors


def revise(settings: Settings, *, api_key: ApiKey | None, **options: object) -> Settings:
    """Return a copy of the settings with the given options; those that are ``None`` stay as they are.

    Raises:
        InvalidArgumentError: A value is invalid.
    """
    if api_key is not None:
        options["api_key"] = _hashable(api_key) if callable(api_key) else check_api_key(_secret(api_key))
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    return attrs.evolve(settings, **given)


def resolve_api_key(api_key: ApiKey | None, variable: str) -> Secret | KeyFunction:
    """Return the given key, or the key in the environment variable.

    Raises:
        InvalidArgumentError: There is no key, or a header cannot carry it.
    """
    if callable(api_key):
        return _hashable(api_key)
    key = _secret(os.environ.get(variable, "") if api_key is None else api_key)
    if not key.open().strip():
        message = (
            f"No API key: pass api_key=… or set {variable}. "
            "For a first try without one, run `apimart emulator` and use the key and base URL it prints."
        )
        raise InvalidArgumentError(message)
    return check_api_key(key)


def _hashable(function: KeyFunction) -> KeyFunction:
    """Return a function by which copies of a client know that they share an account."""
    try:
        hash(function)
    except TypeError:
        return partial(function)
    return function


def _secret(api_key: object) -> Secret:
    hidden = hide(api_key)
    if not isinstance(hidden, Secret):
        raise wrong_type("api_key", "a text, or a function that returns the key", api_key)
    return hidden


def check_api_key(key: Secret) -> Secret:
    """Return the key without surrounding whitespace.

    Raises:
        InvalidArgumentError: The key is blank, too long, or holds characters that a header cannot carry.
    """
    if not _KEY.fullmatch(key.open().strip()):
        raise InvalidArgumentError(
            "The API key is blank, has more than 8,192 characters, or holds characters that a header cannot "
            "carry."
        )
    return Secret(key.open().strip())


def check_headers(headers: Mapping[str, str], argument: str = "extra_headers") -> None:
    """Check headers that a caller gives.

    Raises:
        InvalidArgumentError: A header is not a text, holds a line break, or is reserved for the client.
    """
    # Typed as `object`: callers without a type checker pass anything.
    if not isinstance(cast("object", headers), Mapping):
        raise wrong_type(argument, "a mapping such as a dict", headers)
    for name, value in headers.items():
        if unfit := [each for each in (name, value) if not isinstance(cast("object", each), str)]:
            raise wrong_type(f"Each name and value of {argument}", "a text", unfit[0])
        # Many servers take an underscore for a hyphen.
        reason = _RESERVED_HEADERS.get(name.lower().replace("_", "-"))
        if reason is not None:
            raise InvalidArgumentError(f"The header {name} cannot be given: {reason}.")
        if not name or not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
            raise InvalidArgumentError(f"{name!r} cannot be the name of a header.")
        if _UNFIT_IN_HEADERS.search(value):
            raise InvalidArgumentError(
                f"The value of the header {name} holds a line break or another control character."
            )
