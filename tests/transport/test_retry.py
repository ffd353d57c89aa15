"""The effect of each answer and the decision after it, without sockets, and decisions that must not be."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import format_datetime
from itertools import product
from random import Random
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async import Retry, errors
from apimart_async.transport.error_parsing import ServiceError
from apimart_async.transport.retry import (
    Action,
    Attempt,
    Decision,
    Effect,
    Kind,
    backoff,
    decide,
    effect_of_answer,
    effective_status,
    error_class,
    read_retry_after,
)

if TYPE_CHECKING:
    from typing import Literal

# --- the effect of an answer ------------------------------------------------------------------------------


def effect_of(status: int, said: ServiceError | None) -> Effect:
    """Return the effect of an error answer, the way an answer is read."""
    effective = effective_status(status, said)
    error = error_class(effective or status)(
        said.message if said else "no",
        status=effective or status,
        code=said.code if said else None,
        type=said.type if said else None,
    )
    return effect_of_answer(effective, error)


@pytest.mark.parametrize(
    ("status", "code", "kind", "effect"),
    [
        (100, None, None, Effect.UNKNOWN),
        (302, None, None, Effect.REJECTED),
        (400, None, None, Effect.REJECTED),
        (401, "", "apimart_error", Effect.REJECTED),
        (402, "402", "payment_required", Effect.REJECTED),
        (403, None, "permission_error", Effect.REJECTED),
        (404, None, None, Effect.REJECTED),
        (408, None, None, Effect.UNKNOWN),
        (413, None, None, Effect.REJECTED),
        (422, None, None, Effect.REJECTED),
        (429, None, None, Effect.DEFERRED),
        (429, "rate_limit_exceeded", "rate_limit_error", Effect.DEFERRED),
        (429, "insufficient_quota", None, Effect.REJECTED),
        (409, "idempotency_in_progress", None, Effect.DEFERRED),
        (409, "409", "idempotency_in_progress", Effect.DEFERRED),
        (409, "idempotency_key_reused", None, Effect.REJECTED),
        (409, "idempotency_result_indeterminate", None, Effect.UNKNOWABLE),
        (409, "", "conflict_error", Effect.UNKNOWABLE),
        (409, None, None, Effect.UNKNOWABLE),
        (500, None, None, Effect.UNKNOWN),
        (502, None, "bad_gateway", Effect.UNKNOWN),
        (503, "get_channel_failed", None, Effect.UNKNOWN),
        (503, "idempotency_unavailable", None, Effect.DEFERRED),
        (503, "503", "idempotency_unavailable", Effect.DEFERRED),
        (504, None, None, Effect.UNKNOWN),
        (524, None, None, Effect.UNKNOWN),
        (599, None, None, Effect.UNKNOWN),
    ],
)
def test_effect_and_error_class_of_an_answer(
    status: int, code: str | None, kind: str | None, effect: Effect
) -> None:
    error = None if code is kind is None else ServiceError("no", None, code, kind)
    assert effect_of(status, error) is effect


@pytest.mark.parametrize(
    ("said", "code", "kind", "effect", "raised"),
    [
        (400, None, None, Effect.REJECTED, errors.BadRequestError),
        (402, None, None, Effect.REJECTED, errors.InsufficientBalanceError),
        (429, None, None, Effect.DEFERRED, errors.RateLimitError),
        (500, None, None, Effect.UNKNOWN, errors.InternalServerError),
        (504, None, None, Effect.UNKNOWN, errors.InternalServerError),
        (None, None, "invalid_request_error", Effect.REJECTED, errors.BadRequestError),
        (None, "payment_required", None, Effect.REJECTED, errors.InsufficientBalanceError),
        (None, "", "rate_limit_error", Effect.DEFERRED, errors.RateLimitError),
        (None, None, "server_error", Effect.UNKNOWN, errors.InternalServerError),
        (None, None, "service_unavailable", Effect.UNKNOWN, errors.InternalServerError),
        (None, "upstream_hiccup", None, Effect.UNKNOWABLE, errors.APIStatusError),
        (None, None, None, Effect.UNKNOWABLE, errors.APIStatusError),
    ],
)
def test_an_error_inside_a_200_counts_and_an_unexplained_one_leaves_doubt(
    said: int | None, code: str | None, kind: str | None, effect: Effect, raised: type[errors.APIStatusError]
) -> None:
    error = ServiceError("no", said, code, kind)
    assert effect_of(200, error) is effect
    assert error_class(effective_status(200, error) or 200) is raised


@pytest.mark.parametrize(
    ("message", "effect"),
    [
        ("build_request_failed: size", Effect.REJECTED),
        ("Build_Request_Failed", Effect.REJECTED),
        ("stopped by content moderation", Effect.REJECTED),
        ("upstream said build_request_failed", Effect.UNKNOWN),
        ("boom", Effect.UNKNOWN),
    ],
)
def test_a_500_is_permanent_only_when_it_says_so(message: str, effect: Effect) -> None:
    assert effect_of(500, ServiceError(message)) is effect
    assert effect_of(502, ServiceError(message)) is Effect.UNKNOWN


# --- the decision -----------------------------------------------------------------------------------------

TRIES: Final = 3
SAME_KEY: Final = Retry(indeterminate="same-key")

# The decision after each effect, while attempts are left and after the last: for free requests, for paid
# requests, and for paid requests with a key that the caller allows to be sent again.
TABLE: Final = {
    Effect.DONE: (("return", "return", "return"), ("return", "return", "return")),
    Effect.REJECTED: (("raise", "raise", "raise"), ("raise", "raise", "raise")),
    Effect.DEFERRED: (("retry", "retry", "retry"), ("retry", "retry", "retry")),
    Effect.NEVER_SENT: (("retry", "retry", "retry"), ("raise", "raise", "raise")),
    Effect.UNKNOWN: (("retry", "indeterminate", "retry"), ("raise", "indeterminate", "indeterminate")),
    Effect.UNKNOWABLE: (
        ("raise", "indeterminate", "indeterminate"),
        ("raise", "indeterminate", "indeterminate"),
    ),
}


@pytest.mark.parametrize("effect", Effect)
@pytest.mark.parametrize("kind", Kind)
def test_decision_in_every_case(effect: Effect, kind: Kind) -> None:
    choices: tuple[Literal["raise", "same-key"], ...] = ("raise", "same-key")
    for choice, has_key, was_unknown, number in product(
        choices, (True, False), (True, False), range(1, TRIES + 2)
    ):
        trusting = choice == "same-key" and has_key
        column = 0 if kind is not Kind.PAID_WRITE else 2 if trusting else 1
        expected = Action(TABLE[effect][number > TRIES][column])
        if column and was_unknown and expected is Action.RAISE:
            expected = Action.INDETERMINATE
        refusals = number if effect is Effect.DEFERRED else 0
        attempt = Attempt(kind, effect, number, has_key=has_key, was_unknown=was_unknown, refusals=refusals)
        decision = decide(attempt, Retry(indeterminate=choice), TRIES, Random(0))
        assert decision.action is expected, (attempt, choice)


def test_a_wait_the_service_asks_for_is_kept_to_the_millisecond_or_not_at_all() -> None:
    retry = Retry(max_retry_after=60)

    def after(seconds: float) -> Decision:
        attempt = Attempt(Kind.PAID_WRITE, Effect.DEFERRED, 1, retry_after=seconds)
        return decide(attempt, retry, 2, Random(0))

    assert after(0) == Decision(Action.RETRY, 0)
    assert after(1.234) == Decision(Action.RETRY, 1.234)
    assert after(60) == Decision(Action.RETRY, 60)
    assert after(60.001).action is Action.RAISE


def test_refusals_are_repeated_until_the_time_is_over_and_never_without_a_delay() -> None:
    random, retry = Random(0), Retry(max_elapsed=300)

    def after(number: int, elapsed: float) -> Decision:
        attempt = Attempt(Kind.PAID_WRITE, Effect.DEFERRED, number, elapsed, retry_after=0.0, refusals=number)
        return decide(attempt, retry, 2, random)

    delays = [after(number, 0).delay for number in range(3, 200)]
    assert all(0 < delay <= retry.max_delay for delay in delays)
    assert sum(delays) / len(delays) > 2
    assert after(3, 301).action is Action.RAISE


RETRIES: Final = st.builds(
    Retry,
    initial_delay=st.floats(0.001, 100),
    max_delay=st.floats(0.001, 100),
    max_retry_after=st.floats(0, 1000),
    max_elapsed=st.floats(0, 1000),
    indeterminate=st.sampled_from(["raise", "same-key"]),
)
WAITS: Final = st.none() | st.floats(0, 1e6)
RANDOMS: Final = st.randoms(use_true_random=False)
CASES: Final = st.builds(
    Attempt,
    kind=st.sampled_from(Kind),
    effect=st.sampled_from(Effect),
    number=st.integers(1, 10_000),
    elapsed=st.floats(0, 2000),
    retry_after=WAITS,
    has_key=st.booleans(),
    was_unknown=st.booleans(),
    refusals=st.integers(0, 100),
)


@given(CASES, RETRIES, st.integers(0, 10_000), RANDOMS)
def test_nothing_is_decided_that_must_not_be(
    attempt: Attempt, retry: Retry, most: int, random: Random
) -> None:
    decision = decide(attempt, retry, most, random)
    is_paid = attempt.kind is Kind.PAID_WRITE
    is_unknown = attempt.effect in {Effect.UNKNOWN, Effect.UNKNOWABLE}
    assert (decision.action is Action.RETURN) == (attempt.effect is Effect.DONE)
    if is_paid and is_unknown and not (attempt.has_key and retry.indeterminate == "same-key"):
        assert decision.action is Action.INDETERMINATE
    if is_paid and (is_unknown or attempt.was_unknown):
        assert decision.action is not Action.RAISE
    if not is_paid or not (is_unknown or attempt.was_unknown):
        assert decision.action is not Action.INDETERMINATE
    if attempt.effect in {Effect.REJECTED, Effect.UNKNOWABLE}:
        assert decision.action is not Action.RETRY
    if decision.action is not Action.RETRY:
        assert decision.delay == 0
        return
    assert attempt.number - attempt.refusals <= most
    assert 0 <= decision.delay <= max(retry.max_delay, retry.max_retry_after)
    assert attempt.retry_after is None or decision.delay >= attempt.retry_after
    if attempt.retry_after is not None and attempt.number <= most:
        assert decision.delay == attempt.retry_after
    assert attempt.elapsed + decision.delay <= retry.max_elapsed


@given(
    st.lists(st.tuples(st.sampled_from(Effect), WAITS, st.floats(0, 10)), min_size=1),
    RETRIES,
    st.integers(0, 5),
    st.booleans(),
    RANDOMS,
)
def test_a_paid_request_is_not_sent_again_after_one_that_may_have_been_executed(
    answers: list[tuple[Effect, float | None, float]],
    retry: Retry,
    most: int,
    has_key: bool,  # noqa: FBT001 drawn by hypothesis
    random: Random,
) -> None:
    elapsed, was_unknown, sent, refusals = 0.0, False, 0, 0
    for number, (effect, retry_after, took) in enumerate(answers, start=1):
        assert not was_unknown or (has_key and retry.indeterminate == "same-key")
        sent += effect is not Effect.NEVER_SENT
        elapsed += took
        refusals += effect is Effect.DEFERRED
        attempt = Attempt(
            Kind.PAID_WRITE, effect, number, elapsed, retry_after, has_key, was_unknown, refusals
        )
        decision = decide(attempt, retry, most, random)
        was_unknown |= effect in {Effect.UNKNOWN, Effect.UNKNOWABLE}
        if decision.action is not Action.RETRY:
            assert (decision.action is Action.INDETERMINATE) == (was_unknown and effect is not Effect.DONE)
            break
        elapsed += decision.delay
        assert elapsed <= retry.max_elapsed
    assert sent - refusals <= most + 1


@given(st.integers(1, 100_000), RETRIES, RANDOMS)
def test_delays_are_spread_under_a_doubling_ceiling(attempt: int, retry: Retry, random: Random) -> None:
    ceiling = min(retry.max_delay, math.ldexp(retry.initial_delay, min(attempt - 1, 1000)))
    assert 0 <= backoff(attempt, retry, random) <= ceiling


def test_delays_fill_the_room_they_have() -> None:
    random = Random(0)
    drawn = [backoff(3, Retry(initial_delay=1, max_delay=100), random) for _ in range(1000)]
    assert min(drawn) < 0.1
    assert max(drawn) > 3.9
    assert 1.8 < sum(drawn) / len(drawn) < 2.2


# --- the wait asked for -----------------------------------------------------------------------------------

NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": format_datetime(NOW.replace(minute=6), usegmt=True)}, 120),
        ({"retry-after": format_datetime(NOW.replace(year=2000), usegmt=True)}, 0),
        ({"retry-after": "Fri, 02 Jan 2026 03:04:15 -0000"}, 10),
        ({"retry-after": "99999999999999999999"}, 1e20),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
    ],
)
def test_the_wait_asked_for_is_read_in_every_form(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, NOW) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms"]), st.text(max_size=40)))
def test_any_header_gives_a_number_of_seconds_or_none(headers: dict[str, str]) -> None:
    seconds = read_retry_after(headers, NOW)
    assert seconds is None or 0 <= seconds < math.inf


@given(
    st.integers(300, 999),
    st.none()
    | st.builds(
        ServiceError,
        message=st.text(),
        status=st.none() | st.integers(400, 599),
        code=st.none() | st.text(),
        type=st.none() | st.text(),
    ),
)
def test_any_answer_has_an_effect_and_an_error_class(status: int, error: ServiceError | None) -> None:
    effect = effect_of(status, error)
    assert effect is not Effect.DONE
