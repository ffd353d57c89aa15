"""Every kind of fault over a real socket, and a ledger that stays correct."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import anyio
import pytest

from apimart_async.emulator import Fault

from .conftest import until

if TYPE_CHECKING:
    from .conftest import Answer, MakeImage, Open, Raw


def executed(raw: Raw) -> int:
    return len(raw.emulator.ledger.entries)


@pytest.mark.parametrize("carried_out", [False, True])
@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_an_error_before_or_after_execution(raw: Raw, status: int, *, carried_out: bool) -> None:
    raw.emulator.faults.add(
        Fault(kind="status", route="edits", status=status, executed=carried_out, times=1, retry_after=7)
    )
    answer = await raw.edit()
    assert answer.status == status
    assert answer.headers["Retry-After"] == "7"
    assert answer.json["error"]["code"] == status
    assert executed(raw) == carried_out
    assert (await raw.edit()).status == 200
    assert executed(raw) == carried_out + 1


async def test_errors_carry_the_given_code_message_and_retry_after(raw: Raw) -> None:
    raw.emulator.faults.add(
        Fault(kind="status", status=503, code="get_channel_failed", message="no channel", times=1),
        Fault(kind="status", status=429, retry_after=6000, retry_after_date=True, times=1),
        Fault(kind="status", status=429, retry_after="soon", times=1),
        Fault(kind="status", status=429, times=1),
    )
    custom, dated, odd, without = [await raw.edit() for _ in range(4)]
    assert custom.json["error"]["code"] == "get_channel_failed"
    assert custom.json["error"]["message"] == "no channel"
    wait = parsedate_to_datetime(dated.headers["Retry-After"]) - parsedate_to_datetime(dated.headers["Date"])
    assert 5000 <= wait.total_seconds() <= 6002
    assert odd.headers["Retry-After"] == "soon"
    assert "Retry-After" not in without.headers


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("idempotency-in-progress", 409, "idempotency_in_progress"),
        ("idempotency-key-reused", 409, "idempotency_key_reused"),
        ("idempotency-result-indeterminate", 409, "idempotency_result_indeterminate"),
        ("idempotency-unavailable", 503, "idempotency_unavailable"),
    ],
)
async def test_idempotency_errors(raw: Raw, kind: Any, status: int, code: str) -> None:
    raw.emulator.faults.add(Fault(kind=kind))
    answer = await raw.edit(headers={"Idempotency-Key": "k"})
    assert (answer.status, answer.json["error"]["code"]) == (status, code)
    assert ("Retry-After" in answer.headers) == (kind == "idempotency-in-progress")
    assert executed(raw) == 0
    assert (await raw.send("GET", "/v1/models")).status == 200


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_disconnect_before_or_after_execution(raw: Raw, *, carried_out: bool) -> None:
    raw.emulator.faults.add(Fault(kind="disconnect", route="edits", executed=carried_out, times=1))
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await raw.edit(headers={"Idempotency-Key": "k"})
    assert executed(raw) == carried_out
    assert raw.emulator.requests[-1].status is None
    again = await raw.edit(headers={"Idempotency-Key": "k"})
    assert ("Idempotency-Replayed" in again.headers) == carried_out
    assert executed(raw) == 1


async def test_reused_disconnects_spare_new_connections(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="disconnect", route="edits", reused=True))
    assert (await raw.edit()).status == 200, "a new connection"
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await raw.edit()
    assert executed(raw) == 1


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_hang_ends_with_a_disconnect(raw: Raw, *, carried_out: bool) -> None:
    raw.emulator.faults.add(Fault(kind="hang", executed=carried_out, seconds=0.02))
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await raw.edit()
    assert executed(raw) == carried_out


async def test_a_hang_ends_when_the_client_disconnects(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="hang", seconds=3000))
    request = asyncio.create_task(raw.send("GET", "/v1/models"))
    await until(lambda: raw.emulator.faults.happened[0][1] == 1)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    await until(lambda: len(raw.emulator.requests) == 1)


async def test_truncated_and_stalled_bodies(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="truncated", times=1), Fault(kind="stalled", times=1, seconds=0.1))
    for _ in range(2):
        with pytest.raises(aiohttp.ClientPayloadError):
            await raw.edit()
    assert executed(raw) == 2


async def test_a_slow_body_is_complete(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="slow", seconds=0.02))
    assert (await raw.edit()).json["data"][0]["status"] == "submitted"


async def test_close_after_sends_the_whole_response(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="close-after", times=1))
    port = int(raw.emulator.base_url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-emulator\r\n\r\n")
    answer = await reader.read()  # until the end, which comes without having been announced
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert b"connection: close" not in head.lower()
    assert json.loads(body)["object"] == "list"
    writer.close()
    await writer.wait_closed()


async def test_wrong_bodies(raw: Raw) -> None:
    raw.emulator.faults.add(
        Fault(kind="html", times=1),
        Fault(kind="html", status=200, executed=True, times=1),
        Fault(kind="empty", times=1),
        Fault(kind="broken-json", times=1),
        Fault(kind="no-id", times=1),
        Fault(kind="error-in-200", times=1, message="no such model"),
    )
    page, page_after, empty, broken, without, inside = [await raw.edit() for _ in range(6)]
    assert (page.status, page.headers["Content-Type"]) == (502, "text/html; charset=utf-8")
    assert page_after.status == 200
    assert page_after.content.startswith(b"<!DOCTYPE html>")
    assert (empty.status, empty.content) == (200, b"")
    assert broken.status == 200
    with pytest.raises(json.JSONDecodeError):
        _ = broken.json
    assert without.json == {"code": 200, "data": [{"status": "submitted"}]}
    assert inside.status == 200
    assert inside.json["code"] == 400
    assert inside.json["error"]["message"] == "no such model"
    assert executed(raw) == 4


async def test_a_gigantic_body(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="gigantic", size=3_000_000, times=1))
    answer = await raw.edit()
    assert len(answer.content) > 3_000_000
    assert set(answer.json) == {"code", "padding"}
    raw.emulator.faults.add(Fault(kind="gigantic", size=10**12))
    async with raw.session.get(f"{raw.emulator.base_url}/v1/models", headers=raw.headers) as response:
        assert await response.content.readexactly(100)
        response.close()  # enough; the emulator must not go on
    assert (await raw.send("GET", "/emulator/ledger")).status == 200


async def test_a_compressed_response(raw: Raw) -> None:
    plain = (await raw.send("GET", "/v1/models")).content
    raw.emulator.faults.add(Fault(kind="gzip", times=1), Fault(kind="deflate", times=1))
    for coding, unpack in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        url, headers = f"{raw.emulator.base_url}/v1/models", raw.headers | {"Accept-Encoding": "identity"}
        async with aiohttp.request("GET", url, headers=headers, auto_decompress=False) as response:
            assert response.headers["Content-Encoding"] == coding
            assert response.content_length == len(await response.read())
            assert unpack(await response.read()) == plain


async def test_an_empty_error_in_a_good_response(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="empty-error"))
    for answer in (await raw.edit(), await raw.send("GET", "/v1/balance")):
        assert answer.status == 200
        assert answer.json["error"] == {"code": "", "message": "", "type": ""}
    assert executed(raw) == 1


async def test_more_images_than_asked_for(raw: Raw) -> None:
    task_id = await raw.submitted(n=2)
    before = (await raw.finished(task_id))["result"]["images"]
    raw.emulator.faults.add(Fault(kind="many-images"))
    answers = [
        (await raw.send("GET", f"/v1/tasks/{task_id}")).json["data"],
        (await raw.send("POST", "/v1/tasks/batch", json={"task_ids": [task_id]})).json["data"][0],
    ]
    for task in answers:
        assert len(task["result"]["images"]) == 20_000
        assert task["result"]["images"][:2] == before
    assert raw.emulator.ledger.entries[0].images == 2


async def test_an_error_in_200_of_the_balance(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="error-in-200", route="account", message="gone", times=1))
    answer = await raw.send("GET", "/v1/balance")
    assert (answer.status, answer.json) == (200, {"success": False, "message": "gone"})


async def test_a_redirect_within_the_origin(raw: Raw) -> None:
    raw.emulator.faults.add(Fault(kind="redirect", route="edits", times=3))
    answers = [await raw.send("POST", "/v1/images/edits", allow_redirects=False)]
    answers.append(await raw.send("POST", "/v1/images/edits/", allow_redirects=False))
    assert [(answer.status, answer.headers["Location"]) for answer in answers] == [
        (307, "/v1/images/edits/"),
        (307, "/v1/images/edits"),
    ]
    assert (await raw.edit()).status == 200, "followed"
    assert executed(raw) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_elsewhere_reveals_a_forwarded_key(raw: Raw, status: int) -> None:
    raw.emulator.faults.add(Fault(kind="redirect-elsewhere", route="edits", status=status, times=1))
    body = {"model": "m", "prompt": "p", "image_urls": ["https://pictures.example/1.jpg"]}
    answer = await raw.send("POST", "/v1/images/edits", json=body, allow_redirects=False)
    location = answer.headers["Location"]
    assert answer.status == status
    assert not location.startswith(raw.emulator.base_url)
    assert not raw.emulator.key_leaks
    accepted = await raw.send("POST", location, json=body)  # with the key, as nobody should
    assert accepted.json["data"][0]["task_id"] == "task_elsewhere"
    (leak,) = raw.emulator.key_leaks
    assert (leak.route, leak.path) == ("elsewhere", "/v1/images/edits")
    assert executed(raw) == 0


@pytest.mark.parametrize(
    ("kind", "status", "cost"),
    [
        ("task-failed", "failed", 0),
        ("task-cancelled", "cancelled", 0),
        ("task-expired", "expired", 0),
        ("task-partial", "completed", 0.03),
        ("task-stuck", "processing", 0.06),
    ],
)
async def test_task_faults_decide_the_final_status(raw: Raw, kind: Any, status: str, cost: float) -> None:
    raw.emulator.faults.add(Fault(kind=kind))
    task = await raw.finished(await raw.submitted(n=4))
    assert task["status"] in ({status, "submitted"} if kind == "task-stuck" else {status})
    assert raw.emulator.ledger.total == pytest.approx(cost)
    assert ("error" in task) == (kind == "task-failed")
    assert len(task.get("result", {}).get("images", ())) == (2 if kind == "task-partial" else 0)


async def test_an_unknown_status(raw: Raw) -> None:
    task_id = await raw.submitted()
    raw.emulator.faults.add(Fault(kind="unknown-status", every=2))
    tasks = [(await raw.send("GET", f"/v1/tasks/{task_id}")).json["data"] for _ in range(2)]
    assert [task["status"] for task in tasks] == ["submitted", "reticulating"]
    answer = await raw.send("POST", "/v1/tasks/batch", json={"task_ids": [task_id]})
    assert answer.json["data"][0]["status"] == "submitted"
    answer = await raw.send("POST", "/v1/tasks/batch", json={"task_ids": [task_id]})
    assert answer.json["data"][0]["status"] == "reticulating"


async def test_wrong_image_bytes(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image(size=(200, 150)))).json["url"]
    task = await raw.finished(await raw.submitted(image_urls=[upload]))
    url = task["result"]["images"][0]["url"][0]
    whole = (await raw.send("GET", url)).content
    raw.emulator.faults.add(
        Fault(kind="wrong-bytes", times=1),
        Fault(kind="cut-image", times=1),
        Fault(kind="status", route="files", status=410, times=1),
        Fault(kind="truncated", route="files", times=1),
    )
    wrong, cut, expired = [await raw.send("GET", url) for _ in range(3)]
    assert wrong.headers["Content-Type"] == "image/jpeg"
    assert wrong.content.startswith(b"<!DOCTYPE")
    assert cut.content == whole[: len(whole) // 2]
    assert expired.status == 410
    with pytest.raises(aiohttp.ClientPayloadError):
        await raw.send("GET", url)
    assert (await raw.send("GET", url)).content == whole


async def test_faults_of_uploads_and_applerouter(open_emulator: Open, make_image: MakeImage) -> None:
    async with open_emulator(task_seconds=0) as raw:
        raw.emulator.faults.add(
            Fault(kind="status", route="uploads", message="failed to upload image", times=1),
            Fault(kind="disconnect", route="applerouter", executed=True, times=1),
        )
        failed = await raw.upload(make_image())
        assert (failed.status, failed.json["error"]["message"]) == (500, "failed to upload image")
        form = aiohttp.FormData({"prompt": "p", "model": "m"})
        form.add_field("image", io.BytesIO(make_image("PNG")), filename="a.png")
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await raw.send("POST", "/v1/images/edits/", data=form)
        assert executed(raw) == 1


async def test_faults_can_be_given_at_the_start(open_emulator: Open) -> None:
    async with open_emulator(faults=[Fault(kind="status", status=503, first=1)]) as raw:
        assert [(await raw.edit()).status for _ in range(2)] == [503, 200]


async def test_faults_can_be_changed_over_http(raw: Raw) -> None:
    async def control(method: str, body: object = None) -> Answer:
        return await raw.send(method, "/emulator/faults", json=body)

    added = await control(
        "POST", [{"kind": "status", "status": 504, "route": "edits"}, {"kind": "hang", "first": 1}]
    )
    assert (added.status, len(added.json["faults"])) == (200, 2)
    assert (await raw.edit()).status == 504
    shown = await control("GET")
    assert shown.json["faults"][0] == {"kind": "status", "status": 504, "route": "edits", "happened": 1}
    wrong = await control("POST", [{"kind": "hang"}, {"kind": "typo"}])
    assert wrong.status == 400
    assert "fault 2" in wrong.json["error"]["message"]
    assert len((await control("GET")).json["faults"]) == 2, "all or nothing"
    assert (await control("DELETE")).json == {"faults": []}
    assert (await raw.edit()).status == 200


async def test_the_ledger_is_correct_through_many_faults(open_emulator: Open) -> None:
    """The accepted tasks are all in the ledger, and no request is billed twice."""
    kinds: list[Fault] = [
        Fault(kind="status", status=429, probability=0.1),
        Fault(kind="status", status=500, probability=0.1, executed=True),
        Fault(kind="disconnect", probability=0.1),
        Fault(kind="disconnect", probability=0.1, executed=True),
        Fault(kind="truncated", probability=0.1),
        Fault(kind="broken-json", probability=0.1),
    ]
    async with open_emulator(faults=kinds, images="tiny", seed=3) as raw:
        accepted: set[str] = set()

        async def submit(number: int) -> None:
            try:
                answer = await raw.edit(prompt=f"edit {number}", headers={"Idempotency-Key": str(number)})
                accepted.add(answer.json["data"][0]["task_id"])
            except (aiohttp.ClientError, ValueError, KeyError):
                return

        async with anyio.create_task_group() as group:
            for number in range(300):
                group.start_soon(submit, number)
        ledger = raw.emulator.ledger
        assert accepted < {entry.task_id for entry in ledger.entries}
        assert 0 < len(accepted) < len(ledger.entries) < 300
        assert not ledger.billed_more_than_once
        assert all(count > 0 for _, count in raw.emulator.faults.happened)
