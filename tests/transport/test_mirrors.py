"""A client with several addresses of a service, over real sockets: failures in turn, and the ledger."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import trustme

from apimart_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncApimart,
    AsyncAppleRouter,
    InvalidArgumentError,
    Limits,
    NotFoundError,
    Poll,
    Retry,
    SubmissionIndeterminateError,
    Task,
    TaskExpiredError,
    Timeout,
)
from apimart_async.emulator import Emulator, Fault

from .conftest import RawServer, arrive, listening, png_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from apimart_async.emulator import Mirror
    from tests.clock import Clock

    from .conftest import Exchange

KEY: Final = "sk-emulator"
RETRY: Final = Retry(initial_delay=0.01, max_delay=0.02)
POLL: Final = Poll(first=0.02, shortest=0.02, longest=0.05)
PICTURE: Final = "https://pictures.example/photo.jpg"
ACCEPTED: Final = b'{"code":200,"data":[{"status":"submitted","task_id":"task_01J"}]}'


def connect(*base_urls: str, **options: Any) -> AsyncApimart:
    return AsyncApimart(KEY, base_url=base_urls, **{"retry": RETRY, "poll": POLL, **options})


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny") as running:
        yield running


@pytest.fixture
async def mirrors(emulator: Emulator) -> AsyncIterator[tuple[Mirror, Mirror]]:
    async with emulator.mirror() as first, emulator.mirror() as second:
        yield first, second


@asynccontextmanager
async def raw(server: RawServer) -> AsyncIterator[str]:
    async with listening(server) as port:
        yield f"http://127.0.0.1:{port}"


def untrusted() -> ssl.SSLContext:
    """Return the TLS context of a server whose certificate is not trusted."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def refusing() -> str:
    """Return an address on which nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def hosts(emulator: Emulator, route: str) -> list[str]:
    return [f"http://{seen.host}" for seen in emulator.requests if seen.route == route]


# --- nothing was sent -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["refused", "certificate", "no TLS", "name"])
@pytest.mark.parametrize("max_retries", [0, 2])
async def test_a_paid_request_fails_over_when_nothing_was_sent(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], kind: str, max_retries: int
) -> None:
    second = mirrors[0].base_url
    async with emulator.mirror(untrusted()) as secure:
        first = {
            "refused": refusing(),
            "certificate": secure.base_url,
            "no TLS": mirrors[1].base_url.replace("http:", "https:"),
            "name": "https://nowhere.invalid",
        }[kind]
        # TLS is for all or none, but on this machine.
        options: dict[str, Any] = {"max_retries": max_retries}
        async with connect(first, second, **options) as client:
            task = await client.edits.create(PICTURE, "snow")
    assert task.base_url == second
    assert len(emulator.ledger.entries) == 1
    assert hosts(emulator, "edits") == [second]


async def test_a_whole_edit_fails_over(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], tmp_path: Path
) -> None:
    mirrors[0].stop()
    async with connect(mirrors[0].base_url, mirrors[1].base_url) as client:
        task = await client.edits.run(png_of(b"content"), "snow")
        (path,) = await client.images.save(task, tmp_path)
    assert path.stat().st_size
    assert len(emulator.ledger.billed) == 1
    assert {f"http://{seen.host}" for seen in emulator.requests} == {emulator.base_url, mirrors[1].base_url}


async def test_all_addresses_out_of_reach_are_retried_and_named(mirrors: tuple[Mirror, Mirror]) -> None:
    first, second = (mirror.base_url for mirror in mirrors)
    for mirror in mirrors:
        mirror.stop()
    async with connect(first, second) as client:
        with pytest.raises(APIConnectionError) as caught:
            await client.edits.create(PICTURE, "snow")
    assert caught.value.url == f"{first}/v1/images/edits"
    assert caught.value.__notes__ == [f"{second} failed as well: {caught.value.message}"]


async def test_the_preferred_address_is_used_again_once_it_works(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], clock: Clock
) -> None:
    first, second = mirrors
    async with connect(first.base_url, second.base_url) as client:
        first.stop()
        for _ in range(3):
            await client.edits.create(PICTURE, "snow")
        first.start()
        await client.edits.create(PICTURE, "snow")
        clock.advance(60)
        await client.edits.create(PICTURE, "snow")
    assert hosts(emulator, "edits") == [*[second.base_url] * 4, first.base_url]
    assert len(emulator.ledger.entries) == 5


async def test_no_free_connection_fails_over_and_is_sent_once(raw_server: RawServer) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        entered.set()
        await leave.wait()
        await exchange.answer(ACCEPTED)

    raw_server.handle = handle
    options: dict[str, Any] = {"limits": Limits(connections=1), "timeout": Timeout(pool=0.01)}
    async with (
        connect(raw_server.base_url, refusing(), max_retries=0, **options) as client,
        asyncio.TaskGroup() as group,
    ):
        first = group.create_task(client.edits.create(PICTURE, "snow"))
        await entered.wait()
        with pytest.raises(APITimeoutError, match=r"Timeout\.pool") as caught:
            await client.edits.create(PICTURE, "night")
        assert "failed as well" in caught.value.__notes__[0]
        leave.set()
    assert first.result().id == "task_01J"
    assert len(raw_server.seen) == 1


async def test_applerouter_fails_over_when_nothing_was_sent(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], photographs: dict[str, Path]
) -> None:
    mirrors[0].stop()
    base_urls = [mirror.base_url for mirror in mirrors]
    picture = photographs["astronaut.png"]
    async with AsyncAppleRouter(KEY, base_url=base_urls) as router:
        assert (await router.edits.create(picture, "snow", model="gpt-image-1")).images
        assert router.base_urls == tuple(base_urls)
    assert hosts(emulator, "applerouter") == [base_urls[1]]


async def test_a_session_of_the_caller_fails_over(emulator: Emulator, mirrors: tuple[Mirror, Mirror]) -> None:
    async with aiohttp.ClientSession() as session:
        client = connect(refusing(), mirrors[0].base_url, session=session)
        await client.edits.create(PICTURE, "snow")
    assert len(emulator.ledger.entries) == 1


async def test_a_proxy_is_used_for_every_address(raw_server: RawServer) -> None:
    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b"", 502)
        exchange.writer.close()

    raw_server.handle = handle
    base_urls = ["https://a.example", "https://b.example"]
    async with connect(*base_urls, proxy=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(APIConnectionError):
            await client.edits.create(PICTURE, "snow")
    # For the schema of the model, and for the edit.
    assert [seen.path for seen in raw_server.seen] == ["a.example:443", "b.example:443"] * 2
    assert all("authorization" not in seen.headers for seen in raw_server.seen)


# --- something was sent -----------------------------------------------------------------------------------


@pytest.mark.parametrize("executed", [False, True])
@pytest.mark.parametrize("kind", ["disconnect", "status", "html"])
async def test_a_paid_request_that_was_sent_never_fails_over(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], kind: Any, *, executed: bool
) -> None:
    status: dict[str, Any] = {} if kind == "disconnect" else {"status": 502}
    emulator.faults.add(Fault(kind=kind, route="edits", times=1, executed=executed, **status))
    async with connect(*(mirror.base_url for mirror in mirrors)) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await client.edits.create(PICTURE, "snow")
    assert caught.value.url == f"{mirrors[0].base_url}/v1/images/edits"
    assert hosts(emulator, "edits") == [mirrors[0].base_url]


async def test_a_repeat_under_the_same_key_stays_at_its_address(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror]
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", times=1, executed=True))
    retry = Retry(initial_delay=0.01, max_delay=0.02, indeterminate="same-key")
    async with connect(*(mirror.base_url for mirror in mirrors), retry=retry) as client:
        await client.edits.create(PICTURE, "snow")
    assert hosts(emulator, "edits") == [mirrors[0].base_url] * 2
    assert len(emulator.ledger.entries) == 1


@pytest.mark.parametrize("kind", ["disconnect", "broken-json", "status"])
async def test_free_requests_fail_over_on_transient_failures(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], kind: Any
) -> None:
    status: dict[str, Any] = {"status": 500} if kind == "status" else {}
    base_urls = [mirror.base_url for mirror in mirrors]
    emulator.faults.add(Fault(kind=kind, route="uploads", times=1, **status))
    async with connect(*base_urls, max_retries=0) as client:
        await client.uploads.create(png_of(b"content"))
    # aiohttp itself sends a GET again over a new connection, once.
    times = 2 if kind == "disconnect" else 1
    emulator.faults.add(Fault(kind=kind, route="account", times=times, **status))
    async with connect(*base_urls, max_retries=0) as client:
        await client.account.balance()
    assert hosts(emulator, "uploads") == hosts(emulator, "account")[-2:] == base_urls


@pytest.mark.parametrize("first", range(3))
async def test_nothing_is_paid_twice_when_addresses_fail_in_turn(emulator: Emulator, first: int) -> None:
    async with emulator.mirror() as one, emulator.mirror() as two, emulator.mirror() as three:
        mirrors = [one, two, three]
        mirrors = mirrors[first:] + mirrors[:first]
        outcomes: list[str] = []
        async with connect(*(mirror.base_url for mirror in mirrors)) as client:
            for number in range(30):
                down = mirrors[number % 3]
                down.stop()
                await arrive()
                if number % 5 == 4:
                    emulator.faults.add(Fault(kind="disconnect", route="edits", times=1, executed=True))
                try:
                    task = await client.edits.create(PICTURE, f"snow {number}")
                    outcomes.append(str(task.id))
                except SubmissionIndeterminateError:
                    outcomes.append("in doubt")
                down.start()
    assert outcomes.count("in doubt") == 6
    assert len(emulator.ledger.entries) == 30
    assert not emulator.ledger.executed_more_than_once


# --- tasks ------------------------------------------------------------------------------------------------


def answering(status: int, body: bytes) -> RawServer:
    server = RawServer()

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(body, status)

    server.handle = handle
    return server


NOT_FOUND: Final = b'{"error":{"message":"task not found","type":"invalid_request_error","code":"not_found"}}'


async def test_a_task_is_polled_at_its_own_address(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror]
) -> None:
    first, second = (mirror.base_url for mirror in mirrors)
    mirrors[0].stop()
    async with connect(first, second) as client:
        tasks = [await client.edits.create(PICTURE, f"snow {number}") for number in range(3)]
        mirrors[0].start()
    async with connect(first, second) as client:
        await client.tasks.wait(tasks[0])
        async with client.tasks.watch(tasks[1:]) as finished:
            assert [task.base_url async for task in finished] == [second, second]
        await client.tasks.get(tasks[0])
    assert {*hosts(emulator, "tasks"), *hosts(emulator, "tasks/batch")} == {second}


async def test_tasks_of_several_addresses_share_no_request(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror]
) -> None:
    first, second = (mirror.base_url for mirror in mirrors)
    async with connect(first, second) as client:
        ids = [(await client.edits.create(PICTURE, f"snow {number}")).id for number in range(4)]
        addresses = [first, second, first, second]
        mixed = [
            Task(id=task_id, status="submitted", base_url=base_url)
            for task_id, base_url in zip(ids, addresses, strict=True)
        ]
        emulator.advance(60)
        async with client.tasks.watch(mixed) as finished:
            assert len([task async for task in finished]) == 4
    assert sorted(hosts(emulator, "tasks/batch")) == sorted([first, second])


async def test_a_404_of_another_address_is_not_believed_while_the_own_is_out_of_reach(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], clock: Clock
) -> None:
    own = mirrors[0]
    other, often_asked = RawServer(), asyncio.Event()

    async def deny(exchange: Exchange) -> None:
        await exchange.read()
        if len(other.seen) > 10:
            often_asked.set()
        await exchange.answer(NOT_FOUND, 404)

    other.handle = deny
    async with raw(other) as stranger, connect(own.base_url, stranger) as client:
        task = await client.edits.create(PICTURE, "snow")
        own.stop()
        emulator.advance(60)
        with pytest.raises(APIConnectionError) as caught:
            await client.tasks.get(task)
        assert caught.value.task_id == task.id
        assert caught.value.url
        assert caught.value.url.startswith(own.base_url)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(client.tasks.wait(task, timeout=1_000_000))
            async with clock.rushing(15):
                await often_asked.wait()
            own.start()
            async with clock.rushing(15):
                assert (await waiting).is_completed


async def test_a_task_is_missing_if_its_own_address_says_so(
    mirrors: tuple[Mirror, Mirror], clock: Clock
) -> None:
    first, second = (mirror.base_url for mirror in mirrors)
    unknown = Task(id="task_1", status="submitted", idempotency_key="key", base_url=second)
    async with connect(first, second) as client:
        with pytest.raises(NotFoundError) as caught:
            await client.tasks.get(unknown)
        assert caught.value.url == f"{second}/v1/tasks/task_1"
        async with clock.rushing(20):
            with pytest.raises(TaskExpiredError):
                await client.tasks.wait(unknown, timeout=100_000)


async def test_a_task_that_only_a_later_address_knows_is_found(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror]
) -> None:
    own = mirrors[0].base_url
    async with raw(answering(404, NOT_FOUND)) as stranger, connect(own) as submitting:
        task = await submitting.edits.create(PICTURE, "snow")
        emulator.advance(60)
        async with connect(stranger, own) as client:
            assert (await client.tasks.get(str(task.id))).is_completed
            assert (await client.tasks.wait(str(task.id))).is_completed
            assert (await client.tasks.wait(Task(id=task.id, status="", base_url=stranger))).is_completed


async def test_a_task_of_an_address_that_is_not_listed_is_asked_for_at_the_others(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror]
) -> None:
    async with connect(mirrors[0].base_url) as client:
        task = await client.edits.create(PICTURE, "snow")
    mirrors[0].stop()
    async with connect(mirrors[1].base_url) as client:
        assert (await client.tasks.wait(task)).is_completed


@pytest.mark.parametrize("how", ["get", "wait"])
async def test_a_task_of_an_address_that_is_not_listed_is_never_missing(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], how: str
) -> None:
    lost = Task(id="task_1", status="submitted", idempotency_key="key", base_url="https://forgotten.example")
    async with connect(*(mirror.base_url for mirror in mirrors)) as client:
        with pytest.raises(InvalidArgumentError, match=r"https://forgotten\.example.*base_url") as caught:
            await (client.tasks.get(lost) if how == "get" else client.tasks.wait(lost))
    assert caught.value.task_id == "task_1"


async def test_relative_urls_are_those_of_the_address_that_answered(mirrors: tuple[Mirror, Mirror]) -> None:
    done = b'{"code":200,"data":{"id":"task_1","status":"completed","result":{"images":[{"url":"/a.png"}]}}}'
    mirrors[0].stop()
    async with raw(answering(200, done)) as base_url, connect(mirrors[0].base_url, base_url) as client:
        (image,) = (await client.tasks.get("task_1")).images
    assert image.url == f"{base_url}/a.png"


# --- the key ----------------------------------------------------------------------------------------------


async def test_the_key_goes_to_the_listed_origins_only(
    emulator: Emulator, mirrors: tuple[Mirror, Mirror], tmp_path: Path
) -> None:
    lost = Task(id="task_1", status="submitted", base_url=emulator.base_url)
    emulator.faults.add(Fault(kind="redirect-elsewhere", route="account", times=1))
    async with connect(*(mirror.base_url for mirror in mirrors), max_retries=0) as client:
        with pytest.raises(InvalidArgumentError):
            await client.tasks.get(lost)
        mirrors[0].stop()
        task = await client.edits.run(png_of(b"content"), "snow")
        await client.images.save(task, tmp_path)
    seen = {f"http://{seen.host}" for seen in emulator.requests if seen.authorization}
    assert seen == {mirror.base_url for mirror in mirrors}
    assert not emulator.key_leaks
