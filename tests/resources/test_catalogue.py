"""Models, their schemas and their documentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from apimart_async import (
    APIStatusError,
    AsyncApimart,
    Idempotency,
    InvalidArgumentError,
    ModelSchema,
    Parameter,
)
from apimart_async.emulator import Emulator, Fault, ModelSpec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.clock import Clock

PROMISING = ModelSpec(
    model="painter",
    parameters={"resolution": {"type": "string", "enum": ["1k", "2k"]}},
    max_n=4,
    promises=True,
    retention=3600,
    response_version="2026-07-27",
)
PLAIN = ModelSpec(model="plain/one", is_open=True)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0, images="tiny", models=[PROMISING, PLAIN]) as running:
        yield running


async def test_schema_has_endpoint_parameters_and_promises(client: AsyncApimart) -> None:
    found = await client.models.schema("painter")
    assert found == ModelSchema(
        model="painter",
        operation="image_generation",
        method="POST",
        path="/v1/images/generations",
        parameters={
            "model": Parameter(types=("string",), choices=("painter",)),
            "prompt": Parameter(types=("string",)),
            "n": Parameter(types=("integer",), minimum=1, maximum=4, default=1),
            "resolution": Parameter(types=("string",), choices=("1k", "2k")),
        },
        required=("model",),
        is_open=False,
        idempotency=Idempotency(
            header="Idempotency-Key",
            replay_header="Idempotency-Replayed",
            retention_seconds=3600,
            scope="api_key_endpoint",
        ),
        response_version="2026-07-27",
        schema_version="2026-09-01",
    )
    assert found is not None
    assert found.raw["object"] == "model.input_schema"


async def test_schema_without_promises_says_so(client: AsyncApimart) -> None:
    found = await client.models.schema("plain/one")
    assert found is not None
    assert (found.idempotency, found.response_version, found.is_open) == (None, None, True)


async def test_schema_is_fetched_once_for_a_client_and_its_copies(
    client: AsyncApimart, emulator: Emulator
) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(client.models.schema, "painter")
    await client.with_options(max_retries=0).models.schema("painter", "image_generation")
    assert emulator.counts["catalogue"] == 1


async def test_schema_is_revalidated_by_its_etag(
    client: AsyncApimart, emulator: Emulator, clock: Clock
) -> None:
    first = await client.models.schema("painter")
    clock.advance(3700)
    assert await client.models.schema("painter") is first
    assert [request.status for request in emulator.requests] == [200, 304]


async def test_missing_schema_is_none_and_is_remembered(
    client: AsyncApimart, emulator: Emulator, clock: Clock
) -> None:
    for _ in range(3):
        assert await client.models.schema("unknown-model") is None
    assert emulator.counts["catalogue"] == 1
    clock.advance(3700)
    assert await client.models.schema("unknown-model") is None
    assert emulator.counts["catalogue"] == 2


async def test_service_without_schemas_has_neither_schema_nor_documentation() -> None:
    async with (
        Emulator(models=None) as emulator,
        AsyncApimart(emulator.api_key, base_url=emulator.base_url) as client,
    ):
        assert await client.models.schema("painter") is None
        assert await client.models.docs("painter") is None


async def test_schemas_of_two_operations_are_kept_apart(client: AsyncApimart) -> None:
    await client.models.schema("painter")
    found = await client.models.schema("painter", "segment")
    assert found is not None
    assert found.operation == "segment"


async def test_failed_request_is_an_error_and_is_not_remembered(
    client: AsyncApimart, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(kind="status", status=500, route="catalogue"))
    with pytest.raises(APIStatusError):
        await client.with_options(max_retries=0).models.schema("painter")
    emulator.faults.clear()
    assert await client.models.schema("painter") is not None


async def test_cancelled_request_leaves_the_schema_to_the_next_call(client: AsyncApimart) -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await client.models.schema("painter")
    assert await client.models.schema("painter") is not None


async def test_documentation_is_the_object_of_the_service(client: AsyncApimart) -> None:
    found = await client.models.docs("painter")
    assert found is not None
    assert found["model"] == "painter"
    assert await client.models.docs("unknown-model") is None


async def test_list_has_the_models_of_the_account(client: AsyncApimart) -> None:
    assert list(await client.models.list()) == await client.account.models()
    assert "painter" in {model.id for model in await client.models.list()}


async def test_model_without_a_name_is_refused_before_anything_is_sent(
    client: AsyncApimart, emulator: Emulator
) -> None:
    with pytest.raises(InvalidArgumentError, match="model must be a text"):
        await client.models.schema(" ")
    with pytest.raises(InvalidArgumentError, match="model must be a text"):
        await client.models.docs("")
    assert not emulator.requests
