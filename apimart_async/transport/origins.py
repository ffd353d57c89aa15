"""Pure: the origin for each attempt of a request, where a service can be reached at several.

All origins serve the same account. A request goes to the first origin that works, in the order of the caller.
After a failure the next origin takes over at once: for a paid request, only while nothing of it was sent; for
a free one, after any failure that may be the origin's own. An origin that cannot be reached is left alone for
a while, and then tried by one request.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import attrs

from apimart_async import errors
from apimart_async.transport.retry import Effect, Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from apimart_async.transport.responses import FailedAttempt

# Seconds until an origin out of reach is tried again, and the most: each pause is twice the one before.
_FIRST_PAUSE: Final = 5.0
_LONGEST_PAUSE: Final = 300.0
# Failures in a row, though connected, after which an origin counts as out of reach.
_MAX_DOUBTS: Final = 3
_SERVER_ERROR: Final = 500


@attrs.define(eq=False)
class _State:
    """Condition of one origin.

    Attributes:
        pause: Seconds to leave it alone after the next failure; 0 while it works.
        retry_at: Moment from which on it may be tried.
        doubts: Failures in a row of requests that were sent.
    """

    pause: float = 0.0
    retry_at: float = -math.inf
    doubts: int = 0


class Origins:
    """The origins of a service and their condition, shared by a client and its copies.

    Args:
        base_urls: Base URLs of the origins, preferred first.

    Attributes:
        base_urls: Each of them once.
    """

    def __init__(self, base_urls: Iterable[str]) -> None:
        self._states = {base_url: _State() for base_url in base_urls}
        self.base_urls: tuple[str, ...] = tuple(self._states)

    def order(self, now: float, home: str | None = None) -> list[str]:
        """Return all base URLs in the order in which a request tries them.

        Args:
            now: Moment.
            home: Origin to try before others that work.
        """
        states = self._states
        found = sorted(states, key=lambda base_url: (states[base_url].retry_at > now, base_url != home))
        # Other requests go elsewhere until this one has tried it.
        self._pause(states[found[0]], now)
        return found

    def worked(self, base_url: str) -> None:
        """Record that an origin has answered."""
        state = self._states[base_url]
        state.pause, state.retry_at, state.doubts = 0.0, -math.inf, 0

    def failed(self, base_url: str, now: float, *, is_sent: bool) -> None:
        """Record that an origin could not be reached, or has not answered a request well."""
        state = self._states[base_url]
        state.doubts += is_sent
        if not state.pause and (not is_sent or state.doubts >= _MAX_DOUBTS):
            state.pause = _FIRST_PAUSE
            self._pause(state, now)

    def _pause(self, state: _State, now: float) -> None:
        if state.pause and state.retry_at <= now:
            state.retry_at = now + state.pause
            state.pause = min(2 * state.pause, _LONGEST_PAUSE)


class Route:
    """The origins that one request tries, one after the other.

    Args:
        origins: Those of the client.
        kind: Consequence of executing the request twice.
        home: Origin of the task that is asked for: it is tried first, and its failure is raised. For a paid
            request, the origin that may have executed it before: the request goes there only.

    Raises:
        InvalidArgumentError: A paid request may only be sent to an origin that ``base_url`` does not name.

    Attributes:
        base_url: Base URL of the last attempt; before the first, of the origin that is preferred.
    """

    def __init__(self, origins: Origins, kind: Kind, home: str | None = None) -> None:
        is_paid = kind is Kind.PAID_WRITE
        if home is not None and home not in origins.base_urls:
            if is_paid:
                raise errors.InvalidArgumentError(
                    f"This paid request was sent to {home} before, and its idempotency key is known there: "
                    "name that address in base_url too."
                )
            home = None
        self.base_url: str = home or origins.base_urls[0]
        self._origins = origins
        self._kind = kind
        self._home = home
        self._pinned = home if is_paid else None
        self._order: Sequence[str] = ()
        self._failures: dict[str, FailedAttempt] = {}

    def next(self, now: float) -> str:
        """Return the base URL for an attempt that is sent now."""
        if not self._order:
            origins = self._origins
            if self._pinned:
                self._order = [self._pinned]
            elif len(origins.base_urls) > 1:
                self._order = origins.order(now, self._home)
            else:
                self._order = origins.base_urls
        self.base_url = self._order[len(self._failures)]
        return self.base_url

    def failed(self, failed: FailedAttempt, now: float) -> FailedAttempt | None:
        """Record a failed attempt.

        Returns:
            The failure of the request, after which a further attempt starts at the first origin again;
            ``None`` if the next origin takes over at once.
        """
        base_url, effect = self.base_url, failed.effect
        is_sent = effect is not Effect.NEVER_SENT
        status = failed.error.status
        if is_sent and status is not None and status < _SERVER_ERROR:
            self._origins.worked(base_url)
        else:
            self._origins.failed(base_url, now, is_sent=is_sent)
        if self._kind is Kind.PAID_WRITE and is_sent:
            # It may be executed here, and only here is its key known for certain.
            self._pinned = base_url
        if self._passes_on(failed):
            self._failures[base_url] = failed
            if len(self._failures) < len(self._order):
                return None
            failed = self._conclusion()
        self._order, self._failures = (), {}
        return failed

    def _passes_on(self, failed: FailedAttempt) -> bool:
        """Tell whether another origin may do better."""
        if failed.effect is Effect.NEVER_SENT:
            return True
        if self._kind is Kind.PAID_WRITE or failed.retry_after is not None:
            return False
        if failed.effect is Effect.REJECTED:
            is_unknown = self._kind is Kind.READ and isinstance(failed.error, errors.NotFoundError)
            # A refusal by a later origin alone says more about that origin than about the request.
            return is_unknown or (bool(self._failures) and failed.error.status is not None)
        return failed.effect is Effect.UNKNOWN

    def _conclusion(self) -> FailedAttempt:
        """Return the failure that counts once all origins have failed.

        A task is unknown if its own origin says so, or, if that is not known, if all of them do.
        """
        failures = list(self._failures.values())
        by_home = self._failures.get(self._home or "")
        chosen = by_home or next((each for each in failures if not _is_not_found(each)), failures[0])
        for base_url, failed in self._failures.items():
            if failed is not chosen:
                message = errors.visible(failed.error.message)
                chosen.error.add_note(f"{base_url} failed as well: {message}")
        return chosen


def _is_not_found(failed: FailedAttempt) -> bool:
    """Tell whether the service itself does not know a task, and not a gateway before it."""
    error = failed.error
    return isinstance(error, errors.NotFoundError) and (error.code is not None or error.type is not None)
