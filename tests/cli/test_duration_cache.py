"""Duration statistics that `apimart edit` keeps between runs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async.cli import duration_cache

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://api.example.com"
STATS: dict[str, Any] = {"version": 2, "models": {"a": {"typical": 20.0, "spans": [[9.0, 10.0, None]]}}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    return tmp_path / "apimart-async"


def test_each_service_has_its_own_statistics() -> None:
    duration_cache.save(URL, STATS)
    assert duration_cache.load(URL) == STATS
    assert duration_cache.load("https://other.example.com") == {}


def test_the_cache_holds_the_last_eight_services(folder: Path) -> None:
    for number in range(12):
        duration_cache.save(f"https://{number}.example.com", STATS)
    assert len(json.loads((folder / "durations.json").read_text())) == 8
    assert duration_cache.load("https://11.example.com") == STATS
    assert [path.name for path in folder.iterdir()] == ["durations.json"]


def test_emulators_and_empty_statistics_are_not_kept(folder: Path) -> None:
    duration_cache.save("http://127.0.0.1:8080", STATS)
    duration_cache.save(URL, {"version": 2, "models": {}})
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"https://api.example.com": 5}', "[" * 100_000])
def test_a_damaged_cache_is_empty_and_can_be_replaced(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "durations.json").write_text(text)
    assert duration_cache.load(URL) == {}
    duration_cache.save(URL, STATS)
    assert duration_cache.load(URL) == STATS


def test_a_cache_that_cannot_be_written_is_no_error(folder: Path) -> None:
    folder.write_text("a file where the directory should be")
    duration_cache.save(URL, STATS)
    assert duration_cache.load(URL) == {}


def test_planted_links_and_pipes_in_a_shared_cache_folder_are_not_followed(folder: Path) -> None:
    folder.mkdir()
    victim = folder.parent / "victim"
    victim.write_text("precious")
    for name in (f"durations.json.{os.getpid()}", "durations.json"):
        (folder / name).symlink_to(victim)
    duration_cache.save(URL, STATS)
    assert victim.read_text() == "precious"
    assert duration_cache.load(URL) == STATS
    assert (folder / "durations.json").stat().st_mode & 0o777 == 0o600
    (folder / "durations.json").unlink()
    os.mkfifo(folder / "durations.json")
    assert duration_cache.load(URL) == {}
