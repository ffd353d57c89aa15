"""The rows of a journal as texts: those of earlier versions, and data of a caller of any type."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from apimart_async import Image, Job, Task
from apimart_async.batch import Record
from apimart_async.transport import json as service_json

EARLIER_BODY = {
    "payload": "digest",
    "image": "a.png",
    "prompt": "Add snow",
    "task": {
        "id": "task_1",
        "status": "completed",
        "progress": None,
        "images": [
            {
                "url": "https://files.example.org/a.png",
                "expires_at": "2026-01-02T03:04:05.678901+00:00",
                "revised_prompt": None,
                "task_id": "task_1",
                "index": 1,
                "content_type": None,
            }
        ],
        "cost": 0.015,
        "created_at": "2026-01-02T03:04:05+00:00",
        "error": None,
        "idempotency_key": "key",
        "sibling_ids": [],
        "usage": None,
    },
    "changed_at": 1767323045.678901,
    "sent_at": 1767323045.5,
}


def test_a_row_of_an_earlier_version_with_times_as_texts_and_with_nulls_is_read() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    row = ("1", "completed", "key", "model", 1, 0.015, json.dumps(EARLIER_BODY))
    record = Record.from_row(row)
    image = Image("https://files.example.org/a.png", moment, task_id="task_1", index=1)
    assert record.task == Task(
        "task_1",
        "completed",
        images=(image,),
        cost=0.015,
        created_at=moment.replace(microsecond=0),
        idempotency_key="key",
    )
    assert record.changed_at == moment
    assert Record.from_row(record.to_row()) == record


@pytest.mark.parametrize("has_orjson", [False, True])
@pytest.mark.parametrize(
    ("extra", "read"),
    [
        ({"place": "Straße 北京 😀"}, {"place": "Straße 北京 😀"}),
        ({"path": "\udcff.jpg"}, {"path": "\udcff.jpg"}),
        ({"large": 2**70, "exact": 0.1}, {"large": 2**70, "exact": 0.1}),
        ({1: "one"}, {"1": "one"}),
        ({"path": Path("a"), "when": datetime(2026, 1, 2, tzinfo=UTC)}, None),
    ],
    ids=["characters", "half of a pair", "numbers", "a number as a name", "other types"],
)
def test_a_row_holds_data_of_any_type_in_ascii(
    monkeypatch: pytest.MonkeyPatch, extra: dict[Any, Any], read: object, *, has_orjson: bool
) -> None:
    if not has_orjson:
        monkeypatch.setattr(service_json, "orjson", None)
    record = Record.describe(Job("a.png", "Add snow", extra=extra), "model", job_id="1", payload="x")
    row = record.to_row()
    assert row[-1].isascii()
    expected = {name: repr(value) for name, value in extra.items()} if read is None else read
    assert Record.from_row(row).extra == expected
