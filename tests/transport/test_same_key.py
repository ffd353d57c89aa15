"""A paid request is sent again under its key if the caller allows it, over real sockets."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
import pytest

from apimart_async import (
    AsyncApimart,
    AsyncAppleRouter,
    Limits,
    RateLimitError,
    Retry,
    SubmissionIndeterminateError,
    Timeout,
    prepare_png,
)
from apimart_async.emulator import Emulator, Fault

from .conftest import arrive

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.clock import Clock

    from .conftest import Exchange, RawServer

Said: TypeAlias = tuple[int, object, dict[str, str]]

ACCEPTED: Final = b'{"code":200,"data":[{"status":"submitted","task_id":"task_01J"}]}'
PICTURE: Final = "https://pictures.example/photo.jpg"
KEY: Final = "one-key"
SAME_KEY: Final = Retry(initial_delay=0.01, max_delay=0.02, max_retry_after=30, indeterminate="same-key")


def connect(base_url: str, **options: Any) -> AsyncApimart:
    options.setdefault("retry", SAME_KEY)
    return AsyncApimart("sk-emulator", base_url=base_url, **options)


async def submit(client: AsyncApimart) -> str:
    return str((await client.edits.create(PICTURE, "a starry sky", idempotency_key=KEY)).id)


def in_turn(server: RawServer, *answers: Said | None) -> None:
    """Answer with these in turn, the last one for good; ``None`` drops the connection."""

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        answer = answers[min(len(server.seen), len(answers)) - 1]
        if answer is None:
            exchange.drop()
            return
        status, body, headers = answer
        await exchange.answer(body if isinstance(body, bytes) else json.dumps(body).encode(), status, headers)

    server.handle = handle


def refusal(code: str) -> dict[str, object]:
    return {"error": {"code": code, "message": code, "type": "conflict_error"}}


REPLAYED: Final[Said] = (200, ACCEPTED, {"Idempotency-Replayed": "true"})
LOST: Final[Said] = (409, refusal("idempotency_result_indeterminate"), {})

# --- against a service that keeps its promise, and one that does not --------------------------------------


@pytest.mark.parametrize("kind", ["disconnect", "truncated", "empty", "no answer", "status"])
async def test_a_replay_is_the_answer_that_was_lost(
    kind: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Fault(kind="disconnect", executed=True, first=1)
    if kind == "no answer":
        fault = Fault(kind="hang", executed=True, first=1, seconds=120)
    elif kind == "status":
        fault = Fault(kind="status", status=502, executed=True, first=1)
    elif kind != "disconnect":
        fault = Fault(kind=kind, first=1)
    timeout = Timeout(read=100, total=1000)
    async with Emulator(faults=[fault]) as emulator, connect(emulator.base_url, timeout=timeout) as client:
        submitting = asyncio.create_task(submit(client))
        if kind == "no answer":
            while not emulator.ledger.entries:  # noqa: ASYNC110 the emulator has no event for a submit
                await asyncio.sleep(0.01)
            await arrive()
            clock.advance(150)
        task_id = await submitting
    (entry,) = emulator.ledger.entries
    assert entry.task_id == task_id
    assert [seen.idempotency_key for seen in emulator.requests if seen.method == "POST"] == [KEY, KEY]
    assert "not marked" not in caplog.text


async def test_a_submit_not_executed_the_first_time_is_executed_once() -> None:
    fault = Fault(kind="disconnect", first=2)
    async with Emulator(faults=[fault]) as emulator, connect(emulator.base_url) as client:
        task_id = await submit(client)
    assert [entry.task_id for entry in emulator.ledger.entries] == [task_id]


async def test_a_service_that_ignores_keys_bills_twice_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    fault = Fault(kind="disconnect", executed=True, first=1)
    async with (
        Emulator(faults=[fault], idempotent_replay=False) as emulator,
        connect(emulator.base_url) as client,
    ):
        await submit(client)
    assert list(emulator.ledger.billed_more_than_once.values()) == [2]
    assert "not marked as a replay" in caplog.text


# --- further attempts, and their end ----------------------------------------------------------------------


async def test_a_first_request_that_is_still_under_way_is_waited_for(raw_server: RawServer) -> None:
    in_turn(raw_server, None, (409, refusal("idempotency_in_progress"), {"Retry-After": "0.02"}), REPLAYED)
    async with connect(raw_server.base_url) as client:
        assert await submit(client) == "task_01J"
    assert [seen.headers["idempotency-key"] for seen in raw_server.seen] == [KEY] * 3
    assert len({seen.body for seen in raw_server.seen}) == 1


@pytest.mark.parametrize(
    "answer",
    [LOST, (409, {}, {}), (402, {}, {}), (400, {}, {}), (200, {"error": {"message": "hm"}}, {})],
    ids=["result lost", "409 of some kind", "402", "400", "an error that explains nothing"],
)
async def test_after_a_possible_execution_every_refusal_is_indeterminate(
    raw_server: RawServer, answer: Said
) -> None:
    in_turn(raw_server, None, answer)
    async with connect(raw_server.base_url, max_retries=5) as client:
        with pytest.raises(SubmissionIndeterminateError, match=KEY) as caught:
            await submit(client)
    assert caught.value.idempotency_key == KEY
    assert len(raw_server.seen) == 2


async def test_a_wait_between_attempts_does_not_end_the_doubt(raw_server: RawServer) -> None:
    in_turn(raw_server, None, (429, {}, {}), (402, {}, {}))
    async with connect(raw_server.base_url) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await submit(client)
    assert caught.value.status == 402
    assert len(raw_server.seen) == 3


async def test_tries_end_and_the_last_word_is_indeterminate(raw_server: RawServer) -> None:
    in_turn(raw_server, None, (429, {}, {}), (503, {}, {}))
    async with connect(raw_server.base_url, max_retries=3) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await submit(client)
    assert caught.value.status == 503
    assert len(raw_server.seen) == 5, "the refusal does not count"


@pytest.mark.parametrize(
    "retry",
    [
        attrs.evolve(SAME_KEY, max_retry_after=100),
        attrs.evolve(SAME_KEY, max_retry_after=1000, max_elapsed=100),
    ],
    ids=["longer than it is waited for", "beyond the time there is"],
)
async def test_a_wait_that_is_too_long_is_not_begun(raw_server: RawServer, retry: Retry) -> None:
    in_turn(raw_server, None, (429, {}, {"Retry-After": "200"}))
    async with connect(raw_server.base_url, retry=retry) as client:
        with pytest.raises(SubmissionIndeterminateError):
            await submit(client)
    assert len(raw_server.seen) == 2


# --- cut off between two tries ----------------------------------------------------------------------------


async def cut_off_once(
    server: RawServer, client: AsyncApimart, how: Callable[[asyncio.Task[str]], Awaitable[object]]
) -> BaseException:
    """Let the first attempt of a submit fail, end the call before the next, and return its exception."""
    submitting = asyncio.create_task(submit(client))
    while not server.seen:  # noqa: ASYNC110 the handler is each test's own
        await asyncio.sleep(0.01)
    await arrive()
    await how(submitting)
    with pytest.raises(BaseException) as caught:  # noqa: PT011 a cancellation is no Exception
        await submitting
    return caught.value


async def cancel(submitting: asyncio.Task[str]) -> None:
    submitting.cancel()


def names_the_key_once(raised: BaseException, log: str) -> bool:
    notes: list[str] = getattr(raised, "__notes__", [])
    return "".join(notes).count(KEY) == 1 and log.count(KEY) == 1


async def test_a_submit_cancelled_before_its_next_try_names_its_key(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    in_turn(raw_server, (500, {}, {"Retry-After": "20"}))
    async with connect(raw_server.base_url) as client:
        raised = await cut_off_once(raw_server, client, cancel)
    assert isinstance(raised, asyncio.CancelledError)
    assert names_the_key_once(raised, caplog.text)


async def test_a_submit_cancelled_in_a_pause_of_the_whole_client_names_its_key(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    paused = asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        if (await exchange.read()).method == "GET":
            await exchange.answer(b"{}", 429, {"Retry-After": "20"})
        else:
            await paused.wait()
            exchange.drop()

    raw_server.handle = handle
    async with connect(raw_server.base_url, limits=Limits(adaptive=False)) as client:

        async def pause_all(submitting: asyncio.Task[str]) -> None:
            with pytest.raises(RateLimitError):
                await client.with_options(retry=Retry(max_elapsed=0)).account.models()
            paused.set()
            await arrive()
            submitting.cancel()

        raised = await cut_off_once(raw_server, client, pause_all)
    assert isinstance(raised, asyncio.CancelledError)
    assert names_the_key_once(raised, caplog.text)


async def test_a_client_closed_between_two_tries_leaves_the_key_behind(
    raw_server: RawServer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    in_turn(raw_server, (500, {}, {"Retry-After": "20"}))
    client = connect(raw_server.base_url)

    async def close(_: asyncio.Task[str]) -> None:
        await client.close()
        clock.advance(30)

    raised = await cut_off_once(raw_server, client, close)
    assert isinstance(raised, RuntimeError)
    assert names_the_key_once(raised, caplog.text)


async def test_a_submit_cancelled_before_anything_was_executed_logs_no_warning(
    raw_server: RawServer, caplog: pytest.LogCaptureFixture
) -> None:
    in_turn(raw_server, (429, {}, {"Retry-After": "20"}))
    async with connect(raw_server.base_url) as client:
        raised = await cut_off_once(raw_server, client, cancel)
    assert not getattr(raised, "__notes__", ())
    assert caplog.text == ""


# --- without a key ----------------------------------------------------------------------------------------


async def test_a_service_without_keys_is_never_sent_the_same_again(
    raw_server: RawServer, photographs: dict[str, Path]
) -> None:
    in_turn(raw_server, None)
    photo = await asyncio.to_thread(prepare_png, photographs["chelsea.png"], 256)
    async with AsyncAppleRouter("sk-a", base_url=raw_server.base_url, retry=SAME_KEY) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await client.edits.create(photo, "a starry sky")
    assert caught.value.idempotency_key is None
    assert "idempotency-key" not in raw_server.seen[0].headers
    assert len(raw_server.seen) == 1
