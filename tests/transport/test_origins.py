"""The origin for each attempt, without sockets and with moments that a test makes up."""

from __future__ import annotations

from typing import Final

import pytest

from apimart_async import (
    APIConnectionError,
    APIError,
    AuthenticationError,
    InternalServerError,
    NotFoundError,
    RateLimitError,
)
from apimart_async.transport.origins import Origins, Route
from apimart_async.transport.responses import FailedAttempt
from apimart_async.transport.retry import Effect, Kind

A: Final = "https://a.example"
B: Final = "https://b.example"
C: Final = "https://c.example"


def failed(effect: Effect, error: APIError | None = None, retry_after: float | None = None) -> FailedAttempt:
    return FailedAttempt(effect, error or APIConnectionError("no answer"), retry_after)


def attempt(route: Route, failure: FailedAttempt) -> FailedAttempt | None:
    route.next(0.0)
    return route.failed(failure, 0.0)


def unknown_task() -> FailedAttempt:
    return failed(Effect.REJECTED, NotFoundError("no such task", status=404, code="task_not_found"))


REFUSED: Final = failed(Effect.NEVER_SENT)


def tried(origins: Origins, *failures: FailedAttempt, kind: Kind = Kind.READ, home: str | None = None) -> str:
    """Return the first letters of the hosts that a request tries, as it fails with these in turn."""
    route = Route(origins, kind, home)
    found = [route.next(0.0)]
    for failure in failures:
        if route.failed(failure, 0.0) is not None:
            break
        found.append(route.next(0.0))
    return "".join(base_url.removeprefix("https://")[0] for base_url in found)


def test_requests_go_to_the_preferred_origin_while_it_works() -> None:
    origins = Origins([A, B])
    assert [origins.order(0.0) for _ in range(2)] == [[A, B], [A, B]]


def test_an_origin_out_of_reach_is_left_alone_and_then_tried_by_one_request() -> None:
    origins = Origins([A, B])
    origins.failed(A, 0.0, is_sent=False)
    assert origins.order(4.9)[0] == B
    assert origins.order(5.0)[0] == A
    assert origins.order(5.0)[0] == B  # while the first of these has no answer
    origins.worked(A)
    assert origins.order(5.0)[0] == A


def test_the_pauses_of_an_origin_double_up_to_five_minutes() -> None:
    origins, now = Origins([A, B]), 0.0
    moments: list[float] = []
    origins.failed(A, now, is_sent=False)
    while len(moments) < 9:
        now += 1.0
        if origins.order(now)[0] == A:
            origins.failed(A, now, is_sent=False)
            moments.append(now)
    pauses = [later - earlier for earlier, later in zip([0.0, *moments], moments, strict=False)]
    assert pauses == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_many_failures_at_once_count_as_one() -> None:
    origins = Origins([A, B])
    for _ in range(100):
        origins.failed(A, 0.0, is_sent=False)
    assert origins.order(5.0)[0] == A


def test_three_bad_answers_in_a_row_count_as_out_of_reach() -> None:
    origins = Origins([A, B])
    for _ in range(2):
        origins.failed(A, 0.0, is_sent=True)
    origins.worked(A)
    for _ in range(2):
        origins.failed(A, 0.0, is_sent=True)
    assert origins.order(0.0)[0] == A
    origins.failed(A, 0.0, is_sent=True)
    assert origins.order(0.0)[0] == B


def test_a_task_is_asked_for_at_its_own_origin_first_unless_that_is_out_of_reach() -> None:
    origins = Origins([A, B, C])
    assert origins.order(0.0, C) == [C, A, B]
    origins.failed(C, 0.0, is_sent=False)
    assert origins.order(0.0, C) == [A, B, C]


def test_all_origins_out_of_reach_are_tried_all_the_same() -> None:
    origins = Origins([A, B])
    for base_url in (A, B):
        origins.failed(base_url, 0.0, is_sent=False)
    assert origins.order(1.0) == [A, B]


@pytest.mark.parametrize("kind", Kind)
def test_any_request_moves_on_when_nothing_was_sent(kind: Kind) -> None:
    assert tried(Origins([A, B, C]), REFUSED, REFUSED, REFUSED, kind=kind) == "abc"


@pytest.mark.parametrize("effect", [effect for effect in Effect if effect is not Effect.NEVER_SENT])
@pytest.mark.parametrize("before", [(), (REFUSED,)])
def test_a_paid_request_that_was_sent_stays_at_its_origin_for_good(
    effect: Effect, before: tuple[FailedAttempt, ...]
) -> None:
    route = Route(Origins([A, B, C]), Kind.PAID_WRITE)
    for failure in before:
        assert attempt(route, failure) is None
    failure = failed(effect)
    assert attempt(route, failure) is failure
    sent_to = route.base_url
    assert sent_to == (B if before else A)
    assert attempt(route, REFUSED) is REFUSED  # and no other origin takes over
    assert route.next(0.0) == sent_to


@pytest.mark.parametrize("kind", [Kind.READ, Kind.FREE_WRITE])
def test_a_free_request_moves_on_after_what_may_be_the_fault_of_an_origin(kind: Kind) -> None:
    broken = failed(Effect.UNKNOWN, InternalServerError("bad gateway", status=502))
    assert tried(Origins([A, B, C]), failed(Effect.UNKNOWN), broken, REFUSED, kind=kind) == "abc"


@pytest.mark.parametrize(
    "failure",
    [
        failed(Effect.DEFERRED, RateLimitError("slow down", status=429), 1.0),
        failed(Effect.UNKNOWN, InternalServerError("overloaded", status=503), 1.0),
        failed(Effect.REJECTED, AuthenticationError("wrong key", status=401)),
    ],
    ids=["429", "503 with a wait", "401"],
)
def test_a_free_request_does_not_evade_limits_and_refusals(failure: FailedAttempt) -> None:
    assert tried(Origins([A, B]), failure) == "a"


def test_the_failure_of_the_tasks_own_origin_counts() -> None:
    route = Route(Origins([A, B]), Kind.READ, B)
    verdict = unknown_task()
    assert attempt(route, verdict) is None
    assert attempt(route, REFUSED) is verdict
    route = Route(Origins([A, B]), Kind.READ, B)
    lost = failed(Effect.UNKNOWN)
    assert attempt(route, lost) is None
    assert attempt(route, unknown_task()) is lost


def test_a_task_of_unknown_origin_is_unknown_only_if_all_say_so() -> None:
    route = Route(Origins([A, B]), Kind.READ)
    attempt(route, unknown_task())
    assert attempt(route, REFUSED) is REFUSED
    route = Route(Origins([A, B]), Kind.READ)
    attempt(route, unknown_task())
    verdict = attempt(route, unknown_task())
    assert verdict is not None
    assert isinstance(verdict.error, NotFoundError)


def test_the_error_names_the_other_origins_in_its_notes() -> None:
    route = Route(Origins([A, B]), Kind.READ)
    first = failed(Effect.NEVER_SENT, APIConnectionError("refused"))
    attempt(route, first)
    assert attempt(route, failed(Effect.NEVER_SENT, APIConnectionError("no such name"))) is first
    assert first.error.__notes__ == [f"{B} failed as well: no such name"]
