"""The pytest plugin works as its users have it: in a pytest of its own, with only the package installed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

# Each test starts another pytest.
pytestmark = pytest.mark.long

FLAGS = ("-p", "no:cacheprovider", "-p", "no:xdist", "-W", "error")


@pytest.fixture
def photo(pytester: pytest.Pytester, repository: Path) -> None:
    """A photograph beside the tests."""
    shutil.copy(repository / "docs" / "examples" / "photos" / "lighthouse.jpg", pytester.path / "photo.jpg")


def passes(pytester: pytest.Pytester, text: str, passed: int) -> None:
    pytester.makepyfile(text)
    pytester.makeini("[pytest]\nanyio_mode = auto\n")
    pytester.runpytest_subprocess(*FLAGS).assert_outcomes(passed=passed)


@pytest.mark.usefixtures("photo")
def test_blocking_and_async_tests_get_their_client(pytester: pytest.Pytester) -> None:
    passes(
        pytester,
        """
        from apimart_async import Apimart, AsyncApimart

        def test_blocking(apimart_emulator, apimart_client, tmp_path):
            assert isinstance(apimart_client, Apimart)
            task = apimart_client.edits.run("photo.jpg", "A starry sky")
            assert apimart_client.images.save(task, tmp_path)
            apimart_emulator.ledger.assert_billed(times=1, cost=0.015)

        async def test_async(apimart_emulator, apimart_client, tmp_path):
            assert isinstance(apimart_client, AsyncApimart)
            task = await apimart_client.edits.run("photo.jpg", "A starry sky")
            assert await apimart_client.images.save(task, tmp_path)
            apimart_emulator.ledger.assert_billed(times=1)
        """,
        passed=2,
    )


def test_clients_without_arguments_use_the_emulator(pytester: pytest.Pytester) -> None:
    passes(
        pytester,
        """
        from apimart_async import Apimart, AsyncAppleRouter

        def test_environment(apimart_emulator):
            with Apimart() as client:
                assert client.account.balance().remaining > 0

        async def test_router(apimart_emulator):
            async with AsyncAppleRouter() as router:
                assert router.base_url == apimart_emulator.base_url
        """,
        passed=2,
    )


def test_the_marker_has_faults_and_durations(pytester: pytest.Pytester) -> None:
    passes(
        pytester,
        """
        import pytest
        from apimart_async import InsufficientBalanceError
        from apimart_async.emulator import Fault

        @pytest.mark.apimart(faults=[Fault(kind="status", status=402, route="generations")])
        def test_balance(apimart_emulator, apimart_client):
            with pytest.raises(InsufficientBalanceError):
                apimart_client.generations.create("A lighthouse")
            apimart_emulator.ledger.assert_billed(times=0)

        @pytest.mark.apimart(task_seconds=36_000)
        async def test_slow_task(apimart_emulator, apimart_client):
            task = await apimart_client.generations.create("A lighthouse")
            assert not (await apimart_client.tasks.get(task)).is_finished
            apimart_emulator.advance(360_000)
            assert (await apimart_client.tasks.wait(task)).is_completed
        """,
        passed=2,
    )


def test_a_test_moves_the_clock_of_everything(pytester: pytest.Pytester) -> None:
    """The clients poll with their defaults, and the tasks take an hour."""
    passes(
        pytester,
        """
        import asyncio
        import time

        import pytest
        from apimart_async import Apimart, AsyncApimart

        pytestmark = pytest.mark.apimart(task_seconds=3600)

        async def test_advance(apimart_emulator, apimart_clock):
            async with AsyncApimart() as client:
                task = await client.generations.create("A lighthouse")
                waiting = asyncio.create_task(client.tasks.wait(task, timeout=1_000_000))
                await asyncio.sleep(0.01)
                while not waiting.done():
                    apimart_clock.advance(400)
                    await asyncio.sleep(0.01)
                assert (await waiting).is_completed

        def test_passing(apimart_emulator, apimart_clock):
            with Apimart() as client, apimart_clock.passing(speed=1000):
                assert client.generations.run("A lighthouse", timeout=1_000_000).is_completed

        def test_the_clock_is_given_back(apimart_clock):
            before = time.monotonic()
            apimart_clock.advance(1000)
            assert time.monotonic() > before + 999
            with pytest.raises(ValueError, match="forwards"):
                apimart_clock.advance(-1)

        def test_after_it(request):
            assert type(time.monotonic).__name__ == "builtin_function_or_method"
        """,
        passed=4,
    )


def test_the_sample_service_passes_its_tests(
    pytester: pytest.Pytester, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(repository / "docs" / "examples", pytester.path / "examples")
    monkeypatch.chdir(pytester.path / "examples" / "service")
    result = pytester.runpytest_subprocess(*FLAGS)
    result.assert_outcomes(passed=6)


def test_a_mistyped_option_of_the_marker_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.apimart(task_second=1)
        def test_it(apimart_emulator):
            pass
        """
    )
    result = pytester.runpytest_subprocess(*FLAGS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["@pytest.mark.apimart has no option task_second; it has *, task_seconds, *"])


def test_a_wrong_bill_is_listed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        def test_bill(apimart_emulator, apimart_client):
            apimart_client.generations.run("A lighthouse")
            apimart_emulator.ledger.assert_billed(times=2)

        def test_cost(apimart_emulator, apimart_client):
            apimart_client.generations.run("A lighthouse")
            apimart_emulator.ledger.assert_billed(times=1, cost=1.0)

        def test_twice(apimart_emulator, apimart_client):
            for _ in range(2):
                apimart_client.generations.run("A lighthouse")
            apimart_emulator.ledger.assert_billed(times=2)

        def test_once(apimart_emulator, apimart_client):
            for _ in range(2):
                apimart_client.generations.run("A lighthouse")
            apimart_emulator.ledger.assert_billed(times=1)
        """
    )
    result = pytester.runpytest_subprocess(*FLAGS)
    result.assert_outcomes(failed=4)
    result.stdout.fnmatch_lines(["*1 execution was billed instead of 2:*", "*generations gemini-3-pro*"])
    result.stdout.fnmatch_lines(["*0.05000 USD were billed instead of 1.00000:*"])
    result.stdout.fnmatch_lines(
        [
            "*billed more than once (if both are meant, *):*",
            "*: 0.05000 USD",
            "*: 0.05000 USD (the same request as *)",
        ]
    )
    result.stdout.fnmatch_lines(["*2 executions were billed instead of 1:*", "*(the same request as *)"])
