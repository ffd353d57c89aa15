"""The report: its content, that no text in it can run or make a request, and its size."""

from __future__ import annotations

import json
import os
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async import InvalidArgumentError
from apimart_async.batch.job import Job, Outcome
from apimart_async.batch.journal.record import Failure
from apimart_async.batch.report import page as report
from apimart_async.batch.report.page import MOST_ROWS, write_report
from apimart_async.batch.report.rows import before, relative, row_of
from apimart_async.batch.report.statistics import Totals, dollars, histogram, quantile, time_span
from apimart_async.errors import JournalError, TaskFailedError
from apimart_async.models import Task

from .report_rows import HOSTILE, PNG, mixed, record, write

if TYPE_CHECKING:
    from collections.abc import Mapping

VOID = {"meta", "link", "img", "input"}


class Page(HTMLParser):
    """The content of the page before its script runs."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts.setdefault(self.open[-1], []).append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    @property
    def rows(self) -> list[dict[str, Any]]:
        data, _ = ("".join(self.texts["script"]), None)
        end = data.index(']"use strict"')
        rows: list[dict[str, Any]] = json.loads(data[: end + 1])
        return rows

    @property
    def said(self) -> str:
        """The text of the page, without scripts and styles."""
        silent = {"script", "style"}
        words = (text for tag, texts in self.texts.items() if tag not in silent for text in texts)
        return " ".join(" ".join(words).split())


def test_report_adds_up_and_shows_each_job(tmp_path: Path) -> None:
    write(tmp_path, mixed(tmp_path, 22))
    path = write_report(tmp_path)
    page = Page(path)

    assert path == tmp_path / "report.html"
    assert [row["prompt"] for row in page.rows] == [each.prompt for each in mixed(tmp_path, 22)]
    assert {row["status"] for row in page.rows} == {"saved", "failed", "in_doubt", "unfinished"}
    assert page.rows[1]["after"] == ["result%201.png", "result%202.png"]
    assert page.rows[1]["before"] == "originals/a%20photo.png"
    assert page.rows[1]["task"] == "task_1"
    assert page.rows[6]["error"] == "The prompt was refused."
    assert "cost" not in page.rows[6]
    assert "19 Saved of 22 jobs" in page.said
    assert "1 Failed not billed" in page.said
    assert "$0.285 Spent" in page.said
    assert "1 It has not ended in 600 s." in page.said
    assert page.count("rect") > 1
    assert "19 jobs were saved: half of them within" in page.said
    assert "Wall time" in page.said


def test_report_is_one_file_without_requests(tmp_path: Path) -> None:
    write(tmp_path, mixed(tmp_path, 5))
    page = Page(write_report(tmp_path))
    addresses = [
        (tag, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in {"src", "href", "action", "srcset", "data", "poster"}
    ]
    assert addresses == [("link", "data:,"), ("a", "#jobs")]
    (tmp_path / "results.jsonl").touch()
    page = Page(write_report(tmp_path))
    assert [attributes.get("href") for tag, attributes in page.tags if tag == "a"] == [
        "#jobs",
        "results.jsonl",
    ]
    assert not re.search(r"@import|url\(|fetch\(|XMLHttp|https?://", "".join(page.texts["style"]))
    assert not re.search(r"fetch\(|XMLHttp|import\(|https?://|innerHTML", "".join(page.texts["script"]))
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes in page.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_everything_is_escaped(tmp_path: Path) -> None:
    plain = Page(write_report(write(tmp_path / "plain", [record(1)])))
    hostile_names = ("quote\"s 'and' <b>&amp;.png", "javascript:alert(1).png", "100%.png", "a#b?c.png")
    names = hostile_names if sys.platform != "win32" else ("a#b.png",)
    place = tmp_path / "hostile <i>"
    place.mkdir()
    for name in names:
        (place / name).write_bytes(PNG)
    records = [
        record(
            1,
            state="failed",
            image="javascript:alert(1)",
            prompt=HOSTILE,
            model=HOSTILE,
            error=Failure("TaskFailedError", HOSTILE),
            task=Task(HOSTILE, "failed"),
        ),
        record(2, image="data:text/html,<script>alert(1)</script>"),
        record(3, image="https://example.com/a.png?x=<script>"),
        *(record(10 + index, image=str(place / name), paths=(name,)) for index, name in enumerate(names)),
    ]
    page = Page(write_report(write(place, records)))

    assert page.count("script") == plain.count("script") == 2
    assert page.count("img") == plain.count("img")
    assert page.count("i") == 0
    first, second, third, *named = page.rows
    assert first["prompt"] == first["model"] == first["error"] == first["task"] == HOSTILE
    assert "before" not in first | second | third
    assert "link" not in first | second
    assert third["link"] == "https://example.com/a.png?x=<script>"
    for row, name in zip(named, names, strict=True):
        for address in (row["before"], *row["after"]):
            assert urlsplit(address)[:2] == ("", "")
            assert urlsplit(address)[3:] == ("", "")
            assert unquote(address) == name


@pytest.mark.long
def test_thousands_of_jobs_stay_a_small_file(tmp_path: Path) -> None:
    write(tmp_path, mixed(tmp_path, 2_000))
    path = write_report(tmp_path)

    page = Page(path)
    assert len(page.rows) == 2_000
    assert len(page.tags) < 400  # whatever the number of jobs, the script shows a page of them
    assert path.stat().st_size < 1_000_000


def test_of_too_many_jobs_those_with_problems_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST_ROWS > 10_000
    monkeypatch.setattr(report, "MOST_ROWS", 10)
    write(tmp_path, mixed(tmp_path, 50))
    page = Page(write_report(tmp_path))

    assert len(page.rows) == 10
    assert sum(row["status"] != "saved" for row in page.rows) == 7
    assert "43 Saved of 50 jobs" in page.said
    assert "40 saved jobs are counted above but not shown" in page.said


def test_an_earlier_report_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    write(tmp_path, [record(1)])
    (tmp_path / "report.html").write_text("of yesterday")
    assert "of yesterday" not in write_report(tmp_path).read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".batch", "report.html"]


def test_where_no_batch_has_run_there_is_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no batch has run there"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_its_extra_a_report_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [record(1)])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InvalidArgumentError, match=re.escape("pip install '.[report]' in the clone")):
        write_report(tmp_path)


def test_a_report_that_cannot_be_written_leaves_the_earlier_one(tmp_path: Path) -> None:
    write(tmp_path, [record(1)])
    (tmp_path / "report.html").mkdir()
    with pytest.raises(InvalidArgumentError, match="cannot be written"):
        write_report(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".batch", "report.html"]


# --- single facts -------------------------------------------------------------------------------------------


def outcome(**changes: object) -> Outcome:
    made = Outcome(Job("photo.jpg", "x"), "failed", id="job")
    return attrs.evolve(made, **changes)  # type: ignore[arg-type]


@given(st.text())
def test_the_page_refers_to_no_other_file_for_any_kind_of_image(image: str) -> None:
    found = before(image, Path.cwd())
    assert found is None or urlsplit(found).scheme in {"", "data"}


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_file_name_is_only_a_file_name(name: str) -> None:
    if name in {".", ".."}:
        return
    base = Path.cwd()
    parts = urlsplit(relative(base / "results" / name, base))
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
    assert unquote(parts.path) == str(Path("results", name))


def test_originals_elsewhere_are_referred_to_by_the_way_there(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "a.png"
    photo.parent.mkdir()
    photo.write_bytes(PNG)
    assert before(str(photo), tmp_path / "out") == "../photos/a.png"
    assert before(str(tmp_path / "photos"), tmp_path) is None
    assert before("data:image/png;base64,AAAA", tmp_path) == "data:image/png;base64,AAAA"
    assert before("data:image/svg+xml;base64,AAAA", tmp_path) is None


@pytest.mark.skipif(os.name == "nt", reason="Windows names are Unicode")
def test_names_that_are_no_text_can_be_referred_to(tmp_path: Path) -> None:
    assert relative(tmp_path / os.fsdecode(b"caf\xe9.png"), tmp_path) == "caf%E9.png"


def test_wall_time_is_without_pauses_between_runs() -> None:
    totals = Totals()
    for ended, seconds in (
        (110.0, 10.0),
        (115.0, 10.0),
        (118.0, 2.5),
        (500.0, 20.0),
        (490.0, 20.0),
        (90.0, None),
    ):
        totals.add(outcome(seconds=seconds), ended)
    assert totals.periods == [(100.0, 118.0), (470.0, 500.0)]
    assert totals.wall_time == 48.0
    assert [time_span(seconds) for seconds in (0.04, 46.1, 100, 12_345)] == [
        "0.0 s",
        "46.1 s",
        "2 min",
        "3 h 26 min",
    ]


def test_long_texts_are_cut_in_a_report_of_many_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "_MANY_ROWS", 1)
    write(tmp_path, [record(number, prompt="x" * 3000) for number in range(2)])
    assert [len(row["prompt"]) for row in Page(write_report(tmp_path)).rows] == [400, 400]


def test_equal_reasons_are_equal_whatever_the_task() -> None:
    totals = Totals()
    for number in range(3):
        task = Task(f"task_{number}", "failed")
        totals.add(outcome(task=task, error=TaskFailedError(f"Task task_{number} failed: no", task=task)))
    assert totals.reasons == {("failed", "Task … failed: no"): 3}


def test_reasons_are_bounded() -> None:
    totals = Totals()
    for number in range(1200):
        totals.add(outcome(error=TaskFailedError(f"Reason {number}")))
    assert len(totals.reasons) == 1000
    assert totals.other_reasons == 200


def test_unknown_values_are_left_out() -> None:
    row: Mapping[str, object] = row_of(outcome(job=Job(b"bytes", "x")), Path.cwd())
    assert row == {"id": "job", "status": "failed", "name": "image", "prompt": "x"}


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_every_duration_is_in_one_bar_inside_the_drawing(durations: list[float]) -> None:
    drawn = histogram(durations)
    assert drawn
    counted = [int(re.search(r": ([\d,]+) jobs?$", bar.title)[1].replace(",", "")) for bar in drawn.bars]  # type: ignore[index]
    assert sum(counted) == len(durations)
    for bar in drawn.bars:
        assert 0 < bar.x < bar.x + bar.width <= drawn.width
        assert 0 < bar.y < bar.y + bar.height <= drawn.height
    assert 2 <= len(drawn.lines) <= 5
    assert len(drawn.ticks) <= 8


def test_no_durations_draw_nothing() -> None:
    assert histogram([]) is None
    one = histogram([0.0])
    assert one
    assert one.description == "One job was saved, in 0 s."


def test_quantiles_and_amounts() -> None:
    assert [quantile([1, 2, 3, 4], share) for share in (0.0, 0.5, 0.75, 0.76, 1.0)] == [1, 2, 3, 4, 4]
    assert [dollars(amount) for amount in (0, 0.045, 1.5, 1234.567)] == [
        "$0.00",
        "$0.045",
        "$1.50",
        "$1,234.57",
    ]
