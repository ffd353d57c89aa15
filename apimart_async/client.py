"""``AsyncApimart``: the composition root of the APIMart services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Self

from apimart_async import config, errors
from apimart_async.arguments import check_types
from apimart_async.base_urls import resolve_base_urls, resolve_proxy
from apimart_async.credentials import Secret, hide
from apimart_async.hooks import as_hooks
from apimart_async.polling.poller import SharedPolling
from apimart_async.resources.account import AsyncAccount
from apimart_async.resources.catalogue import AsyncModels, Prices
from apimart_async.resources.edits import DEFAULT_MODEL, AsyncEdits
from apimart_async.resources.generations import AsyncGenerations
from apimart_async.resources.images import AsyncImages
from apimart_async.resources.schemas import CatalogueCache, Schemas
from apimart_async.resources.tasks import AsyncTasks
from apimart_async.resources.uploads import AsyncUploads, UploadMemory

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from ssl import SSLContext

    import aiohttp

    from apimart_async.hooks import EventHooks
    from apimart_async.models import Quote
    from apimart_async.transport.rate_limit import RateLimiter
    from apimart_async.transport.session import Session


class _Shared(NamedTuple):
    """State that a client shares with its copies."""

    session: Session
    rate_limiter: RateLimiter
    polling: SharedPolling
    catalogue: CatalogueCache
    uploads: UploadMemory | None


class AsyncApimart:
    """A client of the APIMart image services.

    The first request opens the first connection. Use the client as an async context manager, or call
    ``close``.

    Args:
        api_key: The key, or a function, async or not, that returns the key of one account for each request;
            ``APIMART_API_KEY`` by default.
        base_url: Base URL; ``APIMART_BASE_URL``, or else ``https://api.apimart.ai``, by default. Several, as
            a list or separated by commas, are addresses of the same service with the same key, preferred
            first: the next one takes over when nothing was sent to the one before. The key is sent to these
            origins only.
        timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds; ``Timeout()`` by
            default.
        max_retries: Maximum number of retries where sending again is safe, 0 or more; default 2. Requests
            that the service refuses for now (429) do not count: ``Retry.max_elapsed`` ends these; 0 turns all
            retries off.
        retry: Delays between the attempts; ``Retry()`` by default.
        limits: Maximum connections, concurrent requests and sizes; ``Limits()`` by default.
        poll: Schedule of the polls of tasks; ``Poll()`` by default.
        media: Changes to pictures before they are sent; by default ``Media()``, which converts pictures that
            the service refuses, and removes private metadata.
        check: ``"schema"`` fetches the schema of a model before the first paid request for it, within 5 s,
            and refuses requests that the model does not take; without a schema, requests are sent unchecked.
            ``"off"`` leaves the decision to the service. ``APIMART_CHECK``, or else ``"schema"``, by default.
        reuse_uploads: Whether edits, generations and batches upload an image once, as long as its URL works;
            default True. The path of a folder also keeps the uploads there, for other clients and later runs:
            at most 72 h and 4096 of them, for your user alone.
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
        uploads: Upload images to the file host of the service.
        edits: Edit images.
        generations: Generate images from a prompt and reference images.
        tasks: Fetch, wait for and watch tasks.
        images: Save, read and stream result images.
        account: Fetch the balance and the models.
        models: Fetch the models, their schemas and their documentation.
    """

    uploads: AsyncUploads
    edits: AsyncEdits
    generations: AsyncGenerations
    tasks: AsyncTasks
    images: AsyncImages
    account: AsyncAccount
    models: AsyncModels

    def __init__(
        self,
        api_key: config.ApiKey | None = None,
        *,
        base_url: str | Sequence[str] | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int = 2,
        retry: config.Retry | None = None,
        limits: config.Limits | None = None,
        poll: config.Poll | None = None,
        media: config.Media | None = None,
        check: config.Check | None = None,
        reuse_uploads: bool | str | os.PathLike[str] = True,
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
            base_url, "APIMART_BASE_URL", config.APIMART_BASE_URL, allow_http=allow_http
        )
        settings = config.Settings(
            api_key=config.resolve_api_key(api_key, "APIMART_API_KEY"),
            base_url=base_urls[0],
            mirrors=base_urls[1:],
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            limits=limits,
            poll=poll,
            media=media,
            check=check,
            proxy=resolve_proxy(proxy, base_urls, allow_http=allow_http),
            ssl=ssl,
            default_headers=default_headers,
            allow_http=allow_http,
        )
        shared = _Shared(
            Session(settings, session, as_hooks(event_hooks)),
            RateLimiter(settings.limits),
            SharedPolling(),
            CatalogueCache(),
            UploadMemory.of(reuse_uploads),
        )
        self._assemble(settings, shared)

    def _assemble(self, settings: config.Settings, shared: _Shared) -> None:
        from apimart_async.transport.api import Api

        self._settings = settings
        self._shared = shared
        self._session = shared.session
        api = Api(settings, shared.session, shared.rate_limiter)
        schemas = Schemas(api, shared.catalogue)
        self._prices = Prices(api, shared.catalogue)
        self.models = AsyncModels(api, schemas)
        self.uploads = AsyncUploads(api, shared.uploads)
        self.tasks = AsyncTasks(api, shared.polling)
        self.edits = AsyncEdits(api, self.tasks, schemas, shared.uploads)
        self.generations = AsyncGenerations(api, self.tasks, schemas, shared.uploads)
        self.images = AsyncImages(api)
        self.account = AsyncAccount(api)

    def with_options(
        self,
        *,
        api_key: config.ApiKey | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int | None = None,
        retry: config.Retry | None = None,
        poll: config.Poll | None = None,
        media: config.Media | None = None,
        check: config.Check | None = None,
        default_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a copy of the client with other options.

        The copy shares the connections, the rate limit and the uploads; closing either client closes both.
        Arguments that are ``None`` keep the options of this client.

        Args:
            api_key: Another key for the same service.
            timeout: Timeouts of one HTTP request as a ``Timeout``, or the total in seconds.
            max_retries: Maximum number of retries where sending again is safe, 0 or more.
            retry: Delays between the attempts.
            poll: Schedule of the polls of tasks.
            media: Changes to pictures before they are sent.
            check: Whether paid requests are checked against the schema of their model.
            default_headers: Headers that replace the headers of this client.

        Raises:
            InvalidArgumentError: An argument is invalid.
        """
        api_key = hide(api_key)
        settings = config.revise(
            self._settings,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            poll=poll,
            media=media,
            check=check,
            default_headers=default_headers,
        )
        copy = object.__new__(type(self))
        copy._assemble(settings, self._shared)
        return copy

    async def quote(
        self, model: str = DEFAULT_MODEL, *, n: int = 1, timeout: float | None = None
    ) -> Quote | None:
        """Return the expected cost of a paid request, before it is sent. Free.

        The client and its copies keep the prices of the service for an hour.

        Args:
            model: Name of the model; by default that of ``edits.create``.
            n: Number of images, 1 or more; default 1.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The price of an image and the cost of all; ``None`` if the catalogue of the service does not tell
            a price per image for this model, or not in USD.

        Raises:
            InvalidArgumentError: The name is empty, or ``n`` is less than 1.
            APIError: A request failed after all retries.

        Cancellation leaves nothing behind.
        """
        return await self._prices.quote(model, n, timeout)

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
        return self._shared.rate_limiter.search.to_dict()

    def load_rate_limit_stats(self, data: Mapping[str, Any]) -> None:
        """Load the value of ``rate_limit_stats``, so that the first requests are near the limit.

        Args:
            data: The value. Malformed data, another version, and data for a client that has received an
                answer or is not adaptive are ignored.
        """
        self._shared.rate_limiter.load(data)

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
            return "AsyncApimart(…)"
        base_url = list(self.base_urls) if len(self.base_urls) > 1 else self.base_url
        return f"AsyncApimart(base_url={base_url!r})"

    def __reduce__(self) -> tuple[object, ...]:
        raise errors.InvalidArgumentError("A client holds connections and a key, and cannot be pickled.")
