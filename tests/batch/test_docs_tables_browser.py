"""The wide tables of the documentation in a window of a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .chromium import tab

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.browser

PAGE = """<!doctype html><meta name="viewport" content="width=device-width">
<link rel="stylesheet" href="pages.css"><script src="tables.js"></script>
<div style="overflow: auto"><table class="docutils">
<thead><tr><th>error</th><th>when</th><th>next step</th><th>money</th></tr></thead>
<tbody><tr>
<td><code class="literal">SubmissionIndeterminateError</code></td><td><p>a paid request was sent</p></td>
<td><p><code class="literal">client.tasks.get(error.task_id)</code></p></td><td><p>perhaps</p></td>
</tr></tbody>
</table></div>"""
OVERFLOW = "document.querySelector('table').scrollWidth > document.querySelector('div').clientWidth"
LABEL = "getComputedStyle(document.querySelector('td:last-child'), '::before').content"


async def test_rows_of_a_wide_table_are_blocks_with_labels_on_a_phone(
    tmp_path: Path, repository: Path
) -> None:
    for name in ("pages.css", "tables.js"):
        (tmp_path / name).write_bytes((repository / "docs/static" / name).read_bytes())
    (tmp_path / "page.html").write_text(PAGE)
    async with tab(tmp_path / "profile") as browser:
        await browser.open(tmp_path / "page.html")
        wide = await browser.evaluate(LABEL)
        await browser.call(
            "Emulation.setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True
        )
        await browser.evaluate("new Promise(requestAnimationFrame)")

        assert wide == "none"
        assert await browser.evaluate(LABEL) == '"money: "'
        assert not await browser.evaluate(OVERFLOW)
