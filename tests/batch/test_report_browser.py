"""The report in a real browser: its display, its search, its keys, and no requests to the network."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import anyio.to_thread
import attrs
import pytest
from PIL import Image, ImageStat

from apimart_async.batch.journal.opening import journal_path
from apimart_async.batch.journal.record import Failure
from apimart_async.batch.journal.sqlite import SqliteJournal
from apimart_async.batch.report.page import write_report

from .chromium import Tab, tab
from .report_rows import HOSTILE, PNG, mixed, record

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
    gone = (place / "gone.png").as_uri()
    assert await browser.evaluate(links) == ["https://example.com/a.png", gone]
    note = await browser.evaluate(
        "new Promise((done) => { const look = () => { "
        "const text = document.querySelector('.card:nth-child(3) .nothing:not([hidden])')?.textContent; "
        "text ? done(text) : setTimeout(look, 20) }; look(); })"
    )
    assert note == "The image is no longer where it was saved."
    # Elements that are added to the page cannot make requests either.
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
    await browser.evaluate("document.querySelector('input[value=table]').click()")
    assert await browser.evaluate("document.documentElement.scrollWidth") <= 360


NAMES = "[...document.querySelectorAll('.open')].map((button) => button.textContent)"
NUMBERS = "[...document.querySelectorAll('td.number')].map((cell) => Number(cell.textContent))"


def shuffled(directory: Path, count: int) -> list[Record]:
    """Jobs of which every other one ended before the one in front of it."""
    records = [attrs.evolve(each, position=number) for number, each in enumerate(mixed(directory, count))]
    return [each for pair in zip(records[1::2], records[::2], strict=True) for each in pair]


async def test_jobs_are_in_the_order_of_the_manifest_and_sorted_by_any_column(
    browser: Tab, tmp_path: Path
) -> None:
    place = tmp_path / "out"
    records = [
        attrs.evolve(each, image=f"/nowhere/{letter}.png", cost=cost)
        for each, letter, cost in zip(shuffled(place, 4), "bdac", (0.02, None, 0.01, 0.03), strict=True)
    ]
    await browser.open(await report_of(place, records))
    assert await browser.evaluate("document.querySelector('.prompt').textContent") == records[1].prompt
    await browser.evaluate("document.querySelector('input[value=table]').click()")

    assert await browser.evaluate(NUMBERS) == [1, 2, 3, 4]
    assert await browser.evaluate(NAMES) == ["d.png", "b.png", "c.png", "a.png"]
    sort = "document.querySelector('th button[value={}]').click()"
    await browser.evaluate(sort.format("name"))
    assert await browser.evaluate(NAMES) == ["a.png", "b.png", "c.png", "d.png"]
    heading = (
        "[document.querySelector('th[aria-sort]')].map((cell) => cell.textContent + cell.ariaSort).join()"
    )
    assert await browser.evaluate(heading) == "Imageascending"
    await browser.evaluate(sort.format("cost"))
    assert await browser.evaluate(NAMES) == ["a.png", "b.png", "c.png", "d.png"]
    await browser.evaluate(sort.format("cost"))
    assert await browser.evaluate(heading) == "Costdescending"
    # A job of unknown cost is the last in both directions.
    assert await browser.evaluate(NAMES) == ["c.png", "b.png", "a.png", "d.png"]
    assert await browser.evaluate("document.getElementById('order').value") == "cost-"
    assert browser.complaints() == []


async def test_filter_and_page_are_in_the_address(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    path = await report_of(place, await anyio.to_thread.run_sync(mixed, place, 300))
    await browser.open(path)
    await browser.evaluate("document.querySelector('input[value=saved]').click()")
    await browser.evaluate(
        "document.getElementById('search').value = 'PICTURE 1'; "
        "document.getElementById('tools').requestSubmit()"
    )
    await browser.evaluate(
        "document.getElementById('order').value = 'time-'; "
        "document.getElementById('order').dispatchEvent(new Event('change', { bubbles: true }))"
    )
    await browser.evaluate("document.getElementById('next').click()")
    assert await browser.evaluate("location.hash") == "#status=saved&q=PICTURE+1&order=time-&page=2"
    prompts = "[...document.querySelectorAll('.prompt')].map((prompt) => prompt.textContent)"
    shown = await browser.evaluate(prompts)
    assert len(shown) == 48

    address = await browser.evaluate("location.href")
    await browser.call("Page.navigate", url="about:blank")
    await browser.open(path, address)
    assert await browser.evaluate(prompts) == shown
    assert await browser.evaluate("document.getElementById('search').value") == "PICTURE 1"
    assert await browser.evaluate("document.querySelector('input[name=status]:checked').value") == "saved"
    hostile = "#status=%3Cimg%3E&q=%3Cimg%20src%3Dx%3E&order=constructor&view=x&page=-9&job=__proto__"
    await browser.evaluate(
        "new Promise((done) => { addEventListener('hashchange', () => setTimeout(done)); "
        f"location.hash = '{hostile}'; }})"
    )
    assert await browser.evaluate("location.hash") == "#q=%3Cimg+src%3Dx%3E"
    assert await browser.evaluate("document.getElementById('found').textContent") == "No job is like that."
    assert browser.complaints() == []


async def test_large_view_steps_through_the_jobs_by_keys_and_links_the_files(
    browser: Tab, tmp_path: Path
) -> None:
    place = tmp_path / "out"
    await browser.open(await report_of(place, await anyio.to_thread.run_sync(mixed, place, 100)))
    at = "document.getElementById('place').textContent"
    await browser.evaluate("document.querySelectorAll('.enlarge')[46].click()")
    assert await browser.evaluate(at) == "47 of 100"
    await browser.press("ArrowRight")
    await browser.press("ArrowRight")
    await browser.press("ArrowRight")
    await browser.press("ArrowLeft")
    assert await browser.evaluate(at) == "49 of 100"
    assert await browser.evaluate("location.hash") == "#job=job-48"
    await browser.evaluate("document.getElementById('large-after').click()")
    assert await browser.evaluate(at) == "50 of 100"
    links = "[...document.querySelectorAll('#files a')].map((link) => [link.textContent, link.href])"
    assert await browser.evaluate(links) == [
        ["Original", (place / "originals" / "a photo.png").as_uri()],
        ["Result 1", (place / "result 1.png").as_uri()],
        ["Result 2", (place / "result 2.png").as_uri()],
    ]
    await browser.evaluate("document.querySelectorAll('#stage .variants button')[1].click()")
    assert (await browser.evaluate("document.querySelector('#stage .after').src")).endswith("result%202.png")

    # The slider has the keys while it is used by the keyboard.
    await browser.evaluate("document.querySelector('#stage input').focus({ focusVisible: true })")
    await browser.press("ArrowLeft")
    assert await browser.evaluate(at) == "50 of 100"
    await browser.press("Escape")
    # The page behind is that of the job.
    await browser.evaluate("new Promise((done) => setTimeout(done))")
    assert await browser.evaluate("location.hash") == "#page=2"
    assert await browser.evaluate("document.activeElement.ariaLabel") == "Enlarge a photo.png"
    assert browser.complaints() == []


async def test_given_ids_are_shown_and_all_files_of_a_row_linked(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    place.mkdir()
    paths = tuple(place / f"result {number}.png" for number in range(10))
    for path in paths:
        path.write_bytes(PNG)
    digest = "ab" * 16
    records = [record(1, id="sku-1", paths=paths), record(2, id=digest, paths=paths)]
    await browser.open(await report_of(place, records))
    text = "[...document.querySelectorAll('.card .small')].map((part) => part.textContent)"
    shown = await browser.evaluate(text)
    assert ["sku-1" in each for each in shown] == [True, False]
    assert digest not in "".join(shown)
    await browser.evaluate("document.querySelector('.enlarge').click()")
    assert "sku-1" in await browser.evaluate("document.getElementById('caption').textContent")
    await browser.press("Escape")

    await browser.evaluate("document.querySelector('input[name=view][value=table]').click()")
    cut = (
        "[...document.querySelectorAll('td.files a')].filter((link) => "
        "link.getBoundingClientRect().right > link.parentElement.getBoundingClientRect().right).length"
    )
    assert await browser.evaluate("document.querySelectorAll('td.files a').length") == 20
    assert await browser.evaluate(cut) == 0


async def test_labels_can_be_read_and_buttons_hit_on_a_phone(browser: Tab, tmp_path: Path) -> None:
    place = tmp_path / "out"
    await browser.call(
        "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True
    )
    await browser.open(await report_of(place, await anyio.to_thread.run_sync(mixed, place, 60)))
    ticks = (
        "[...document.querySelectorAll('.tick')].map((tick) => tick.getBoundingClientRect().height)"
        ".filter((height) => height > 0)"
    )
    assert min(await browser.evaluate(ticks)) >= 11
    small = (
        "[...document.querySelectorAll('button, select, .chip > span')]"
        ".map((each) => each.getBoundingClientRect())"
        ".filter((box) => box.height > 0 && (box.height < 28 || box.width < 28)).length"
    )
    assert await browser.evaluate(small) == 0
    await browser.evaluate("document.querySelector('.enlarge').click()")
    assert await browser.evaluate(small) == 0
    overlaps = (
        "(() => { const boxes = [...document.querySelectorAll('.tick.middle')].map((tick) => "
        "tick.getBoundingClientRect()).filter((box) => box.width > 0).sort((a, b) => a.x - b.x); "
        "return boxes.some((box, number) => number && box.left < boxes[number - 1].right); })()"
    )
    assert await browser.evaluate(overlaps) is False
