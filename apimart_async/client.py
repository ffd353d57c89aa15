"""``AsyncApimart``: the composition root of the APIMart services."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Self

from apimart_async import config, errors
from apimart_async.polling.sharing import Sharing
from apimart_async.resources.account import AsyncAccount
from apimart_async.resources.edits import AsyncEdits
from apimart_async.resources.generations import AsyncGenerations
from apimart_async.resources.images import AsyncImages
from apimart_async.resources.tasks import AsyncTasks
from apimart_async.resources.uploads import AsyncUploads

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ssl import SSLContext
    from types import TracebackType

    import aiohttp

    from apimart_async.transport.rate_limit import Throttle
    from apimart_async.transport.session import Session

_KEY_VARIABLE: Final = "APIMART_API_KEY"
_ELSEWHERE: Final = (
    "For a first try without one, run `apimart emulator` and use the key and base URL it prints."
)


class AsyncApimart:
    """A client of the APIMart image services.

    It opens no connection until the first request. Use it as a context manager, or call ``close``.

    Args:
        api_key: The key, or a function that returns it, asynchronous or not, called for each request;
            ``APIMART_API_KEY`` by default.
        base_url: ``APIMART_BASE_URL``, or else ``https://api.apimart.ai``, by default. The key goes there and
            nowhere else.
        timeout: Of one HTTP request: a ``Timeout``, or seconds in all.
        max_retries: Tries after the first, where trying again is safe: 0 or more.
        retry: Delays between tries.
        limits: What the client may use at most, such as connections.
        poll: How tasks are waited for.
        proxy: Proxy URL; the environment's by default.
        ssl: TLS context; ``False`` turns certificate checks off.
        default_headers: Sent to the API with every request, never to a file host.
        session: An aiohttp session of yours, for its middlewares or traces; requests then go through it,
            at half as much again. It is never closed here.
        allow_http: Let the key travel unencrypted to an ``http://`` base URL that is not on this machine.

    Raises:
        InvalidArgumentError: There is no key, or an argument cannot be right.

    Attributes:
        uploads: Put pictures on the service's file host.
        edits: Change a picture as a prompt says.
        generations: Make a picture from a prompt, and from other pictures.
        tasks: Fetch, wait for and watch tasks.
        images: Save, read and stream results.
        account: The balance and the models.
    """

    uploads: AsyncUploads
    edits: AsyncEdits
    generations: AsyncGenerations
    tasks: AsyncTasks
    images: AsyncImages
    account: AsyncAccount

    def __init__(
        self,
        api_key: config.ApiKey | None = None,
        *,
        base_url: str | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int = 2,
        retry: config.Retry | None = None,
        limits: config.Limits | None = None,
        poll: config.Poll | None = None,
        proxy: str | None = None,
        ssl: SSLContext | bool | None = None,
        default_headers: Mapping[str, str] | None = None,
        session: aiohttp.ClientSession | None = None,
        allow_http: bool = False,
    ) -> None:
        from apimart_async.transport.rate_limit import Throttle
        from apimart_async.transport.session import Session

        settings = config.Settings(
            api_key=config.resolve_api_key(api_key, _KEY_VARIABLE, _ELSEWHERE),
            base_url=config.resolve_base_url(
                base_url, "APIMART_BASE_URL", config.APIMART_BASE_URL, allow_http=allow_http
            ),
            timeout=config.resolve_timeout(timeout),
            max_retries=max_retries,
            retry=retry or config.Retry(),
            limits=limits or config.Limits(),
            poll=poll or config.Poll(),
            proxy=proxy,
            ssl=ssl,
            default_headers=dict(default_headers or {}),
        )
        self._assemble(settings, Session(settings, session), Throttle(settings.limits), Sharing())

    def _assemble(
        self,
        settings: config.Settings,
        session: Session,
        throttle: Throttle,
        sharing: Sharing,
    ) -> None:
        from apimart_async.transport.api import Service

        self._settings = settings
        self._session = session
        self._throttle = throttle
        self._sharing = sharing
        service = Service(settings, session, throttle)
        self.uploads = AsyncUploads(service)
        self.tasks = AsyncTasks(service, sharing)
        self.edits = AsyncEdits(service, self.tasks)
        self.generations = AsyncGenerations(service, self.tasks)
        self.images = AsyncImages(service)
        self.account = AsyncAccount(service)

    def with_options(
        self,
        *,
        api_key: config.ApiKey | None = None,
        timeout: config.Timeout | float | None = None,
        max_retries: int | None = None,
        retry: config.Retry | None = None,
        poll: config.Poll | None = None,
        default_headers: Mapping[str, str] | None = None,
    ) -> Self:
        """Return a copy with other options that shares the connections; closing either closes both.

        Args:
            api_key: Another key for the same service.
            timeout: Of one HTTP request: a ``Timeout``, or seconds in all.
            max_retries: Tries after the first: 0 or more.
            retry: Delays between tries.
            poll: How tasks are waited for.
            default_headers: Instead of the client's own.

        Raises:
            InvalidArgumentError: An argument cannot be right.
        """
        settings = config.revise(
            self._settings,
            _KEY_VARIABLE,
            api_key=api_key,
            timeout=timeout,
            max_retries=max_retries,
            retry=retry,
            poll=poll,
            default_headers=default_headers,
        )
        copy = object.__new__(type(self))
        copy._assemble(settings, self._session, self._throttle, self._sharing)
        return copy

    @property
    def base_url(self) -> str:
        """Return the base URL that requests go to."""
        return self._settings.base_url

    async def close(self) -> None:
        """Close the connections; a second call does nothing. A session of yours stays open."""
        await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncApimart(base_url={self.base_url!r})"

    def __reduce__(self) -> tuple[object, ...]:
        raise errors.InvalidArgumentError("A client holds connections and a key, and cannot be pickled.")
