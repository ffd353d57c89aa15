"""Tests of the service: no key, no network, no money, and no wait for slow tasks."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from httpx import ASGITransport, AsyncClient
from PIL import Image

import main
from apimart_async.emulator import Fault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from apimart_async.emulator import Emulator
    from apimart_async.testing import TestClock


def photo() -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "JPEG")
    return file.getvalue()


PHOTO = photo()
EDIT = "/edits/an-order-of-1017"
FORM = {"prompt": "A starry sky"}


@pytest.fixture
async def browser(
    apimart_emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncClient]:
    """A client of the service, which runs as under a server."""
    assert apimart_emulator.base_url
    monkeypatch.setattr(main, "FOLDER", tmp_path)
    transport = ASGITransport(main.app)
    async with (
        main.app.router.lifespan_context(main.app),
        AsyncClient(transport=transport, base_url="http://service") as client,
    ):
        yield client


async def test_the_edited_photo_is_the_answer(
    apimart_emulator: Emulator, apimart_clock: TestClock, browser: AsyncClient
) -> None:
    with apimart_clock.passing():
        response = await browser.put(EDIT, data=FORM, files={"photo": PHOTO})
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("image/")
    assert response.headers["X-Cost"] == "0.015"
    apimart_emulator.ledger.assert_billed(times=1, cost=0.015)


async def test_a_repeated_request_pays_nothing(
    apimart_emulator: Emulator, apimart_clock: TestClock, browser: AsyncClient
) -> None:
    with apimart_clock.passing():
        answers = await asyncio.gather(
            *(browser.put(EDIT, data=FORM, files={"photo": PHOTO}) for _ in "abc")
        )
        answers.append(await browser.put(EDIT, data=FORM, files={"photo": PHOTO}))
        answers.append(await browser.get(EDIT))
        assert [answer.status_code for answer in answers] == [200] * 5
        other = await browser.put(
            EDIT, data={"prompt": "Deep snow"}, files={"photo": PHOTO}
        )
    assert len({answer.content for answer in answers}) == 1
    assert other.status_code == 422  # the key belongs to the first edit
    apimart_emulator.ledger.assert_billed(times=1)


@pytest.mark.apimart(task_seconds=20)
async def test_an_edit_goes_on_when_its_caller_disconnects(
    apimart_emulator: Emulator, apimart_clock: TestClock, browser: AsyncClient
) -> None:
    request = asyncio.create_task(browser.put(EDIT, data=FORM, files={"photo": PHOTO}))
    while not apimart_emulator.ledger.entries:
        await asyncio.sleep(0.01)
    request.cancel()
    assert (await browser.get(EDIT)).status_code == 202
    with apimart_clock.passing():
        answer = await browser.get(EDIT)
        while answer.status_code == 202:
            answer = await browser.get(EDIT)
    assert answer.status_code == 200
    apimart_emulator.ledger.assert_billed(times=1)


@pytest.mark.apimart(task_seconds=20)
async def test_an_edit_goes_on_after_a_restart(
    apimart_emulator: Emulator,
    apimart_clock: TestClock,
    browser: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(main, "MAX_SHUTDOWN", 0.0)
    request = asyncio.create_task(browser.put(EDIT, data=FORM, files={"photo": PHOTO}))
    while not apimart_emulator.ledger.entries:
        await asyncio.sleep(0.01)
    await main.app.state.edits.close()  # as the server does when it stops
    with pytest.raises(asyncio.CancelledError):
        await request
    assert (await browser.get(EDIT)).status_code == 202
    with apimart_clock.passing():
        answer = await browser.put(EDIT, data=FORM, files={"photo": PHOTO})
    assert answer.status_code == 200
    apimart_emulator.ledger.assert_billed(times=1)


@pytest.mark.apimart(task_seconds=20)
async def test_a_slow_edit_can_be_asked_for_again(
    apimart_emulator: Emulator,
    apimart_clock: TestClock,
    browser: AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(main, "MAX_WAIT", 2.0)
    with apimart_clock.passing():
        answer = await browser.put(EDIT, data=FORM, files={"photo": PHOTO})
        assert answer.status_code == 504
        while answer.status_code == 504:
            answer = await browser.put(EDIT, data=FORM, files={"photo": PHOTO})
    assert answer.status_code == 200
    apimart_emulator.ledger.assert_billed(times=1)


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault(kind="status", route="edits", status=402, code="payment_required"), 503),
        (Fault(kind="disconnect", route="edits", executed=True), 502),
        (Fault(kind="task-failed"), 422),
    ],
    ids=["balance", "lost answer", "failed task"],
)
async def test_errors_become_statuses(
    apimart_emulator: Emulator,
    apimart_clock: TestClock,
    browser: AsyncClient,
    fault: Fault,
    status: int,
) -> None:
    apimart_emulator.faults.add(fault)
    with apimart_clock.passing():
        for _ in range(2):  # a request that may have been paid is not sent again
            answer = await browser.put(EDIT, data=FORM, files={"photo": PHOTO})
            assert answer.status_code == status
            assert "balance" not in answer.text
    assert len(apimart_emulator.ledger.entries) <= 1


@pytest.mark.parametrize(
    ("photo", "status"), [(b"not a photo", 415), (bytes(22_000_000), 413)]
)
async def test_a_bad_photo_is_refused_before_it_costs_money(
    apimart_emulator: Emulator, browser: AsyncClient, photo: bytes, status: int
) -> None:
    answer = await browser.put(EDIT, data=FORM, files={"photo": photo})
    assert answer.status_code == status
    apimart_emulator.ledger.assert_billed(times=0)


async def test_an_unknown_edit_is_not_found(browser: AsyncClient) -> None:
    assert (await browser.get(EDIT)).status_code == 404
    assert (await browser.get("/edits/..")).status_code in {404, 422}
