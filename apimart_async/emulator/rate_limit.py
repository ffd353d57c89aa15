"""Rate limits of the API: rules that refuse requests, and their responses."""

from __future__ import annotations

import math
import random
from collections import deque
from typing import TYPE_CHECKING, Literal

from attrs import define, field, frozen, validators

from .faults import PLACES, Place
from .responses import ServiceError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .routing import Route

Kind = Literal["token-bucket", "fixed-window", "sliding-window", "concurrency", "random"]


@frozen(kw_only=True)
class RateLimit:
    """A rule that refuses requests beyond a limit.

    A limit that changes is two rules, one after the other. An outage is a `random` rule with the limit 1.

    Args:
        kind: `token-bucket`: `limit` tokens per `seconds`, at most `burst` of them. `fixed-window`: `limit`
            requests in each interval of `seconds`. `sliding-window`: `limit` requests in the last `seconds`.
            `concurrency`: `limit` requests at once. `random`: the share `limit` of all requests.
        limit: The limit, more than 0; by `kind`.
        seconds: Length of the window, more than 0.
        burst: Tokens of a full bucket; by default one window's worth, at least one.
        status: Status of a refusal, 429 or 503.
        retry_after: Seconds in `Retry-After`; "exact" for the time until the rule accepts the next request,
            None for no such header.
        route: The route that the rule counts and refuses; "any" for all together.
        begins: Seconds after the start of the emulator at which the rule begins.
        ends: Seconds after the start of the emulator at which the rule ends.
        times: At most this many refusals.

    Raises:
        ValueError: An argument is out of its range.
    """

    kind: Kind = field(
        default="token-bucket",
        validator=validators.in_(("token-bucket", "fixed-window", "sliding-window", "concurrency", "random")),
    )
    limit: float = field(validator=validators.gt(0.0))
    seconds: float = field(default=1.0, validator=validators.gt(0.0))
    burst: float | None = field(default=None, validator=validators.optional(validators.ge(1.0)))
    status: Literal[429, 503] = field(default=429, validator=validators.in_((429, 503)))
    retry_after: float | Literal["exact"] | None = None
    route: Place = field(default="any", validator=validators.in_(PLACES))
    begins: float = 0.0
    ends: float = math.inf
    times: float = math.inf

    @property
    def most_tokens(self) -> float:
        """Tokens of a full bucket."""
        return max(1.0, self.limit) if self.burst is None else self.burst


@define
class _Rule:
    """A rule and its count of requests."""

    rate_limit: RateLimit
    tokens: float = field(init=False)
    at: float = 0.0
    accepted: deque[float] = field(factory=deque[float])
    running: int = 0
    refused: int = 0

    def __attrs_post_init__(self) -> None:
        self.tokens = self.rate_limit.most_tokens

    def applies(self, now: float, route: Route) -> bool:
        rule = self.rate_limit
        is_due = rule.begins <= now < rule.ends and self.refused < rule.times
        return is_due and rule.route in {"any", route}

    def wait(self, now: float, chance: float) -> float:
        """Return the seconds until a request is accepted, 0 if it is accepted now."""
        rule = self.rate_limit
        rate = rule.limit / rule.seconds
        if rule.kind == "token-bucket":
            self.tokens = min(rule.most_tokens, self.tokens + (now - self.at) * rate)
            self.at = now
            # The sum of many small parts of a token is a little less than the token.
            return max(0.0, 1 - self.tokens - 1e-9) / rate
        if rule.kind == "concurrency":
            return 0.0 if self.running < rule.limit else 1.0
        if rule.kind == "random":
            return 1.0 if chance < rule.limit else 0.0
        is_fixed = rule.kind == "fixed-window"
        begins = now // rule.seconds * rule.seconds if is_fixed else now - rule.seconds
        while self.accepted and (self.accepted[0] < begins or self.accepted[0] <= now - rule.seconds):
            self.accepted.popleft()
        if len(self.accepted) < rule.limit:
            return 0.0
        return (begins if is_fixed else self.accepted[0]) + rule.seconds - now

    def accept(self, now: float) -> None:
        self.tokens -= 1
        self.running += self.rate_limit.kind == "concurrency"
        if self.rate_limit.kind.endswith("window"):
            self.accepted.append(now)


class RateLimits:
    """The rules of an emulator; all moments are seconds of one clock.

    Args:
        rules: The rules; a request is accepted if all accept it, and only then counted.
        seed: Seed of the random refusals.
    """

    def __init__(self, rules: Iterable[RateLimit], seed: int) -> None:
        self._rules = [_Rule(rule) for rule in rules]
        self._random = random.Random(seed)

    def check(self, now: float, route: Route) -> None:
        """Count a request, which `finished` ends.

        Raises:
            ServiceError: A rule refuses it.
        """
        rules = [rule for rule in self._rules if rule.applies(now, route)]
        for rule in rules:
            wait = rule.wait(now, self._random.random())
            if wait > 0:
                rule.refused += 1
                raise _refusal(rule.rate_limit, wait, route)
        for rule in rules:
            rule.accept(now)

    def finished(self, route: Route) -> None:
        """End a request that was accepted."""
        for rule in self._rules:
            if rule.rate_limit.route in {"any", route}:
                rule.running = max(0, rule.running - 1)

    def headers(self) -> dict[str, str]:
        """Return the headers in which AppleRouter reports its limit."""
        rule = next((rule for rule in self._rules if rule.rate_limit.kind == "token-bucket"), None)
        if rule is None:
            return {}
        most, remaining = rule.rate_limit.most_tokens, max(0, int(rule.tokens))
        reset = (most - remaining) * rule.rate_limit.seconds / rule.rate_limit.limit
        return {
            "x-ratelimit-limit-requests": f"{most:g}",
            "x-ratelimit-remaining-requests": str(remaining),
            "x-ratelimit-reset-requests": f"{reset:.3f}s",
        }


def _refusal(rule: RateLimit, wait: float, route: Route) -> ServiceError:
    seconds = wait if rule.retry_after == "exact" else rule.retry_after
    headers = None if seconds is None else {"Retry-After": str(math.ceil(seconds))}
    if headers and seconds is not None and route == "applerouter":
        headers["Retry-After-Ms"] = str(math.ceil(seconds * 1000))
    is_overload = rule.status == 503  # noqa: PLR2004
    limit = f"{rule.limit:g} requests " + (
        "at once" if rule.kind == "concurrency" else f"per {rule.seconds:g} s"
    )
    return ServiceError(
        status=rule.status,
        code="get_channel_failed" if is_overload else "rate_limit_exceeded",
        message="the service is overloaded" if is_overload else f"rate limit of {limit} exceeded",
        headers=headers,
    )
