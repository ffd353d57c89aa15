"""Results in a notebook: readable, and safe whatever the service answers."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime
from html.parser import HTMLParser
from io import BytesIO
from typing import TYPE_CHECKING

import pytest
from PIL import Image as Pillow

from apimart_async import ApimartError, Image, ImageSet, Job, Outcome, Task, TaskFailure

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert(1)</script>\"' onerror=alert(2) &amp;"


class Html(HTMLParser):
    """The tags, the sources of images and the text of a preview."""

    def __init__(self, result: Task | Image | ImageSet | Outcome) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str | None] = []
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(result._repr_html_())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag == "img":
            self.sources.append(dict(attrs)["src"])

    def handle_data(self, data: str) -> None:
        self.text += data


def test_task_is_shown_with_its_images() -> None:
    urls = ("https://files.example/a.png?x=1&y=2", "data:image/png;base64,iVBORw0KGgo=")
    images = tuple(Image(url, index=index) for index, url in enumerate(urls, 1))
    html = Html(Task("task_1", "completed", images=images, cost=0.03, model="a-model"))
    assert html.text == "Task task_1 · status completed · model a-model · cost $0.0300"
    assert html.sources == list(urls)
    assert (
        Html(Task("task_1", "processing", progress=40.0)).text
        == "Task task_1 · status processing · progress 40 %"
    )


def test_image_and_image_set_are_shown() -> None:
    image = Image("https://files.example/a.png", content_type="image/png", width=30, height=20, index=1)
    assert Html(image).text == "Image 1 · type image/png · size 30x20"
    shown = Html(ImageSet(datetime(2026, 11, 28, tzinfo=UTC), (image,) * 30, cost=0.5))
    assert len(shown.sources) == 24
    assert shown.text == "Created 2026-11-28 00:00:00 UTC · cost $0.5000and 6 more"


def test_an_outcome_is_shown_with_its_saved_files(tmp_path: Path) -> None:
    saved, damaged = tmp_path / "a.png", tmp_path / "b.png"
    Pillow.new("RGB", (2000, 1000), "green").save(saved)
    damaged.write_bytes(b"not an image")
    job = Job("photo.jpg", HOSTILE)
    html = Html(Outcome(job, "saved", paths=(saved, damaged), cost=0.03, id="job_1"))
    assert html.text == f"Job job_1 · status saved · prompt {HOSTILE} · cost $0.0300No preview of {damaged}"
    (source,) = html.sources
    assert source
    kind, _, content = source.partition(";base64,")
    assert kind == "data:image/webp"
    with Pillow.open(BytesIO(b64decode(content))) as thumbnail:
        assert thumbnail.size == (960, 480)

    failed = Html(Outcome(job, "failed", error=ApimartError(HOSTILE), id="job_1"))
    assert failed.text.endswith(f"error {HOSTILE}")
    assert (failed.sources, failed.tags) == ([], {"div", "code"})


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,<script>alert(1)</script>",
        "data:image/svg+xml;base64,PHN2Zz4=",
        'data:image/png;base64,AAAA" onerror="alert(1)',
        "file:///etc/passwd",
        "//files.example/a.png",
        "/files/a.png",
        "https://files.example/a b.png",
        "https://files.example/a.png\nx",
        "",
        HOSTILE,
    ],
)
def test_no_other_address_is_referred_to(url: str) -> None:
    html = Html(Task("t", "completed", images=(Image(url),)))
    assert html.sources == []
    assert html.tags == {"div", "code"}


def test_every_text_is_escaped() -> None:
    task = Task(
        HOSTILE,
        HOSTILE,
        model=HOSTILE,
        error=TaskFailure(HOSTILE),
        images=(Image(f'https://x/{"y" * 9}"><i>'),),
    )
    html = Html(task)
    assert html.tags == {"div", "code", "img"}
    assert html.attributes == {"src", "alt", "loading", "referrerpolicy", "style"}
    assert html.text.count(HOSTILE) == 4
    assert html.sources == ['https://x/yyyyyyyyy"><i>']
    assert len(Task("x" * 10_000, "queued")._repr_html_()) < 1000
