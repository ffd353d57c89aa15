"""``AsyncAppleRouter``: the composition root of the OpenAI-compatible image service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self, cast

from apimart_async import config, errors
from apimart_async.arguments import check_types, is_number
from apimart_async.base_urls import resolve_base_urls, resolve_proxy
from apimart_async.credentials import Secret, hide
from apimart_async.hooks import as_hooks
from apimart_async.resources.applerouter_edits import AsyncAppleRouterEdits
from apimart_async.resources.applerouter_generations import AsyncAppleRouterGenerations
from apimart_async.resources.images import AsyncImages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from ssl import SSLContext

    import aiohttp

    from apimart_async.hooks import EventHooks
    from apimart_async.transport.rate_limit import RateLimiter
    from apimart_async.transport.session import Session

# The answer comes when the images are finished, without a byte before.
_TIMEOUT: Final = config.Timeout(read=300.0, total=600.0)


def _resolve_timeout(timeout: config.Timeout | float | None) -> config.Timeout | float | None:
    """Return the timeouts for a number of seconds, all of which may pass before the first byte."""
    if not is_number(timeout):
        return timeout
    seconds = cast("float", timeout)
    return config.Timeout(read=max(_TIMEOUT.read, seconds), total=seconds)


class AsyncAppleRouter:
    """A client of AppleRouter, or of any service with OpenAI's edits and generations of images.

    The first request opens the first connection. Use the client as an async context manager, or call
    ``close``.

    Args:
        api_key: The key, or a function, async or not, that returns the key of one account for each request;
            ``APPLEROUTER_API_KEY`` by default.
        base_url: Base URL; ``APPLEROUTER_BASE_URL``, or else ``https://api.applerouter.ai``, by default.
            Several, as a list or separated by commas, are addresses of the same service with the same key,
            preferred first: the next one takes over when nothing was sent to the one before. The key is sent
            to these origins only.
        timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds, which may pass
            without a byte of the answer; by default 300 s without a byte and 600 s in total. A service that
            answers with the images is silent until they are done: a ``read`` that is too short loses paid
            images.
        max_retries: Maximum number of retries where sending again is safe, 0 or more; default 2. Requests
            that the service refuses for now (429) do not count: ``Retry.max_elapsed`` ends these; 0 turns all
            retries off.
        retry: Delays between the attempts; ``Retry()`` by default.
        limits: Maximum connections, concurrent requests and sizes; ``Limits()`` by default.
        media: Changes to pictures before they are sent; by default ``Media()``, which converts pictures that
            the service refuses, and removes private metadata.
        proxy: URL of an HTTP proxy; by default the proxy of the environment, which is never used for this
            machine.
        ssl: TLS context; ``False`` turns certificate checks off.
        default_headers: Headers of every request to the API; never sent to a file host. An ``Authorization``
            among them replaces the key.
        session: Your aiohttp session, for its middlewares or traces. The client sends all requests through
            it and never closes it. If it sends an ``Authorization`` or cookies with every request, files are
            fetched without it.
        event_hooks: Functions that are called before and after each HTTP request, as an ``EventHooks`` or a
            sequence of these; none by default.
        allow_http: Whether the key may be sent unencrypted to an ``http://`` base URL on another machine, or
            through a proxy there.

    Raises:
        InvalidArgumentError: There is no key, or an argument is invalid.

    Attributes:
        edits: Edit images.
        generations: Make new images.
        images: Save, read and stream result images.
    """

    edits: AsyncAppleRouterEdits
    generations: AsyncAppleRouterGenerations
    images: AsyncImages

    def __init__(
        self,
        api_key: config.ApiKey | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int = 2,
        retry: config.Retry | None = None,
        limits: config.Limits | None = None,
        media: config.Media | None = None,
        proxy: str | Secret | None = None,
        ssl: SSLContext | bool | None = None,
        default_headers: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
        event_hooks: EventHooks | Sequence[EventHooks] | None = None,
        allow_http: bool = False,
    ) -> None:
        from apimart_async.transport.rate_limit import RateLimiter
        from apimart_async.transport.session import Session

        # Before anything can raise: trackers of errors show local variables.
        api_key, proxy = hide(api_key), hide(proxy)
        check_types(allow_http=allow_http)
        base_urls = resolve_base_urls(
            base_url, "APPLEROUTER_BASE_URL", config.APPLEROUTER_BASE_URL, allow_http=allow_http
        )
        settings = config.Settings(
            api_key=config.resolve_api_key(api_key, "APPLEROUTER_API_KEY"),
            base_url=base_urls[0],
            mirrors=base_urls[1:],
            timeout=_TIMEOUT if timeout is None else _resolve_timeout(timeout),
            max_retries=max_retries,
            retry=retry,
            limits=limits,
            media=media,
            proxy=resolve_proxy(proxy, base_urls, allow_http=allow_http),
            ssl=ssl,
            default_headers=default_headers,
            allow_http=allow_http,
        )
        self._assemble(
            settings, Session(settings, session, as_hooks(event_hooks)), RateLimiter(settings.limits)
        )

    def _assemble(self, settings: config.Settings, session: Session, rate_limiter: RateLimiter) -> None:
        from apimart_async.transport.api import Api

        self._settings = settings
        self._session = session
        self._rate_limiter = rate_limiter
        api = Api(settings, session, rate_limiter)
        self.edits = AsyncAppleRouterEdits(api)
        self.generations = AsyncAppleRouterGenerations(api)
        self.images = AsyncImages(api)

    def with_options(
        self,
        *,
        api_key: config.ApiKey | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int | None = None,
        retry: config.Retry | None = None,
        media: config.Media | None = None,
        default_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a copy of the client with other options.

        The copy shares the connections and the rate limit; closing either client closes both. Arguments
        that are ``None`` keep the options of this client.

        Args:
            api_key: Another key for the same service.
            timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds, which may pass
                without a byte of the answer.
            max_retries: Maximum number of retries where sending again is safe, 0 or more.
            retry: Delays between the attempts.
            media: Changes to pictures before they are sent.
            default_headers: Headers that replace the headers of this client.

        Raises:
            InvalidArgumentError: An argument is invalid.
        """
        api_key = hide(api_key)
        settings = config.revise(
            self._settings,
            api_key=api_key,
            timeout=_resolve_timeout(timeout),
            max_retries=max_retries,
            retry=retry,
            media=media,
            default_headers=default_headers,
        )
        copy = object.__new__(type(self))
        copy._assemble(settings, self._session, self._rate_limiter)
        return copy

    @property
    def base_url(self) -> str:
        """Return the base URL of the service: of several, the preferred one."""
        return self._settings.base_url

    @property
    def base_urls(self) -> tuple[str, ...]:
        """Return every base URL that requests may go to, preferred first."""
        return self._settings.base_urls

    @property
    def event_hooks(self) -> Sequence[EventHooks]:
        """Return the event hooks that were given to the client.

        .. versionadded:: 0.1
        """
        return self._session.hooks

    def rate_limit_stats(self) -> dict[str, Any]:
        """Return the limits of the service, as far as they are known: plain data that JSON can hold.

        ``rate`` is in requests per second and ``concurrency`` in concurrent requests, both ``None`` while no
        limit is known; ``noise`` is the share of requests that are refused for other reasons. Batches keep
        them in their journal, as they keep ``tasks.duration_stats``.
        """
        return self._rate_limiter.search.to_dict()

    def load_rate_limit_stats(self, data: Mapping[str, Any]) -> None:
        """Load the value of ``rate_limit_stats``, so that the first requests are near the limit.

        Args:
            data: The value. Malformed data, another version, and data for a client that has received an
                answer or is not adaptive are ignored.
        """
        self._rate_limiter.load(data)

    async def close(self) -> None:
        """Close the connections, but not your ``session``. A second call does nothing.

        Calls under way end with an error. Cancellation waits until the connections are closed.
        """
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_settings"):  # trackers of errors show a client that could not be made
            return "AsyncAppleRouter(…)"
        base_url = list(self.base_urls) if len(self.base_urls) > 1 else self.base_url
        return f"AsyncAppleRouter(base_url={base_url!r})"

    def __reduce__(self) -> tuple[object, ...]:
        raise errors.InvalidArgumentError("A client holds connections and a key, and cannot be pickled.")
