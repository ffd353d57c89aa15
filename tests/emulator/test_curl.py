"""The two documented commands, with only the host changed."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import anyio
import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Raw

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


async def curl(*arguments: str) -> Any:
    done = await anyio.run_process(["curl", "-sS", *arguments])
    return json.loads(done.stdout)


async def test_upload_then_edit(raw: Raw, photographs: dict[str, Path]) -> None:
    base, key = raw.emulator.base_url, raw.emulator.api_key
    uploaded = await curl(
        *("-X", "POST", f"{base}/v1/uploads/images"),
        *("-H", f"Authorization: Bearer {key}"),
        *("-F", f"file=@{photographs['rocket.jpg']}"),
    )
    assert uploaded["filename"] == "rocket.jpg"
    assert uploaded["content_type"] == "image/jpeg"
    body = {
        "model": "grok-imagine-1.0-edit-apimart",
        "prompt": "Change the background to a starry sky",
        "image_urls": [uploaded["url"]],
        "n": 1,
    }
    submitted = await curl(
        *("-X", "POST", f"{base}/v1/images/edits"),
        *("-H", f"Authorization: Bearer {key}"),
        *("-H", "Content-Type: application/json"),
        *("-d", json.dumps(body)),
    )
    assert submitted["code"] == 200
    assert submitted["data"][0]["status"] == "submitted"
    raw.emulator.advance(60)
    task_url = f"{base}/v1/tasks/{submitted['data'][0]['task_id']}?language=en"
    task = await curl(task_url, "-H", f"Authorization: Bearer {key}")
    assert task["data"]["status"] == "completed"
