"""Answers that no documentation mentions: empty errors, floods of images and of words."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from apimart_async import (
    APIStatusError,
    AsyncApimart,
    AsyncAppleRouter,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DownloadError,
    InsufficientBalanceError,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    Poll,
    RateLimitError,
    Retry,
    SubmissionIndeterminateError,
    TaskFailedError,
    errors,
)
from apimart_async.emulator import Emulator, Fault

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Exchange, RawServer

KEY = "sk-a-key-of-some-length"
GIF = bytes.fromhex("47494638396101000100800000ffffff0000002c00000000010001000002024401003b")
PICTURE = "https://pictures.example/photo.jpg"
FAST = Poll(first=0.02, shortest=0.02, longest=0.05)
RETRY = Retry(initial_delay=0.01, max_delay=0.02)


PLANS: dict[str, tuple[int, int, tuple[object, ...]]] = {}


def answering(raw_server: RawServer, *answers: object, status: int = 200) -> None:
    """Have a server give these answers from now on, and the last one again and again."""
    PLANS[raw_server.base_url] = len(raw_server.seen), status, answers

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        before, status, answers = PLANS[raw_server.base_url]
        answer = answers[min(len(raw_server.seen) - before, len(answers)) - 1]
        await exchange.answer(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), status)

    raw_server.handle = handle


# --- empty errors in good answers -------------------------------------------------------------------------

EMPTY: dict[str, Any] = {
    "an object of empty texts": {"code": "", "message": "", "type": ""},
    "an object of nulls": {"code": None, "message": None, "type": None, "param": None},
    "an object of blanks": {"code": " ", "message": "\n", "type": ""},
    "an object with the code of success": {"code": 0, "message": "", "type": ""},
    "an object with that code as text": {"code": "0", "message": ""},
    "an object in an object": {"error": {"message": ""}},
    "an object with an empty list": {"message": "", "details": []},
    "an empty object": {},
    "null": None,
    "an empty text": "",
    "a blank": " ",
    "false": False,
    "zero": 0,
    "an empty list": [],
    "a list of nothing": [{}],
}
TASK = {"id": "task_1", "status": "completed", "result": {"images": [{"url": ["https://f.example/0.png"]}]}}


@pytest.mark.parametrize("empty", EMPTY)
@pytest.mark.parametrize("code", [{"code": 200}, {}])
async def test_an_empty_error_in_a_good_answer_is_none(
    raw_server: RawServer, empty: str, code: dict[str, int]
) -> None:
    extra = {"error": EMPTY[empty], **code}
    upload = {"url": "https://u.example/a.gif", "filename": "image.gif", "bytes": len(GIF), **extra}
    submitted = {"data": [{"status": "submitted", "task_id": "task_1"}], **extra}
    answering(
        raw_server,
        upload,
        submitted,
        {"id": "task_2", "status": "submitted", **extra},
        {"data": TASK | extra, **extra},
        {"data": [TASK, TASK | {"id": "task_2"}], **extra},
        {"remain_balance": 1, **extra},
        {"data": [{"id": "m"}], **extra},
    )
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=FAST, max_retries=0) as client:
        assert (await client.uploads.create(GIF, filename="image.gif")).url == "https://u.example/a.gif"
        assert (await client.edits.create(PICTURE, "stars")).id == "task_1"
        assert (await client.generations.create("stars")).id == "task_2"
        task = await client.tasks.get("task_1")
        assert (task.is_completed, task.error, len(task.images)) == (True, None, 1)
        async with client.tasks.watch(["task_1", "task_2"]) as finished:
            assert [each.is_completed async for each in finished] == [True, True]
        assert (await client.account.balance()).remaining == 1
        assert [model.id for model in await client.account.models()] == ["m"]
    assert len(raw_server.seen) == 7
    answering(raw_server, {"created": 1, "data": [{"url": "https://f.example/0.png"}], **extra})
    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router:
        assert len((await router.edits.create(GIF, "stars", model="another")).images) == 1


async def test_every_step_works_with_a_service_that_sends_empty_errors(
    emulator: Emulator, client: AsyncApimart, photographs: dict[str, Path]
) -> None:
    emulator.faults.add(Fault(kind="empty-error"))
    task = await client.edits.run(photographs["chelsea.png"], "black and white")
    assert task.is_completed
    assert len(emulator.ledger.entries) == 1


@pytest.mark.parametrize("empty", EMPTY)
async def test_an_empty_error_in_a_refusal_does_not_hide_it(raw_server: RawServer, empty: str) -> None:
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=FAST, max_retries=0) as client:
        answering(raw_server, {"error": EMPTY[empty]}, status=401)
        with pytest.raises(AuthenticationError):
            await client.edits.create(PICTURE, "stars")
        answering(raw_server, {"code": 400, "message": "no such size", "error": EMPTY[empty]})
        with pytest.raises(BadRequestError, match="no such size"):
            await client.edits.create(PICTURE, "stars")
        answering(raw_server, {"success": False, "message": "gone", "error": EMPTY[empty]})
        with pytest.raises(APIStatusError, match="gone"):
            await client.account.balance()
        failed = {"id": "task_1", "status": "failed", "error": EMPTY[empty], "fail_reason": "moderated"}
        answering(raw_server, {"code": 200, "data": failed})
        with pytest.raises(TaskFailedError, match="moderated"):
            await client.tasks.wait("task_1")


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        ({"message": "no such route"}, None, "no such route"),
        ({"code": 1002, "msg": "no such size"}, "1002", "no such size"),
        ({"detail": "Method Not Allowed"}, None, "Method Not Allowed"),
        ({"type": "about:blank", "title": "Forbidden", "status": 403}, None, "Forbidden"),
        ({"code": "moderated"}, "moderated", "moderated"),
        ({"detail": [{"loc": ["body"]}]}, None, "The service answered with an error it does not explain."),
    ],
)
@pytest.mark.parametrize("status", [400, 500])
async def test_the_reason_of_a_refusal_is_found_without_an_error_around_it(
    raw_server: RawServer, answer: dict[str, Any], code: str | None, message: str, status: int
) -> None:
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        answering(raw_server, answer, status=status)
        with pytest.raises(APIStatusError) as refused:
            await client.account.balance()
    assert (refused.value.status, refused.value.code, refused.value.message) == (status, code, message)


async def test_a_quota_without_an_error_around_it_is_final(raw_server: RawServer) -> None:
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        answering(raw_server, {"code": "insufficient_quota", "message": "used up"}, status=429)
        with pytest.raises(RateLimitError, match="used up") as refused:
            await client.edits.create(PICTURE, "stars")
    assert refused.value.stops_batch
    assert len(raw_server.seen) == 1


@pytest.mark.parametrize("body", [b"", b" \n"])
async def test_an_empty_refusal_says_so(raw_server: RawServer, body: bytes) -> None:
    answering(raw_server, body, status=403)
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(PermissionDeniedError) as refused:
            await client.account.balance()
    assert refused.value.message == "The service answered with an empty body."


@pytest.mark.parametrize(
    "error",
    [
        {"code": "", "message": "", "type": "server_error"},
        {"code": "moderated", "message": ""},
        {"message": "no"},
        {"code": 0, "detail": {"reason": "no"}},
        "no",
    ],
)
async def test_an_error_that_says_anything_beside_a_task_id_is_in_doubt(
    raw_server: RawServer, error: object
) -> None:
    answering(raw_server, {"data": [{"task_id": "task_1"}], "error": error})
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await client.edits.create(PICTURE, "stars")
    assert caught.value.task_id == "task_1"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((400, "get_channel_failed"), (403, ""), (429, "")),
        *((500, "build_request_failed"), (503, "idempotency_unavailable"), (504, "")),
    ],
)
@pytest.mark.parametrize("place", ["data", "top"])
async def test_a_refusal_that_names_a_task_is_in_doubt_and_not_sent_again(
    raw_server: RawServer, status: int, code: str, place: str
) -> None:
    task = {"task_id": "task_1", "status": "submitted"}
    body = {"error": {"code": code, "message": code}} | (task if place == "top" else {"data": [task]})
    answering(raw_server, body, status=status)
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(SubmissionIndeterminateError) as caught:
            await client.edits.create(PICTURE, "stars")
    assert (caught.value.task_id, caught.value.status) == ("task_1", status)
    assert len(raw_server.seen) == 1


async def test_a_conflict_names_the_task_of_an_earlier_request(raw_server: RawServer) -> None:
    task = {"task_id": "task_1", "status": "submitted"}
    answering(raw_server, {"error": {"code": "idempotency_key_reused"}, "data": [task]}, status=409)
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(ConflictError) as caught:
            await client.edits.create(PICTURE, "stars")
    assert caught.value.task_id is None


async def test_the_id_of_a_refusal_is_not_that_of_a_task(raw_server: RawServer) -> None:
    answering(raw_server, {"id": "error_1", "error": {"message": "no"}, "data": None}, status=403)
    async with AsyncApimart(KEY, base_url=raw_server.base_url) as client:
        with pytest.raises(PermissionDeniedError):
            await client.edits.create(PICTURE, "stars")


# --- more images than asked for ---------------------------------------------------------------------------

FLOODS: dict[str, Any] = {
    "objects": {"images": [{"url": [f"https://f.example/{number}.png"]} for number in range(20_000)]},
    "texts": {"images": [f"https://f.example/{number}.png" for number in range(20_000)]},
    "one list": {"images": [{"url": [f"https://f.example/{number}.png" for number in range(20_000)]}]},
    "base64": {"images": [{"b64_json": "AAAA"}] * 20_000},
}


@pytest.mark.long
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_task_keeps_the_images_asked_for_and_a_few_more(raw_server: RawServer, flood: str) -> None:
    done = {"code": 200, "data": {"id": "task_1", "status": "completed", "result": FLOODS[flood]}}
    answering(raw_server, {"code": 200, "data": [{"status": "submitted", "task_id": "task_1"}]}, done)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=FAST) as client:
        submitted = await client.edits.create(PICTURE, "stars", n=2)
        assert submitted.n == 2
        for task in (await client.tasks.wait(submitted), await client.tasks.get(submitted)):
            assert [image.index for image in task.images] == list(range(1, 19))
            assert task.n == 2
            assert len(pickle.dumps(task)) < 10_000
        # Another process does not know how many were asked for.
        task = await client.tasks.get("task_1")
        assert len(task.images) == 1016
        assert len(pickle.dumps(task)) < 300_000


async def test_a_synchronous_answer_keeps_the_images_asked_for_and_a_few_more(raw_server: RawServer) -> None:
    answering(raw_server, {"created": 1, "data": FLOODS["objects"]["images"]})
    async with AsyncAppleRouter(KEY, base_url=raw_server.base_url) as router:
        result = await router.edits.create(GIF, "stars", model="another", n=3)
    assert [image.url for image in result.images] == [f"https://f.example/{each}.png" for each in range(19)]
    assert len(pickle.dumps(result)) < 10_000


@pytest.mark.parametrize("count", [1, 4, 17])
async def test_a_few_images_more_than_asked_for_are_all_kept(raw_server: RawServer, count: int) -> None:
    images = FLOODS["texts"]["images"][:count]
    done = {"code": 200, "data": {"id": "task_1", "status": "completed", "result": {"images": images}}}
    answering(raw_server, {"data": [{"task_id": "task_1"}]}, done)
    async with AsyncApimart(KEY, base_url=raw_server.base_url, poll=FAST) as client:
        task = await client.edits.run(PICTURE, "stars")
    assert [image.url for image in task.images] == images
    assert task.raw["result"] == {"images": images}


async def test_a_flood_of_the_emulator_is_bounded(photographs: dict[str, Path], tmp_path: Path) -> None:
    flood = Fault(kind="many-images")
    async with (
        Emulator(task_seconds=0.02, images="tiny", faults=[flood]) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=FAST) as client,
    ):
        task = await client.edits.run(photographs["chelsea.png"], "stars", n=2)
        assert len(await client.images.save(task, tmp_path)) == 18


# --- messages of megabytes --------------------------------------------------------------------------------

PAGE = "ü" * 3_000_000
FAILED = {"id": "task_1", "status": "failed"}
CASES: dict[str, tuple[object, int, type[errors.ApimartError]]] = {
    "the message": ({"error": {"code": "", "message": PAGE, "type": "t"}}, 400, BadRequestError),
    "the code": ({"error": {"code": PAGE, "message": "no"}}, 402, InsufficientBalanceError),
    "the type": ({"error": {"code": "", "message": "no", "type": PAGE}}, 401, AuthenticationError),
    "everything": ({"error": {"code": PAGE, "message": PAGE, "type": PAGE}}, 404, NotFoundError),
    "a text": ({"error": PAGE}, 429, RateLimitError),
    "beside it": ({"code": 500, "message": PAGE}, 500, InternalServerError),
    "a page": (f"<html>{PAGE}".encode(), 403, errors.PermissionDeniedError),
    "a page of a good answer": (f"<html>{PAGE}".encode(), 200, errors.APIResponseValidationError),
    "inside a 200": ({"code": 400, "error": {"message": PAGE}}, 200, BadRequestError),
    "a failed task's message": (
        {
            "data": {
                "id": "task_1",
                "status": "failed",
                "error": {"code": PAGE, "message": PAGE, "type": PAGE},
            }
        },
        200,
        TaskFailedError,
    ),
    "a failed task's reason": (
        {"data": FAILED | {"fail_reason": PAGE}},
        200,
        TaskFailedError,
    ),
    "a failed task's error as text": (
        {"data": FAILED | {"error": PAGE}},
        200,
        TaskFailedError,
    ),
}


def assert_short(error: errors.ApimartError) -> None:
    assert len(error.message) < 2300
    for text in (str(error), repr(error)):
        assert len(text) < 12_000
    assert max(len(error.code or ""), len(error.type or "")) < 300


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
async def test_a_message_of_megabytes_is_cut_to_kilobytes(raw_server: RawServer, case: str) -> None:
    answer, status, kind = CASES[case]
    answering(raw_server, answer, status=status)
    once = Retry(max_elapsed=0)
    options: dict[str, Any] = {"base_url": raw_server.base_url, "max_retries": 0, "retry": once}
    async with AsyncApimart(KEY, poll=FAST, **options) as client:
        is_task = kind is TaskFailedError
        with pytest.raises(kind) as caught:
            await (client.tasks.wait("task_1") if is_task else client.tasks.get("task_1"))
        assert_short(caught.value)
        if is_task:
            return
        with pytest.raises(errors.APIError) as paid:
            await client.edits.create(PICTURE, "stars", idempotency_key="order-1017")
        assert_short(paid.value)
        if isinstance(paid.value, SubmissionIndeterminateError):
            assert paid.value.message.endswith("idempotency key order-1017.")
    async with AsyncAppleRouter(KEY, **options) as router:
        with pytest.raises(errors.APIError) as paid:
            await router.edits.create(GIF, "stars", model="another")
        assert_short(paid.value)


@pytest.mark.parametrize("place", range(1960, 2001, 8))
async def test_a_key_across_the_cut_is_not_shown_in_part(raw_server: RawServer, place: int) -> None:
    message = "x" * place + KEY + "y" * 1000
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        answering(raw_server, {"error": {"message": message}}, status=400)
        with pytest.raises(BadRequestError) as caught:
            await client.tasks.get("task_1")
        assert KEY[:4] not in repr(caught.value)


@pytest.mark.parametrize("place", range(170, 201, 5))
async def test_a_key_across_the_end_of_an_excerpt_is_not_shown_in_part(
    raw_server: RawServer, place: int
) -> None:
    page = b"<" + b"x" * place + KEY.encode() + b"y" * 1000
    async with AsyncApimart(KEY, base_url=raw_server.base_url, max_retries=0) as client:
        for status in (200, 400):
            answering(raw_server, page, status=status)
            with pytest.raises(errors.APIError) as caught:
                await client.tasks.get("task_1")
            assert KEY[:4] not in repr(caught.value)


# --- the caller's own session -----------------------------------------------------------------------------


async def refuse(response: aiohttp.ClientResponse) -> None:
    response.raise_for_status()


SESSIONS: dict[str, dict[str, Any]] = {
    "that raises for a status": {"raise_for_status": True},
    "that raises by a function": {"raise_for_status": refuse},
    "that follows nothing the client needs": {
        "auto_decompress": False,
        "read_bufsize": 1024,
        "timeout": aiohttp.ClientTimeout(total=60),
        "headers": {"Accept-Encoding": "gzip", "Authorization": "Bearer another"},
    },
}


@pytest.mark.parametrize("options", SESSIONS.values(), ids=SESSIONS)
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AuthenticationError),
        (402, InsufficientBalanceError),
        (404, NotFoundError),
        (429, RateLimitError),
        (307, APIStatusError),
        (503, SubmissionIndeterminateError),
    ],
)
async def test_a_refusal_through_a_session_of_the_caller_s_is_no_doubt(
    raw_server: RawServer, options: dict[str, Any], status: int, kind: type[errors.APIError]
) -> None:
    answering(raw_server, {"error": {"message": "no", "code": "insufficient_quota"}}, status=status)
    async with aiohttp.ClientSession(**options) as session:
        async with AsyncApimart(KEY, base_url=raw_server.base_url, session=session) as client:
            with pytest.raises(kind) as caught:
                await client.edits.create(PICTURE, "stars")
            assert (caught.value.status, type(caught.value)) == (status, kind)
        async with AsyncAppleRouter(KEY, base_url=raw_server.base_url, session=session) as router:
            with pytest.raises(kind) as caught:
                await router.edits.create(GIF, "stars", model="another")
            assert (caught.value.status, type(caught.value)) == (status, kind)
    assert len(raw_server.seen) == 2
    assert {seen.headers["authorization"] for seen in raw_server.seen} == {f"Bearer {KEY}"}


@pytest.mark.parametrize("options", SESSIONS.values(), ids=SESSIONS)
async def test_retries_and_downloads_go_on_through_a_session_of_the_caller_s(
    raw_server: RawServer, options: dict[str, Any]
) -> None:
    async def handle(exchange: Exchange) -> None:
        seen = await exchange.read()
        if seen.path == "/gone.gif":
            await exchange.answer(b"gone", 410)
        elif exchange.number == 1:
            await exchange.answer(b'{"error":{"message":"busy"}}', 503)
        else:
            await exchange.answer(b'{"code":200,"data":{"id":"task_1","status":"queued"}}')

    raw_server.handle = handle
    async with (
        aiohttp.ClientSession(**options) as session,
        AsyncApimart(KEY, base_url=raw_server.base_url, session=session, retry=RETRY) as client,
    ):
        assert (await client.tasks.get("task_1")).status == "queued"
        with pytest.raises(DownloadError, match="may have expired"):
            await client.images.read(f"{raw_server.base_url}/gone.gif")
    assert len(raw_server.seen) == 3


async def test_numbers_that_are_none_lose_no_task_and_no_balance() -> None:
    fault = Fault(kind="not-a-number")
    async with Emulator(task_seconds=0.02, images="tiny", faults=[fault]) as emulator:
        poll = Poll(first=0.05, shortest=0.1)
        async with AsyncApimart(emulator.api_key, base_url=emulator.base_url, poll=poll) as client:
            task = await client.edits.run("https://p.example/a.png", "stars")
            assert task.images
            assert task.cost is None
            assert task.actual_time is None
            assert (await client.account.balance()).remaining is None


@pytest.mark.parametrize("route", ["edits", "tasks", "uploads"])
async def test_a_stray_byte_behind_an_answer_makes_nothing_doubtful(route: Any) -> None:
    fault = Fault(kind="stray-byte", route=route)
    async with Emulator(task_seconds=0.02, images="tiny", faults=[fault]) as emulator:
        poll = Poll(first=0.05, shortest=0.1)
        async with AsyncApimart(
            emulator.api_key, base_url=emulator.base_url, poll=poll, max_retries=0, reuse_uploads=False
        ) as client:
            for prompt in ("stars", "snow"):
                task = await client.edits.run(GIF, prompt)
                assert task.images
    assert len(emulator.ledger.entries) == 2
    assert emulator.counts[route] == 2
