"""Limits of the service: those that the package checks, and those that it leaves to the service."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING

import pytest

from apimart_async import AsyncApimart, BadRequestError, Poll, Retry, Timeout
from apimart_async.emulator import Emulator, Fault
from apimart_async.transport import catalogue_parsing
from tests.transport.conftest import RawServer, listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.transport.conftest import Exchange

PICTURE = "https://pictures.example/a.png"


@pytest.fixture
async def raw_server() -> AsyncIterator[RawServer]:
    """Accept every request as a task."""

    async def handle(exchange: Exchange) -> None:
        await exchange.read()
        await exchange.answer(b'{"code":200,"data":[{"status":"submitted","task_id":"task_1"}]}')

    server = RawServer(handle)
    async with listening(server) as port:
        server.base_url = f"http://127.0.0.1:{port}"
        yield server


async def test_an_edit_has_neither_a_webhook_nor_a_language(raw_server: RawServer) -> None:
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        for create in (client.edits.create, client.edits.run):
            assert not {"webhook", "language"} & inspect.signature(create).parameters.keys()
        await client.edits.create(PICTURE, "snow")
    (seen,) = [each for each in raw_server.seen if b"prompt" in each.body]
    assert json.loads(seen.body).keys() == {"model", "prompt", "image_urls", "n"}


async def test_messages_and_metadata_are_sent_as_given(raw_server: RawServer) -> None:
    extra = {
        "messages": [{"role": "user", "content": "A lighthouse"}],
        "metadata": {"order": 7},
    }
    async with AsyncApimart("sk-test", base_url=raw_server.base_url) as client:
        await client.generations.create(None, extra_body=extra)
    (seen,) = [each for each in raw_server.seen if b"messages" in each.body]
    body = json.loads(seen.body)
    assert {name: body[name] for name in extra} == extra
    assert "prompt" not in body


async def test_an_input_that_a_model_does_not_take_is_refused_by_the_service_and_free() -> None:
    """Such as a GIF, or more than 10 MiB, for some models of grok."""
    refusal = Fault(kind="status", status=400, route="edits", message="unsupported image type: gif")
    async with (
        Emulator(faults=[refusal]) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        with pytest.raises(BadRequestError, match="unsupported image type"):
            await client.edits.create(PICTURE, "snow", model="grok-imagine-1.5-edit-apimart")
        assert emulator.counts["edits"] == 1
        assert not emulator.ledger.entries


async def test_a_model_that_is_not_known_is_sent_as_it_is() -> None:
    async with (
        Emulator(images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        await client.edits.create(PICTURE, "snow", model="model-of-tomorrow")
        (entry,) = emulator.ledger.entries
    assert (entry.model, entry.endpoint) == ("model-of-tomorrow", "generations")


@pytest.mark.long
@pytest.mark.parametrize("model", ["grok-imagine-1.0-edit-apimart", "grok-imagine-1.5-edit-apimart"])
async def test_an_image_of_an_edit_model_costs_a_cent_and_a_half(model: str) -> None:
    async with (
        Emulator(images="tiny", task_seconds=0) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        task = await client.edits.run(PICTURE, "snow", model=model)
    assert task.cost == emulator.ledger.total == 0.015


async def test_a_task_id_has_31_characters() -> None:
    async with (
        Emulator(images="tiny") as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        task = await client.edits.create(PICTURE, "snow")
    assert task.id
    assert len(task.id) == 31


async def test_too_many_requests_for_the_usage_are_waited_for() -> None:
    too_many = Fault(kind="status", status=429, retry_after=0.01, route="account", first=2)
    async with (
        Emulator(faults=[too_many]) as emulator,
        AsyncApimart(
            emulator.api_key, base_url=emulator.base_url, max_retries=1, retry=Retry(initial_delay=0.01)
        ) as client,
    ):
        assert (await client.account.usage()).cost == 0
        assert emulator.counts["account"] == 3


def test_an_expanded_model_keeps_its_fields() -> None:
    expanded = {"id": "gpt-image-2", "pricing": {"image": 0.03}, "endpoints": ["/v1/images/generations"]}
    (model,) = catalogue_parsing.read_models({"data": [expanded]})
    assert (model.id, model.raw) == ("gpt-image-2", expanded)


@pytest.mark.parametrize(
    "text",
    [
        *("api.apib.ai", "aiuxu.com", "aishuch.com", "getapib.org", "upload.apimart.ai"),
        *("/v1/logs/export", "/v1/dashboard/billing/usage"),
    ],
)
def test_the_package_knows_no_mirror_no_file_host_and_no_export(text: str, repository: Path) -> None:
    sources = (repository / "apimart_async").rglob("*.py")
    assert [path for path in sources if text in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("model", ["dall-e-2", "dall-e-3", "gpt-image-1"])
def test_no_example_uses_a_retired_model(model: str, repository: Path) -> None:
    pages = [*(repository / "docs" / "examples").rglob("*.*"), repository / "README.md"]
    texts = [path for path in pages if path.suffix in {".py", ".md", ".sh", ".toml", ".csv", ".jsonl"}]
    assert texts
    assert [path for path in texts if f'"{model}"' in path.read_text(encoding="utf-8")] == []
    assert f"`{model}`" in (repository / "docs" / "applerouter.md").read_text(encoding="utf-8")


def test_answers_and_tasks_get_more_time_than_the_official_client_gives_them() -> None:
    """It ends a submit after 45 s, and a wait after 120 polls, one every 2 s: such tasks are paid for."""
    assert min(Timeout().read, Timeout().total) > 45
    assert Poll().timeout > 120 * 2
