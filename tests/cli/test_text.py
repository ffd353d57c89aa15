"""The pure parts: lines fit for a terminal, and commands fit to be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async.batch import Progress
from apimart_async.cli.display.item import items_for, stem_of
from apimart_async.cli.display.messages import ResumeHint, rate_limited
from apimart_async.cli.display.output import dollars, listed, printable, seconds, sentence, shorten
from apimart_async.transport.files.names import NameTemplate, template_of


@given(st.text(), st.integers(5, 50))
def test_any_text_fits_into_a_line(text: str, length: int) -> None:
    line = shorten(printable(text), length)
    assert len(line) <= length
    assert line.isprintable()


@given(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_any_file_name_names_its_results(name: str) -> None:
    NameTemplate.parse(template_of(stem_of(name), 1))


def test_a_sentence_is_one_line_with_an_end() -> None:
    assert sentence("bad \x1b[31mred\x1b[0m\nthing") == "bad �[31mred�[0m thing."
    assert len(sentence("long " * 1000)) < 1100


@pytest.mark.parametrize(
    ("duration", "text"), [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1:01"), (3725.4, "1:02:05")]
)
def test_durations(duration: float, text: str) -> None:
    assert seconds(duration) == text


@pytest.mark.parametrize(
    ("cost", "text"), [(0, "$0.00"), (0.015, "$0.015"), (1.5, "$1.50"), (12, "$12.00"), (0.00012, "$0.0001")]
)
def test_amounts(cost: float, text: str) -> None:
    assert dollars(cost) == text


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(), ""),
        (Progress(rate_limit=48.2), ""),
        (Progress(is_rate_limited=True), "rate limited"),
        (Progress(is_rate_limited=True, rate_limit=48.2), "rate limited, 48.2/s"),
        (Progress(is_rate_limited=True, rate_limit=0.05), "rate limited, 0.05/s"),
    ],
)
def test_the_limit_of_the_service_is_shown_once_it_is_known(progress: Progress, text: str) -> None:
    assert rate_limited(progress) == text


def test_labels_are_short_unless_they_would_be_the_same() -> None:
    sources = ["a/one.jpg", "b/one.jpg", "b/two.jpg", "https://host/three.jpg?size=1", "x" * 100 + ".png"]
    labels = [item.label for item in items_for(sources)]
    assert labels[:4] == ["a/one.jpg", "b/one.jpg", "two.jpg", "three.jpg"]
    assert len(labels[4]) == 40


def test_the_command_to_continue_can_be_copied() -> None:
    command = ResumeHint(Path("my results"), ["http://host:1"]).command([("task_1", None), ("task;2", None)])
    assert command is not None
    assert shlex.split(command) == [
        *("apimart", "task", "save", "task_1", "task;2"),
        *("-o", "my results", "--base-url", "http://host:1"),
    ]
    assert ResumeHint().command([("task_1", None)]) == "apimart task wait task_1"
    assert ResumeHint().command([]) is None
    assert ResumeHint(is_possible=False).command([("task_1", None)]) is None


def test_advice_that_several_problems_share_is_given_once() -> None:
    advice = "Save it as JPEG. Or leave it out."
    problems = [f"Mr. {name}.jpg is text. {advice}" for name in "ABC"] + ["d.png is missing."]
    assert listed(problems) == [
        "  Mr. A.jpg is text.",
        "  Mr. B.jpg is text.",
        "  Mr. C.jpg is text.",
        "  d.png is missing.",
        advice,
    ]
    assert listed(problems[2:]) == [f"  {problem}" for problem in problems[2:]]
