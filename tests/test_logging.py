"""The log has every step of a task, and never a prompt, the key or a signed URL."""

from __future__ import annotations

import asyncio
import io
import logging
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import apimart_async
from apimart_async import (
    ApimartError,
    AsyncApimart,
    AsyncAppleRouter,
    Job,
    Limits,
    Poll,
    Retry,
    TaskFailedError,
    edit_many,
)
from apimart_async.emulator import Emulator
from apimart_async.emulator.faults import Fault
from apimart_async.logs import log_to_stderr

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

KEY = "sk-very-secret-0123456789"
PROMPT = "a prompt nobody else should read"
SIGNATURE = "X-Signature=0123456789abcdef"
GIF = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0, 0x3B])


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny", api_key=KEY) as running:
        yield running


@asynccontextmanager
async def connected(emulator: Emulator, **options: Any) -> AsyncIterator[AsyncApimart]:
    poll, retry = Poll(first=0.02, shortest=0.02, longest=0.05), Retry(initial_delay=0.001)
    async with AsyncApimart(KEY, base_url=emulator.base_url, poll=poll, retry=retry, **options) as client:
        yield client


def lines(caplog: pytest.LogCaptureFixture, name: str = "apimart_async") -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith(name)]


async def test_info_logs_each_step_of_an_edit(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "apimart_async")
    emulator.faults.add(Fault(kind="get-channel-failed", route="edits", times=1))
    async with connected(emulator) as client:
        task = await client.edits.run(GIF, PROMPT, n=2)
        paths = await client.images.save(task, tmp_path)

    retried, submitted, completed, saved = lines(caplog)
    assert retried.startswith(
        f"POST {emulator.base_url}/v1/images/edits: BadRequestError 400, idempotency key"
    )
    assert submitted.startswith(
        f"Task {task.id} submitted: {task.model}, n=2, idempotency key {task.idempotency_key}, request id "
    )
    assert completed.startswith(f"Task {task.id} completed after ")
    assert completed.endswith(f", 2 images, {task.cost:g} USD.")
    assert saved == f"Task {task.id} saved: {paths[0]}, {paths[1]}."
    assert {record.name for record in caplog.records} == {
        "apimart_async.transport",
        "apimart_async.resources",
    }


async def test_debug_has_a_line_for_each_request(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "apimart_async.transport")
    emulator.faults.add(Fault(kind="status", route="account", status=503, times=1))
    async with connected(emulator) as client:
        await client.account.balance()
    first, second = [line for line in lines(caplog) if ", request id " in line]
    assert first.startswith(f"GET {emulator.base_url}/v1/balance: 503, 0.")
    assert ", attempt 2, request id " in second


async def test_a_failed_task_is_logged_without_the_words_of_the_service(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "apimart_async")
    emulator.faults.add(
        Fault(kind="task-failed", route="edits", message=f"refused: {PROMPT}", code="moderated")
    )
    async with connected(emulator) as client:
        with pytest.raises(TaskFailedError) as failed:
            await client.edits.run(GIF, PROMPT)
    assert f"Task {failed.value.task_id} failed after " in caplog.text
    assert PROMPT not in caplog.text


async def test_a_task_is_logged_once_by_waits_and_watches(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    async with connected(emulator) as client:
        tasks = [await client.edits.create("https://p.example/a.png", PROMPT) for _ in range(3)]
        caplog.set_level(logging.INFO, "apimart_async")
        async with client.tasks.watch(tasks) as finished:
            ended = [task async for task in finished]
        await client.tasks.wait(ended[0])
    assert sorted(line.split()[1] for line in lines(caplog)) == sorted(str(task.id) for task in tasks)


@pytest.mark.parametrize("resource", ["edits", "generations"])
async def test_a_task_that_its_caller_does_not_get_is_in_a_warning(
    resource: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with Emulator(task_seconds=36_000, images="tiny", api_key=KEY) as slow, connected(slow) as client:
        is_seen = asyncio.Event()
        arguments = ("https://p.example/a.png", PROMPT) if resource == "edits" else (PROMPT,)
        run = asyncio.ensure_future(
            getattr(client, resource).run(*arguments, on_update=lambda _: is_seen.set())
        )
        await is_seen.wait()
        run.cancel()  # as a server does that stops, or whose caller has hung up
        await asyncio.wait([run])
        (entry,) = slow.ledger.entries
        (told,) = lines(caplog)
        assert f"task {entry.task_id} goes on" in told

        wait = asyncio.ensure_future(client.tasks.wait(entry.task_id))
        await asyncio.sleep(0)
        wait.cancel()
        await asyncio.wait([wait])
    assert lines(caplog) == [told]  # the caller of a wait has the id


async def test_a_batch_logs_how_each_job_ended(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, "apimart_async.batch")
    jobs = [Job(GIF, PROMPT, id="good"), Job(b"no picture", PROMPT, id="bad")]
    async with connected(emulator) as client, edit_many(client, jobs, output=tmp_path) as outcomes:
        found = {outcome.id: outcome async for outcome in outcomes}
    task = found["good"].task
    assert task is not None
    assert sorted(lines(caplog, "apimart_async.batch")) == [
        "Job bad failed, UnsupportedImageError.",
        f"Job good saved, task {task.id}, {task.cost:g} USD.",
    ]
    caplog.clear()
    async with connected(emulator) as client, edit_many(client, jobs[:1], output=tmp_path) as outcomes:
        assert [outcome.status async for outcome in outcomes] == ["saved"]
    assert lines(caplog, "apimart_async.batch") == [
        f"Job good already saved, task {task.id}, {task.cost:g} USD."
    ]


async def test_images_at_once_are_told(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "apimart_async")
    async with AsyncAppleRouter(KEY, base_url=emulator.base_url) as router:
        await router.generations.create("A lighthouse", n=2)
        async with router.generations.stream("A lighthouse", model="gpt-image-1") as events:
            assert [event async for event in events]
    told = [line.partition(" completed: ") for line in lines(caplog)]
    assert all(request.startswith(f"POST {emulator.base_url}/") for request, _, _ in told)
    assert [images.partition(",")[0] for _, _, images in told] == ["2 images", "1 image"]


async def test_a_whole_edit_at_debug_shows_no_key_prompt_or_signature(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    emulator.faults.add(
        Fault(kind="status", route="uploads", status=503, times=1, message=f"no {KEY}"),
        Fault(kind="get-channel-failed", route="edits", times=1, message=f"for {PROMPT}"),
        Fault(kind="status", route="tasks", status=502, times=2, message=f"{PROMPT} {KEY}"),
        Fault(kind="truncated", route="tasks", times=1),
        Fault(kind="html", route="tasks", times=1),
        Fault(kind="cut-image", route="files", times=1),
        Fault(kind="status", route="files", status=503, times=1),
    )
    limits = Limits(requests_per_second=200)
    async with connected(emulator, max_retries=3, limits=limits) as client:
        task = await client.edits.run(GIF, PROMPT)
        await client.images.save(task, tmp_path)
        with pytest.raises(ApimartError):
            await client.images.read(f"{emulator.base_url}/files/none.png?{SIGNATURE}")
        emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True))
        with pytest.raises(ApimartError):
            await client.edits.run("https://p.example/a.png?" + SIGNATURE, PROMPT)
    assert all(times for _, times in emulator.faults.happened)
    assert "completed after" in caplog.text
    for secret in (KEY, PROMPT, SIGNATURE):
        assert secret not in caplog.text


def test_every_logger_is_a_child_of_its_floor() -> None:
    package = Path(apimart_async.__file__).parent
    for path in package.rglob("*.py"):
        floor = path.relative_to(package).parts[0]
        for line in path.read_text(encoding="utf-8").splitlines():
            if "getLogger(" in line and not floor.endswith(".py") and floor != "cli":
                assert f'getLogger("apimart_async.{floor}' in line, path


# --- APIMART_LOG -------------------------------------------------------------------------------------------


@pytest.fixture
def _own_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Leave the logger of the package as it was."""
    log = logging.getLogger("apimart_async")
    level = log.level
    monkeypatch.setattr(log, "handlers", list(log.handlers))
    yield
    log.setLevel(level)


@pytest.mark.usefixtures("_own_log")
def test_the_log_goes_to_stderr_unless_the_program_has_handlers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [logging.NullHandler()])
    log_to_stderr("INFO")
    child = logging.getLogger("apimart_async.transport")
    child.info("told")
    child.debug("not told")
    log_to_stderr("debug")
    child.debug("told now")
    stderr = capsys.readouterr().err
    assert [line.split(" ", 2)[2] for line in stderr.splitlines()] == [
        "INFO apimart_async.transport: told",
        "DEBUG apimart_async.transport: told now",
    ]
    own = io.StringIO()
    logging.root.addHandler(logging.StreamHandler(own))
    child.info("told by the program")
    assert (own.getvalue(), capsys.readouterr().err) == ("told by the program\n", "")


@pytest.mark.usefixtures("_own_log")
def test_an_unknown_level_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    log_to_stderr("loud")
    assert "APIMART_LOG must be one of debug, info, warning, error, not 'loud'." in capsys.readouterr().err


def test_the_variable_is_read_at_the_import_and_without_it_only_warnings_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "import logging, apimart_async; log = logging.getLogger('apimart_async.x'); "
    code += "log.info('submitted'); log.warning('billed twice')"
    monkeypatch.delenv("APIMART_LOG", raising=False)
    plain = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    monkeypatch.setenv("APIMART_LOG", "info")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert plain.stderr == b"billed twice\n"
    assert b"INFO apimart_async.x: submitted\n" in told.stderr
    assert told.stderr.endswith(b"WARNING apimart_async.x: billed twice\n")
