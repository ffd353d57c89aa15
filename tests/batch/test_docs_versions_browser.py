"""The list of the versions of the documentation, on the pages of each version."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
from aiohttp import web

from .chromium import Tab, tab

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><html data-content_root="{root}"><script src="{root}_static/versions.js"></script>
<a class="sidebar-brand">apimart-async</a>"""
VERSIONS = {"newest": "0.10.0", "versions": ["0.11.0rc1", "0.10.0", "0.9.0"]}
LIST = "[...document.querySelectorAll('select option')].map((each) => each.text)"
CHOOSE = "list = document.querySelector('select'); list.value = '{}'; list.dispatchEvent(new Event('change'))"


@asynccontextmanager
async def serve(folder: Path) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_static("/site", folder, show_index=True)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/site/"
    finally:
        await runner.cleanup()


async def until(browser: Tab, condition: str) -> None:
    while not await browser.evaluate(condition):  # noqa: ASYNC110 nothing tells
        await anyio.sleep(0.02)


async def test_a_page_leads_to_the_same_page_of_another_version(tmp_path: Path, repository: Path) -> None:
    site = tmp_path / "site"
    for version in VERSIONS["versions"]:
        (site / version / "_static").mkdir(parents=True)
        script = (repository / "docs/static/versions.js").read_bytes()
        (site / version / "_static" / "versions.js").write_bytes(script)
        (site / version / "index.html").write_text(PAGE.format(root="./"))
        (site / version / "recipes").mkdir()
        (site / version / "recipes" / "csv.html").write_text(PAGE.format(root="../"))
    (site / "0.10.0" / "recipes" / "new.html").write_text(PAGE.format(root="../"))

    async with serve(site) as base, tab(tmp_path / "profile") as browser:

        async def open_page(address: str) -> None:
            await browser.call("Page.navigate", url=address)
            await until(browser, "document.readyState === 'complete'")

        async def choose(version: str, address: str) -> None:
            await until(browser, "Boolean(document.querySelector('select'))")
            await browser.evaluate(CHOOSE.format(version))
            await until(browser, f"location.href === '{address}'")

        (site / "versions.json").write_text(json.dumps(VERSIONS))
        await open_page(f"{base}0.10.0/recipes/csv.html#top")
        await until(browser, "Boolean(document.querySelector('select'))")
        assert await browser.evaluate(LIST) == ["0.11.0rc1", "0.10.0 (newest)", "0.9.0"]
        assert await browser.evaluate("document.querySelector('select').value") == "0.10.0"
        await choose("0.9.0", f"{base}0.9.0/recipes/csv.html#top")
        await choose("0.10.0", f"{base}0.10.0/recipes/csv.html#top")
        await open_page(f"{base}0.10.0/recipes/new.html")
        await choose("0.9.0", f"{base}0.9.0/")
