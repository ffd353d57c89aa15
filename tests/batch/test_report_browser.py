"""The report in a real browser: drawn, searched, moved by keys, and asking nobody for anything."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest
from PIL import Image, ImageStat

from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.journal.record import Failure
from apimart_async.batch.journal.sqlite import SqliteJournal
from apimart_async.batch.report.page import write_report

from .chromium import Tab, tab
from .report_rows import HOSTILE, mixed, record

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from apimart_async.batch.journal.record import Record

pytestmark = pytest.mark.browser

CARDS = "document.querySelectorAll('.card').length"


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Tab]:
    async with tab(tmp_path / "profile") as opened:
        yield opened


async def report_of(directory: Path, records: Sequence[Record]) -> Path:
    async with SqliteJournal(journal_path(directory)) as journal, anyio.create_task_group() as group:
        for each in records:
            group.start_soon(journal.put, each)
    return await anyio.to_thread.run_sync(write_report, directory)


def brightness(shot: bytes) -> float:
    with Image.open(io.BytesIO(shot)) as image:
        mean: float = ImageStat.Stat(image.convert("L")).mean[0]
        return mean


@pytest.mark.long
async def test_ten_thousand_jobs_are_found_filtered_and_turned_over(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    records = await anyio.to_thread.run_sync(mixed, place, 10_000)
    await browser.open(await report_of(place, records))

    assert await browser.evaluate(CARDS) == 48
    assert (
        await browser.evaluate("document.getElementById('found').textContent") == "1\u201348 of 10,000 jobs"
    )
    assert await browser.evaluate("document.querySelectorAll('*').length") < 2000
    await browser.evaluate("document.getElementById('next').click()")
    assert await browser.evaluate("document.querySelector('.prompt').textContent") == records[48].prompt

    await browser.evaluate("document.querySelector('input[value=failed]').click()")
    failed = sum(each.state == "failed" for each in records)
    assert await browser.evaluate("document.getElementById('found').textContent") == (
        f"1\u201348 of {failed} jobs"
    )
    await browser.evaluate("document.querySelector('input[value=all]').click()")
    word = records[4321].prompt.split()[0]
    await browser.evaluate(
        f"document.getElementById('search').value = '{word.upper()} picture'; "
        "document.getElementById('tools').requestSubmit()"
    )
    assert await browser.evaluate(CARDS) == 1
    assert await browser.evaluate("document.querySelector('.prompt').textContent") == records[4321].prompt
    assert browser.complaints() == []


async def test_a_pair_is_compared_by_keys_and_enlarged(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    await browser.open(await report_of(place, await anyio.to_thread.run_sync(mixed, place, 3)))

    shown = "[...document.querySelectorAll('.card:nth-child(2) img')].map((image) => image.naturalWidth)"
    assert await browser.evaluate(shown) == [1, 1]
    assert await browser.evaluate("[...document.images].every((image) => image.hidden || image.alt)")
    position = "getComputedStyle(document.querySelector('.pair')).getPropertyValue('--at')"
    assert await browser.evaluate(position) == "50%"
    await browser.evaluate("document.querySelector('.pair input').focus()")
    await browser.press("ArrowLeft")
    await browser.press("ArrowLeft")
    assert await browser.evaluate(position) == "48%"
    assert await browser.evaluate("document.activeElement.getAttribute('aria-valuetext')") == "48 % before"

    second = "document.querySelector('.card:nth-child(2)')"
    await browser.evaluate(f"{second}.querySelectorAll('.variants button')[1].click()")
    assert (await browser.evaluate(f"{second}.querySelector('.after').src")).endswith("result%202.png")
    await browser.evaluate(f"{second}.querySelector('.enlarge').focus()")
    await browser.press("Enter")
    assert await browser.evaluate("document.getElementById('large').open")
    assert (await browser.evaluate("document.querySelector('#stage .after').src")).endswith("result%202.png")
    await browser.press("Escape")
    assert not await browser.evaluate("document.getElementById('large').open")
    assert all(address.startswith(("file:", "data:")) for address in browser.requested())
    assert browser.complaints() == []


async def test_nothing_hostile_runs_and_missing_pictures_are_said(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    broken = Failure("TaskFailedError", HOSTILE)
    path = await report_of(
        place,
        [
            record(
                1, state="failed", image="javascript:alert(1)", prompt=HOSTILE, model=HOSTILE, error=broken
            ),
            record(2, image="https://example.com/a.png", prompt="<img src=x onerror=alert(1)>"),
            record(3, paths=("gone.png",)),
        ],
    )
    await browser.open(path)

    assert await browser.evaluate(CARDS) == 3
    texts = "[...document.querySelectorAll('.prompt')].map((prompt) => prompt.textContent)"
    assert await browser.evaluate(texts) == [HOSTILE, "<img src=x onerror=alert(1)>", "A starry sky"]
    links = "[...document.querySelectorAll('main a')].map((link) => link.href)"
    assert await browser.evaluate(links) == ["https://example.com/a.png"]
    gone = await browser.evaluate(
        "new Promise((done) => { const look = () => { "
        "const text = document.querySelector('.card:nth-child(3) .nothing:not([hidden])')?.textContent; "
        "text ? done(text) : setTimeout(look, 20) }; look(); })"
    )
    assert gone == "The image is no longer where it was saved."
    # What is added by force has no chance either.
    await browser.evaluate(
        "const image = document.createElement('div'); document.body.append(image); "
        'image.innerHTML = \'<img src="https://example.com/b.png" onerror="alert(2)">\''
    )
    assert all(
        not address.startswith("http") or event_blocked(browser, address) for address in browser.requested()
    )
    dialogs = [each for each in browser.complaints() if each["method"] != "Log.entryAdded"]
    assert dialogs == []


def event_blocked(browser: Tab, address: str) -> bool:
    """Tell whether a request was stopped by the page's own policy, before it was sent."""
    numbers = {
        event["params"]["requestId"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent" and event["params"]["request"]["url"] == address
    }
    return any(
        event["method"] == "Network.loadingFailed"
        and event["params"]["requestId"] in numbers
        and event["params"].get("blockedReason") == "csp"
        for event in browser.events
    )


async def test_report_is_light_or_dark_as_the_system_is(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    await browser.open(await report_of(place, await anyio.to_thread.run_sync(mixed, place, 20)))
    seen: dict[str, float] = {}
    for scheme in ("light", "dark"):
        await browser.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        seen[scheme] = brightness(await browser.screenshot(tmp_path / f"{scheme}.png"))
    assert seen["light"] > 200
    assert seen["dark"] < 70


async def test_a_narrow_window_needs_no_sideways_scrolling(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    await browser.call(
        "Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=1, mobile=True
    )
    await browser.open(await report_of(place, await anyio.to_thread.run_sync(mixed, place, 20)))
    assert await browser.evaluate("document.documentElement.scrollWidth") <= 360
