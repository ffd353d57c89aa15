"""`apimart balance` and `apimart models`: one request, one answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from apimart_async.emulator.faults import Fault

if TYPE_CHECKING:
    from apimart_async import AsyncApimart
    from apimart_async.emulator import Emulator

    from .conftest import Command


@pytest.mark.parametrize(("scope", "path"), [("key", "/v1/balance"), ("user", "/v1/user/balance")])
async def test_the_balance_is_a_sentence(
    apimart: Command, emulator: Emulator, client: AsyncApimart, scope: str, path: str
) -> None:
    await client.edits.create("https://pictures.example/photo.jpg", "snow")
    done = await apimart("balance", "--scope", scope)
    assert (done.code, done.stderr) == (0, "")
    assert emulator.ledger.total == 0.015
    assert done.results == ["$9999.985 left, $0.015 used"]
    assert emulator.requests[-1].path == path


async def test_the_balance_for_scripts(apimart: Command) -> None:
    done = await apimart("balance", "--json")
    assert done.records == [{"remaining": 10_000.0, "used": 0.0, "unlimited": False}]


async def test_the_models_are_a_line_each(apimart: Command) -> None:
    done = await apimart("models")
    assert (done.code, done.stderr) == (0, "")
    assert {"grok-imagine-1.0-edit-apimart  $0.015", "dall-e-2  $0.02"} <= set(done.results)
    as_json = await apimart("models", "--json")
    assert [record["id"] for record in as_json.records] == [line.split()[0] for line in done.results]
    assert (as_json.records[0]["object"], as_json.records[0]["usd_per_image"]) == ("model", 0.015)


async def test_models_are_listed_without_prices_where_the_service_has_none(
    apimart: Command, emulator: Emulator
) -> None:
    emulator.faults.add(Fault(kind="status", status=404, route="catalogue"))
    done = await apimart("models")
    assert (done.code, done.stderr) == (0, "")
    assert "dall-e-2" in done.results
    emulator.faults.clear()
    emulator.faults.add(Fault(kind="status", status=400, code="broken", route="catalogue"))
    assert "dall-e-2" in (await apimart("models")).results


@pytest.mark.parametrize("command", ["balance", "models"])
async def test_an_error_is_one_sentence(apimart: Command, emulator: Emulator, command: str) -> None:
    wrong = await apimart(command, APIMART_API_KEY="sk-wrong")
    assert (wrong.code, wrong.stdout) == (1, "")
    assert wrong.stderr.count("\n") == 1
    assert "Check the key in APIMART_API_KEY" in wrong.stderr

    emulator.faults.add(Fault(kind="error-in-200", route="account", message="quota service is away"))
    failed = await apimart(command)
    assert (failed.code, failed.stdout) == (1, "")
    assert ": quota service is away" in failed.stderr

    keyless = await apimart(command, APIMART_API_KEY="")
    assert keyless.code == 2
    assert "set APIMART_API_KEY, or run `apimart emulator`" in keyless.stderr


@pytest.mark.parametrize("way", ["repeated", "commas", "environment"])
async def test_addresses_are_used_in_their_order(apimart: Command, emulator: Emulator, way: str) -> None:
    async with emulator.mirror() as out_of_reach:
        first, second = out_of_reach.base_url, emulator.base_url
        out_of_reach.stop()
        if way == "environment":
            done = await apimart("balance", APIMART_BASE_URL=f"{first},{second}")
        elif way == "commas":
            done = await apimart("balance", "--base-url", f"{first},{second}")
        else:
            done = await apimart("balance", "--base-url", first, "--base-url", second)
    assert (done.code, done.stderr) == (0, "")
    assert done.results == ["$10000.00 left, $0.00 used"]
