"""Each kind of rate limit: which requests are accepted, and the answers to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

from apimart_async.emulator import RateLimit
from apimart_async.emulator.rate_limit import RateLimits
from apimart_async.emulator.responses import ServiceError

if TYPE_CHECKING:
    from .conftest import Open


def accepted(limits: RateLimits, moments: list[float]) -> list[float]:
    """Return the moments at which a request is accepted."""
    result = []
    for now in moments:
        try:
            limits.check(now, "edits")
        except ServiceError:
            continue
        limits.finished("edits")
        result.append(now)
    return result


def test_the_token_bucket_allows_a_burst_and_then_the_rate() -> None:
    bucket = RateLimits([RateLimit(limit=5, retry_after="exact")], seed=0)
    for _ in range(5):
        bucket.check(0, "edits")
    with pytest.raises(ServiceError) as refused:
        bucket.check(0, "edits")
    assert refused.value.headers == {"Retry-After": "1"}
    bucket.check(0.2, "edits")
    with pytest.raises(ServiceError):
        bucket.check(0.3, "edits")


async def test_requests_beyond_the_rate_are_refused(open_emulator: Open) -> None:
    async with open_emulator(rate_limit=0.001) as raw:
        assert (await raw.send("GET", "/v1/models")).status == 200
        answer = await raw.edit()
        assert answer.status == 429
        assert answer.json["error"]["type"] == "rate_limit_error"
        assert 0 < int(answer.headers["Retry-After"]) <= 1000
        assert (await raw.send("GET", "/files/results/a/b")).status == 404, "the file host has no limit"
        raw.emulator.advance(1000)
        assert (await raw.edit()).status == 200
        assert len(raw.emulator.ledger.entries) == 1


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (RateLimit(limit=2, burst=1), [0.0, 0.5, 1.0, 1.5]),
        (RateLimit(kind="fixed-window", limit=2), [0.0, 0.25, 1.0, 1.25]),
        (RateLimit(kind="sliding-window", limit=2, seconds=1.1), [0.0, 0.25, 1.25, 1.5]),
        (RateLimit(kind="random", limit=1, begins=0.5, ends=1.5), [0.0, 0.25, 1.5, 1.75]),
        (RateLimit(kind="random", limit=1, times=2), [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]),
        (RateLimit(limit=1, route="uploads"), [quarter / 4 for quarter in range(8)]),
    ],
    ids=["token bucket", "fixed window", "sliding window", "outage", "times", "another route"],
)
def test_each_kind_accepts_requests_up_to_its_limit(rule: RateLimit, expected: list[float]) -> None:
    assert accepted(RateLimits([rule], seed=0), [quarter / 4 for quarter in range(8)]) == expected


def test_concurrent_requests_are_limited_until_one_is_finished() -> None:
    limits = RateLimits([RateLimit(kind="concurrency", limit=2, status=503)], seed=0)
    limits.check(0, "edits")
    limits.check(0, "tasks")
    with pytest.raises(ServiceError) as refused:
        limits.check(0, "edits")
    assert refused.value.status == 503
    limits.finished("tasks")
    limits.check(0, "edits")


def test_a_share_is_refused_at_random() -> None:
    limits = RateLimits([RateLimit(kind="random", limit=0.2)], seed=1)
    assert 750 < len(accepted(limits, [0.0] * 1000)) < 850


def test_a_request_that_one_rule_refuses_is_not_counted_by_the_others() -> None:
    limits = RateLimits([RateLimit(limit=1), RateLimit(kind="random", limit=1, times=3)], seed=0)
    assert accepted(limits, [0.0] * 5) == [0.0]


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": 1, "kind": "other"}, {"limit": 1, "status": 500}]
)
def test_invalid_rules_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RateLimit(**options)


async def test_several_rules_hold_over_sockets(open_emulator: Open) -> None:
    rules = [
        RateLimit(kind="fixed-window", limit=3, seconds=1000, retry_after=7),
        RateLimit(kind="concurrency", limit=20, status=503),
    ]
    async with open_emulator(rate_limit=rules) as raw:
        statuses: list[int] = []

        async def send() -> None:
            answer = await raw.send("GET", "/v1/models")
            statuses.append(answer.status)
            assert answer.status == 200 or answer.headers["Retry-After"] == "7"

        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(send)
        assert sorted(statuses) == [200] * 3 + [429] * 5
        raw.emulator.advance(1000)
        assert (await raw.send("GET", "/v1/models")).status == 200
