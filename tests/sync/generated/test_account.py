# Written by tests/sync/generate_tests.py from tests/resources/test_account.py: change that file instead.

"""Balance and models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from apimart_async import (
    APIStatusError,
    Apimart,
    AuthenticationError,
    InternalServerError,
    InvalidArgumentError,
    Model,
    Retry,
)
from ..emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(task_seconds=0, images="tiny", balance=5.0) as running:
        yield running


def test_balance_falls_by_the_billed_amount(client: Apimart, emulator: Emulator) -> None:
    before = client.account.balance()
    assert (before.remaining, before.used, before.unlimited) == (5.0, 0.0, False)
    task = client.edits.run("https://pictures.example/a.png", "stars", n=2)
    assert task.cost
    after = client.account.balance()
    assert after.remaining == pytest.approx(5.0 - task.cost)
    assert after.used == pytest.approx(task.cost) == pytest.approx(emulator.ledger.total)


@pytest.mark.parametrize(("scope", "path"), [("key", "/v1/balance"), ("user", "/v1/user/balance")])
def test_each_scope_has_its_own_path(
    client: Apimart, emulator: Emulator, scope: Any, path: str
) -> None:
    assert (client.account.balance(scope=scope)).raw["success"] is True
    assert [request.path for request in emulator.requests] == [path]


def test_unknown_scope_is_refused_before_anything_is_sent(
    client: Apimart, emulator: Emulator
) -> None:
    with pytest.raises(InvalidArgumentError, match="'key' or 'user', not 'team'"):
        client.account.balance(scope="team")  # type: ignore[arg-type]
    assert not emulator.requests


def test_failure_inside_a_200_is_an_error(client: Apimart, emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="error-in-200", route="account", message="quota service is away"))
    with pytest.raises(APIStatusError, match="quota service is away") as caught:
        client.account.balance()
    assert caught.value.status == 200
    assert caught.value.request_id
    assert len(emulator.requests) == 1


def test_transient_failures_are_retried(emulator: Emulator) -> None:
    emulator.faults.add(
        Fault(kind="status", status=503, route="account", first=1),
        Fault(kind="disconnect", route="account", first=1),
    )
    retry = Retry(initial_delay=0.01, max_delay=0.01)
    with Apimart(emulator.api_key, base_url=emulator.base_url, retry=retry) as client:
        assert (client.account.balance()).remaining == 5.0
    assert len(emulator.requests) == 3


def test_model_ids_are_valid_arguments(client: Apimart) -> None:
    models = client.account.models()
    assert Model("grok-imagine-1.0-edit-apimart") in models
    assert all(model.raw["object"] == "model" for model in models)


def test_wrong_key_is_an_authentication_error(emulator: Emulator) -> None:
    with Apimart("sk-wrong", base_url=emulator.base_url) as client:
        for ask in (client.account.balance, client.account.models):
            with pytest.raises(AuthenticationError, match="invalid API key"):
                ask()
    assert len(emulator.requests) == 2


def test_usage_is_that_of_the_ledger(client: Apimart, emulator: Emulator) -> None:
    client.edits.run("https://pictures.example/a.png", "stars", n=2)
    client.edits.run("https://pictures.example/b.png", "stars")
    used = client.account.usage(7)
    assert used.cost == pytest.approx(emulator.ledger.total)
    assert used.requests == 2
    assert sum(day.cost or 0 for day in used.days) == pytest.approx(emulator.ledger.total)
    assert used.raw["success"] is True


def test_usage_is_up_to_a_minute_old(client: Apimart, emulator: Emulator) -> None:
    client.edits.run("https://pictures.example/a.png", "stars")
    assert (client.account.usage()).requests == 1
    client.edits.run("https://pictures.example/b.png", "stars")
    emulator.advance(59)
    assert (client.account.usage()).requests == 1
    emulator.advance(1)
    assert (client.account.usage()).requests == 2


@pytest.mark.parametrize("days", [0, 32, -1, 1.5, "7", True])
def test_usage_of_more_than_31_days_is_refused_before_anything_is_sent(
    client: Apimart, emulator: Emulator, days: Any
) -> None:
    with pytest.raises(InvalidArgumentError, match="days must be a whole number from 1 to 31"):
        client.account.usage(days)
    assert not emulator.requests


def test_usage_that_is_unavailable_is_an_error_and_not_zero(emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="status", status=503, code="usage_unavailable", route="account"))
    with Apimart(emulator.api_key, base_url=emulator.base_url, max_retries=0) as client:
        with pytest.raises(InternalServerError) as caught:
            client.account.usage()
    assert caught.value.code == "usage_unavailable"
