"""Tests of the service: no key, no network, no money, and no wait for tasks of an hour."""

from __future__ import annotations

import asyncio
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientTimeout
from aiohttp.test_utils import TestClient, TestServer
from app import make_app
from PIL import Image

from apimart_async.emulator import Fault

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator
    from apimart_async.testing import TestClock


@pytest.fixture(scope="module")
def photo() -> bytes:
    file = BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "JPEG")
    return file.getvalue()


@pytest.mark.apimart(task_seconds=3600)
async def test_a_slow_task_is_named(
    apimart_emulator: Emulator, apimart_clock: TestClock, photo: bytes
) -> None:
    async with TestClient(TestServer(make_app()), timeout=ClientTimeout()) as browser:
        request = asyncio.create_task(browser.post("/edits?prompt=A starry sky", data=photo))
        while not apimart_emulator.ledger.entries:
            await asyncio.sleep(0.01)
        while not request.done():
            apimart_clock.advance(100)
            await asyncio.sleep(0.01)
        response = await request
        assert response.status == 504
        assert "task_" in (await response.json())["error"]
    apimart_emulator.ledger.assert_billed(times=1)


@pytest.mark.apimart(task_seconds=20)
async def test_the_edited_photo_is_the_answer(
    apimart_emulator: Emulator, apimart_clock: TestClock, photo: bytes
) -> None:
    async with TestClient(TestServer(make_app())) as browser:
        with apimart_clock.passing():
            response = await browser.post("/edits?prompt=A starry sky", data=photo)
        assert response.status == 200
        assert response.headers["X-Cost"] == "0.015"
        assert len(await response.read()) > 100
    apimart_emulator.ledger.assert_billed(times=1, cost=0.015)


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
    apimart_emulator: Emulator, apimart_clock: TestClock, photo: bytes, fault: Fault, status: int
) -> None:
    apimart_emulator.faults.add(fault)
    async with TestClient(TestServer(make_app())) as browser:
        with apimart_clock.passing():
            response = await browser.post("/edits?prompt=A starry sky", data=photo)
        assert response.status == status
    assert len(apimart_emulator.ledger.executed_more_than_once) == 0


async def test_a_text_is_refused_before_it_costs_money(apimart_emulator: Emulator) -> None:
    async with TestClient(TestServer(make_app())) as browser:
        response = await browser.post("/edits?prompt=A starry sky", data=b"not a photo")
        assert response.status == 415
    apimart_emulator.ledger.assert_billed(times=0)
