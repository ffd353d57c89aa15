"""`apimart upload`: addresses in order, with the facts about each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

    from .conftest import Command


async def test_json_describes_each_upload_in_the_order_of_the_arguments(
    apimart: Command, emulator: Emulator, photos: list[Path]
) -> None:
    emulator.faults.add(Fault(kind="slow", route="uploads", seconds=0.5, times=1))
    done = await apimart("upload", *photos, "--json")

    assert done.code == 0
    assert "3 images uploaded" in done.stderr
    assert emulator.ledger.entries == []
    for record, photo in zip(done.records, photos, strict=True):
        assert record["image"] == str(photo)
        assert record["url"].endswith(photo.suffix)
        assert record["filename"] == photo.name
        assert 0 < record["bytes"] <= photo.stat().st_size  # without metadata
        assert record["content_type"].startswith("image/")
        assert record["expires_at"] > "20"
        assert record["error"] is None
