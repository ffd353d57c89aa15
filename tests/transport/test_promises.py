"""Paid requests with a lost answer are sent again if a schema promises to execute each key once.

The ledger of the emulator has all bills. `grok-keeps` promises and keeps it, `grok-breaks` promises
and does not, `grok-plain` promises nothing.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import random
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    InvalidArgumentError,
    Limits,
    Poll,
    Retry,
    SubmissionIndeterminateError,
    Task,
    interrupted,
)
from apimart_async.emulator import Emulator, Fault, ModelSpec

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.clock import Clock

KEEPS = ModelSpec(model="grok-keeps", promises=True)
BREAKS = ModelSpec(model="grok-breaks", promises=True, keeps=False)
PLAIN = ModelSpec(model="grok-plain")
QUICK = Retry(initial_delay=0.01, max_delay=0.02)
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LOST = Fault(kind="disconnect", route="generations", executed=True, first=1)


@asynccontextmanager
async def service(
    *faults: Fault,
    models: tuple[ModelSpec, ...] = (KEEPS, BREAKS, PLAIN),
    retry: Retry = QUICK,
    **options: Any,
) -> AsyncGenerator[tuple[Emulator, AsyncApimart]]:
    async with (
        Emulator(task_seconds=0, images="tiny", models=models, faults=faults) as emulator,
        AsyncApimart(
            emulator.api_key,
            base_url=emulator.base_url,
            retry=retry,
            limits=Limits(adaptive=False),
            poll=Poll(first=0.02, shortest=0.02, longest=0.05),
            **options,
        ) as client,
    ):
        yield emulator, client


def paid(emulator: Emulator) -> list[str | None]:
    return [seen.idempotency_key for seen in emulator.requests if seen.route == "generations"]


@pytest.mark.parametrize("check", ["schema", "off"])
async def test_kept_promise_brings_the_lost_task_and_bills_it_once(check: Any) -> None:
    async with service(LOST, check=check) as (emulator, client):
        task = await client.generations.create("stars", model="grok-keeps")
        (entry,) = emulator.ledger.entries
        assert (task.id, task.is_replay) == (entry.task_id, True)
        first, second = paid(emulator)
        assert first == second == task.idempotency_key
        done = await client.tasks.wait(task)
        assert (done.is_replay, done.cost) == (True, emulator.ledger.total)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="truncated", route="generations", first=1),
        Fault(kind="empty", route="generations", first=1),
        Fault(kind="status", status=502, route="generations", executed=True, first=1),
        Fault(kind="status", status=504, route="generations", executed=True, first=1),
        Fault(kind="html", status=200, route="generations", executed=True, first=1),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status or ''}".strip(),
)
async def test_kept_promise_holds_for_every_way_to_lose_an_answer(fault: Fault) -> None:
    async with service(fault) as (emulator, client):
        task = await client.generations.create("stars", model="grok-keeps")
        assert [entry.task_id for entry in emulator.ledger.entries] == [task.id]


async def test_without_a_promise_nothing_is_sent_again() -> None:
    async with service(LOST) as (emulator, client):
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("stars", model="grok-plain")
        assert (len(paid(emulator)), len(emulator.ledger.entries)) == (1, 1)


async def test_without_schemas_nothing_is_sent_again() -> None:
    async with service(LOST) as (_, client):
        pass
    async with (
        Emulator(task_seconds=0, models=None, faults=[LOST]) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, retry=QUICK) as client,
    ):
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("stars", model="grok-keeps")
        assert len(emulator.ledger.entries) == 1


async def test_schema_that_cannot_be_fetched_promises_nothing() -> None:
    away = Fault(kind="status", status=503, route="catalogue")
    async with service(LOST, away) as (emulator, client):
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("stars", model="grok-keeps")
        assert len(paid(emulator)) == 1


async def test_raise_sends_nothing_again_whatever_the_schema_promises() -> None:
    async with service(LOST, retry=Retry(indeterminate="raise")) as (emulator, client):
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("stars", model="grok-keeps")
        assert len(paid(emulator)) == 1


@pytest.mark.parametrize(
    "changed",
    [
        {"header": "X-Request-Key"},
        {"replay_header": "X-Replayed"},
        {"replay_header": None},
        {"retention_seconds": None},
        {"retention_seconds": 200},
    ],
)
async def test_promise_that_cannot_be_checked_or_ends_too_soon_is_not_relied_on(
    changed: dict[str, Any],
) -> None:
    class Odd(ModelSpec):
        def schema(self, operation: str) -> dict[str, Any]:
            found = super().schema(operation)
            return found | {"idempotency": found["idempotency"] | changed}

    async with service(LOST, models=(Odd(model="grok-odd", promises=True),)) as (emulator, client):
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("stars", model="grok-odd")
        assert len(paid(emulator)) == 1


async def test_nothing_is_sent_again_once_the_key_may_be_forgotten(clock: Clock) -> None:
    # The repeat must end before: its longest duration is 300 s.
    refused = Fault(kind="idempotency-in-progress", route="generations", retry_after=30)
    patient = Retry(max_retry_after=60, max_elapsed=10_000)
    short = ModelSpec(model="grok-short", promises=True, retention=600)
    first = Fault(kind="disconnect", route="generations", executed=True, first=1)
    async with service(first, refused, models=(short,), retry=patient) as (emulator, client):
        async with clock.rushing(1):
            with pytest.raises(SubmissionIndeterminateError):
                await client.generations.create("stars", model="grok-short")
        times = [seen.at for seen in emulator.requests if seen.route == "generations"]
        assert len(times) > 2
        assert times[-1] - times[0] <= 300


async def test_broken_promise_raises_the_alarm_and_ends_repeats_for_the_model(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with service() as (emulator, client):
        emulator.faults.add(LOST)
        task = await client.generations.create("stars", model="grok-breaks")
        assert task.is_replay is False
        (alarm,) = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "grok-breaks is not marked as a replay: it may be billed twice" in alarm.getMessage()
        assert len(emulator.ledger.entries) == 2

        emulator.faults.clear()
        emulator.faults.add(LOST)
        with pytest.raises(SubmissionIndeterminateError):
            await client.with_options(timeout=30).generations.create("moon", model="grok-breaks")
        assert len(emulator.ledger.entries) == 3
        # Other models are not concerned.
        emulator.faults.clear()
        emulator.faults.add(LOST)
        assert (await client.generations.create("sun", model="grok-keeps")).is_replay


async def test_broken_promise_costs_one_repeat_however_many_answers_are_lost() -> None:
    lost = Fault(kind="disconnect", route="generations", executed=True, first=30)
    async with service(lost) as (emulator, client):
        found: list[Task | SubmissionIndeterminateError] = []

        async def submit(number: int) -> None:
            try:
                found.append(await client.generations.create(f"star {number}", model="grok-breaks"))
            except SubmissionIndeterminateError as error:
                found.append(error)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(submit, number)
        billed = Counter(entry.idempotency_key for entry in emulator.ledger.entries)
        assert sum(count - 1 for count in billed.values()) <= 1
        assert sum(isinstance(each, Task) for each in found) <= 1


async def test_repeat_without_an_answer_suspends_repeats_until_the_promise_was_seen_kept(
    clock: Clock,
) -> None:
    lost = Fault(kind="disconnect", route="generations", executed=True, first=2)
    async with service(lost) as (emulator, client):
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("stars", model="grok-keeps")
        assert len(paid(emulator)) == 2
        emulator.faults.clear()
        emulator.faults.add(LOST)
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("moon", model="grok-keeps")
        assert len(paid(emulator)) == 3
        clock.advance(3700)
        emulator.faults.clear()
        emulator.faults.add(LOST)
        assert (await client.generations.create("sun", model="grok-keeps")).is_replay
        # From then on, as often as other requests are retried.
        emulator.faults.clear()
        emulator.faults.add(lost)
        assert (await client.generations.create("rain", model="grok-keeps")).is_replay


async def test_refused_repeat_stays_in_doubt() -> None:
    refused = Fault(kind="status", status=402, route="generations")
    async with service(LOST, refused) as (_, client):
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.create("stars", model="grok-keeps")


async def test_answer_to_a_first_request_says_nothing_about_replays() -> None:
    async with service() as (_, client):
        task = await client.generations.create("stars", model="grok-keeps", idempotency_key="mine")
        again = await client.generations.create("stars", model="grok-keeps", idempotency_key="mine")
    assert (task.is_replay, again.is_replay, again.id) == (None, True, task.id)


async def test_applerouter_is_never_asked_again() -> None:
    lost = Fault(kind="disconnect", route="applerouter", executed=True, first=1)
    async with (
        Emulator(images="tiny", faults=[lost]) as emulator,
        AsyncAppleRouter(emulator.api_key, base_url=emulator.base_url, retry=QUICK) as client,
    ):
        with pytest.raises(SubmissionIndeterminateError):
            await client.edits.create(PNG, "stars", model="gpt-image-2.5-flare")
        assert (emulator.counts["applerouter"], emulator.counts["catalogue"]) == (1, 0)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.long
async def test_stress_bills_no_key_twice_but_the_one_that_breaks_the_promise(seed: int) -> None:
    chances = random.Random(seed)
    faults = [
        Fault(kind="disconnect", route="generations", executed=True, probability=0.15),
        Fault(kind="truncated", route="generations", probability=0.1),
        Fault(kind="status", status=502, route="generations", executed=True, probability=0.1),
        Fault(kind="status", status=429, route="generations", retry_after=0.01, probability=0.1),
        Fault(kind="idempotency-in-progress", route="generations", retry_after=0.01, probability=0.05),
    ]
    told: Counter[str] = Counter()
    async with service(LOST) as (emulator, client):
        # Shows that the promise is kept.
        assert (await client.generations.create("first", model="grok-keeps")).is_replay
        emulator.faults.clear()
        emulator.faults.add(*faults)

        async def submit(model: str, number: int) -> None:
            try:
                task = await client.generations.create(
                    f"star {number}", model=model, idempotency_key=f"{model}-{number}"
                )
            except SubmissionIndeterminateError:
                told[f"{model} in doubt"] += 1
            else:
                assert task.id in {entry.task_id for entry in emulator.ledger.entries}
                told[f"{model} answered"] += 1

        limit = anyio.CapacityLimiter(20)

        async def limited(model: str, number: int) -> None:
            async with limit:
                await submit(model, number)

        work = [(spec.model, number) for spec in (KEEPS, BREAKS, PLAIN) for number in range(100)]
        chances.shuffle(work)
        async with anyio.create_task_group() as group:
            for model, number in work:
                group.start_soon(limited, model, number)
    again = Counter(
        entry.model
        for key in keys_billed_again(emulator)
        for entry in emulator.ledger.entries
        if entry.idempotency_key == key
    )
    assert again["grok-keeps"] == again["grok-plain"] == 0
    assert again["grok-breaks"] in {0, 2}
    assert told["grok-plain in doubt"] > 10
    assert told["grok-breaks in doubt"] > 10
    # Lost three times in a row.
    assert told["grok-keeps in doubt"] < 10
    assert told.total() == 300


def keys_billed_again(emulator: Emulator) -> list[str | None]:
    billed = Counter(entry.idempotency_key for entry in emulator.ledger.entries)
    return [key for key, count in billed.items() if count > 1]


async def test_only_models_with_tested_promises_are_remembered() -> None:
    async with service(LOST) as (emulator, client):
        await client.generations.create("stars", model="grok-keeps")
        for number in range(10):
            await client.generations.create("stars", model=f"a-model-of-a-user-{number}")
        gc.collect()
        assert list(client._shared.catalogue.trusts) == ["grok-keeps"]
        assert len(emulator.ledger.entries) == 11


# --- lost answers, asked for later --------------------------------------------------------------------------


async def lost_key(client: AsyncApimart, model: str) -> str:
    with pytest.raises(SubmissionIndeterminateError) as caught:
        await client.generations.create("stars", model=model)
    assert caught.value.idempotency_key
    return caught.value.idempotency_key


async def test_lost_answer_is_collected_under_its_key() -> None:
    async with service(LOST, retry=Retry(indeterminate="raise")) as (emulator, client):
        key = await lost_key(client, "grok-keeps")
        task = await client.with_options(timeout=60).generations.collect(key)
        (entry,) = emulator.ledger.entries
        assert (task.id, task.is_replay, task.idempotency_key) == (entry.task_id, True, key)
        assert (await client.tasks.wait(task)).is_completed
        with pytest.raises(InvalidArgumentError, match="is known to this client"):
            await client.generations.collect(key)


async def test_answer_of_a_cancelled_request_is_collected_under_its_key() -> None:
    silent = Fault(kind="hang", route="generations", executed=True, first=1)
    async with service(silent) as (emulator, client):
        call = asyncio.create_task(client.generations.run("stars", model="grok-keeps"))
        while not emulator.ledger.entries:  # noqa: ASYNC110 the emulator tells nobody
            await anyio.sleep(0.001)
        call.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await call
        work = interrupted(caught.value)
        assert work is not None
        assert work.idempotency_key is not None
        task = await client.generations.collect(work.idempotency_key)
        (entry,) = emulator.ledger.entries
        assert (task.id, task.is_replay) == (entry.task_id, True)


async def test_request_that_was_cancelled_before_it_was_sent_is_not_collected() -> None:
    async with service() as (emulator, client):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await client.generations.create("stars", model="grok-keeps", idempotency_key="order-1")
        with pytest.raises(InvalidArgumentError, match="is known to this client"):
            await client.generations.collect("order-1")
        assert not paid(emulator)


async def test_answer_is_not_collected_without_a_promise() -> None:
    async with service(LOST) as (emulator, client):
        key = await lost_key(client, "grok-plain")
        with pytest.raises(SubmissionIndeterminateError, match="does not promise to execute the key once"):
            await client.generations.collect(key)
        assert len(paid(emulator)) == 1


async def test_a_repeat_that_is_suspended_is_not_called_a_missing_promise() -> None:
    lost_twice = Fault(kind="disconnect", route="generations", executed=True, first=2)
    async with service(lost_twice, retry=Retry(indeterminate="raise")) as (emulator, client):
        key = await lost_key(client, "grok-keeps")
        with pytest.raises(SubmissionIndeterminateError, match="the server disconnected"):
            await client.generations.collect(key)
        with pytest.raises(SubmissionIndeterminateError, match="lost too, so none is sent for 60 minutes"):
            await client.generations.collect(key)
        assert len(paid(emulator)) == 2


async def test_a_broken_promise_is_named_when_an_answer_is_collected() -> None:
    async with service(LOST, retry=Retry(indeterminate="raise")) as (emulator, client):
        key = await lost_key(client, "grok-breaks")
        await client.generations.collect(key)
        emulator.faults.add(Fault(kind="disconnect", route="generations", executed=True, first=1))
        other = await lost_key(client, "grok-breaks")
        with pytest.raises(SubmissionIndeterminateError, match="has broken its promise"):
            await client.generations.collect(other)


async def test_answer_is_not_collected_once_the_key_may_be_forgotten(clock: Clock) -> None:
    short = ModelSpec(model="grok-short", promises=True, retention=600)
    async with service(LOST, models=(short,), retry=Retry(indeterminate="raise")) as (emulator, client):
        key = await lost_key(client, "grok-short")
        clock.advance(310)
        with pytest.raises(SubmissionIndeterminateError, match="or not for so long"):
            await client.generations.collect(key)
        assert len(paid(emulator)) == 1


async def test_answer_of_another_client_is_not_known() -> None:
    async with service(LOST) as (emulator, client):
        await lost_key(client, "grok-plain")
        for resource in (client.edits, client.generations):
            with pytest.raises(InvalidArgumentError, match="is known to this client"):
                await resource.collect("another")
        assert len(paid(emulator)) == 1


async def test_lost_answer_is_collected_with_the_api_key_of_its_request_only() -> None:
    """The service remembers a key for one account: another would pay for a request of its own."""
    async with service(LOST, retry=Retry(indeterminate="raise")) as (emulator, client):
        key = await lost_key(client, "grok-keeps")
        other = client.with_options(api_key="sk-another-user")
        with pytest.raises(InvalidArgumentError, match="is known to this client"):
            await other.generations.collect(key)
        other = client.with_options(default_headers={"Authorization": "Bearer sk-another-user"})
        with pytest.raises(SubmissionIndeterminateError, match="sent with another API key"):
            await other.generations.collect(key)
        assert len(paid(emulator)) == 1
        assert (await client.generations.collect(key)).is_replay


async def test_lost_answer_is_not_collected_once_the_function_returns_another_api_key() -> None:
    async with service(LOST, retry=Retry(indeterminate="raise")) as (emulator, client):
        api_key = emulator.api_key
        renewed = client.with_options(api_key=lambda: api_key)
        key = await lost_key(renewed, "grok-keeps")
        api_key = "sk-another-key"
        with pytest.raises(SubmissionIndeterminateError, match="sent with another API key"):
            await renewed.generations.collect(key)
        assert len(paid(emulator)) == 1


async def test_users_with_the_same_idempotency_key_collect_their_own_answers() -> None:
    not_executed = Fault(kind="disconnect", route="generations", first=1)
    async with service(LOST, not_executed, retry=Retry(indeterminate="raise")) as (emulator, client):
        # The emulator has one account: each function makes a user.
        users = [client.with_options(api_key=lambda: emulator.api_key) for _ in range(2)]
        for user, prompt in zip(users, ("stars", "snow"), strict=True):
            with pytest.raises(SubmissionIndeterminateError):
                await user.generations.create(prompt, model="grok-keeps", idempotency_key="order-1")
        assert (await users[0].generations.collect("order-1")).is_replay


async def test_refused_collection_stays_in_doubt() -> None:
    async with service(LOST, retry=Retry(indeterminate="raise")) as (emulator, client):
        key = await lost_key(client, "grok-keeps")
        emulator.faults.clear()
        emulator.faults.add(Fault(kind="status", status=402, route="generations", first=1))
        with pytest.raises(SubmissionIndeterminateError):
            await client.generations.collect(key)
        assert (await client.generations.collect(key)).is_replay
