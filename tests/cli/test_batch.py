"""`apimart batch`: from a manifest to results, run again, ended by the user, by money and by the network."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from apimart_async.cli.app import run
from apimart_async.emulator.faults import Fault

from .gate import Gate
from .test_terminal import CONTROL, HIDE, SHOW

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

    from .conftest import Command

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and terminals are those of POSIX")


@pytest.fixture
def folder(apimart: Command, photos: list[Path]) -> Path:
    """A folder of three pictures."""
    place = apimart.directory / "pictures"
    place.mkdir()
    for photo in photos:
        shutil.copy(photo, place)
    return place


@pytest.fixture
def many(apimart: Command, folder: Path) -> Path:
    """A manifest of 30 edits of them."""
    manifest = apimart.directory / "many.csv"
    names = sorted(path.name for path in folder.iterdir())
    rows = [f"pictures/{names[number % 3]},prompt {number},{number}" for number in range(30)]
    manifest.write_text("\n".join(["image,prompt,id", *rows]) + "\n")
    return manifest


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def billed_once(emulator: Emulator) -> bool:
    keys = [entry.idempotency_key for entry in emulator.ledger.entries]
    return len(keys) == len(set(keys))


async def submitted(emulator: Emulator, number: int) -> None:
    """Wait for that many submits; the emulator in this process tells of none by itself."""
    while len(emulator.ledger.entries) < number:  # noqa: ASYNC110 as the sentence above says
        await anyio.sleep(0.02)


# --- a run, and a second one --------------------------------------------------------------------------------


async def test_a_folder_is_edited_and_the_same_command_again_does_nothing(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    command = ("batch", folder, "-p", "sunset", "-o", "out")
    done = await apimart(*command)

    assert done.code == 0
    assert sorted(Path(path).stem for path in done.results) == sorted(path.stem for path in folder.iterdir())
    assert all((apimart.directory / path).stat().st_size for path in done.results)
    assert done.stderr.startswith("3 of 3 jobs saved in out; ")
    assert done.stderr.count("\n") == 1
    assert "$0.045 in all" in done.stderr
    assert {line["status"] for line in lines_of(apimart.directory / "out" / "results.jsonl")} == {"saved"}

    again = await apimart(*command)
    assert again.code == 0
    assert sorted(again.results) == sorted(done.results)
    assert len(emulator.ledger.entries) == 3


async def test_json_has_a_line_for_each_job_as_results_jsonl(
    apimart: Command, emulator: Emulator, many: Path
) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits", times=2))
    done = await apimart("batch", many, "-o", "out", "--json", "--in-flight", "8")

    assert done.code == 1
    kept = {line["id"]: line for line in lines_of(apimart.directory / "out" / "results.jsonl")}
    assert {record["id"]: record for record in done.records} == kept
    assert len(kept) == 30
    (first, second) = (record for record in done.records if record["status"] == "failed")
    assert first["error"]["type"] == second["error"]["type"] == "TaskFailedError"
    assert first["paths"] == []
    assert "Failed tasks are free" in done.stderr
    assert "2 failed: run it again with --retry-failed" in done.stderr
    assert "28 of 30 jobs saved in out, 2 failed; " in done.stderr.splitlines()[-1]

    reported = await apimart("batch", many, "-o", "out")
    assert reported.code == 1
    assert len(emulator.ledger.entries) == 30
    retried = await apimart("batch", many, "-o", "out", "--retry-failed")
    assert retried.code == 0
    assert len(emulator.ledger.entries) == 32
    assert billed_once(emulator)


async def test_jobs_in_doubt_are_submitted_again_only_with_the_option(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, times=1))
    command = ("batch", folder, "-p", "sunset", "-o", "out")
    done = await apimart(*command)
    again = await apimart(*command)

    for finished in (done, again):
        assert finished.code == 1
        assert len(finished.results) == 2
        assert "1 may have been paid for or not: look at the account" in finished.stderr
        assert "--resubmit-in-doubt submits none" in finished.stderr
        assert "2 of 3 jobs saved in out, 1 in doubt; " in finished.stderr.splitlines()[-1]
    assert len(emulator.ledger.entries) == 3
    status = await apimart("batch", "status", "out")
    assert "for edits none is: look at the account, then --resubmit-unsafe)" in status.stdout
    checked = await apimart(*command, "--check")
    assert "Images to come: 0" in checked.results
    assert checked.results[-1] == (
        "Estimated cost: $0.00, in addition to $0.03 so far; "
        "up to $0.015 more if the job in doubt was executed"
    )

    # The schema of this model promises nothing.
    left = await apimart(*command, "--resubmit-in-doubt")
    assert left.code == 1
    assert "the service does not promise to execute the key once" in left.stderr
    assert len(emulator.ledger.entries) == 3

    resubmitted = await apimart(*command, "--resubmit-unsafe")
    assert resubmitted.code == 0
    assert len(emulator.ledger.billed) == 3  # under the same key, which the emulator honours


async def test_rows_of_one_picture_are_told_apart_by_their_prompts(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    emulator.faults.add(Fault(kind="status", status=400, route="edits"))
    name = next(path.name for path in folder.iterdir())
    manifest = folder / "rows.csv"
    manifest.write_text(f"image,prompt\n{name},snow\n{name},rain\n")
    done = await apimart("batch", manifest, "-o", "out")
    assert {line.partition(":")[0] for line in done.stderr.splitlines()[:2]} == {
        f"{name}, snow",
        f"{name}, rain",
    }


async def test_a_job_in_doubt_stays_one_if_its_resubmit_is_refused(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="edits", executed=True, times=1))
    command = ("batch", folder, "-p", "sunset", "-o", "out")
    await apimart(*command)
    emulator.faults.add(Fault(kind="idempotency-key-reused", route="edits"))
    refused = await apimart(*command, "--resubmit-unsafe")
    assert refused.code == 1
    assert "Nothing was billed" not in refused.stderr
    assert "It is not known whether this paid request was executed: " in refused.stderr
    (doubtful,) = [
        line for line in lines_of(apimart.directory / "out" / "results.jsonl") if line["status"] == "in_doubt"
    ]
    assert (doubtful["error"]["type"], doubtful["error"]["status"]) == ("SubmissionIndeterminateError", 409)
    status = await apimart("batch", "status", "out")
    assert "1  in doubt: It is not known whether this paid request was executed: " in status.stdout
    assert len(emulator.ledger.entries) == 3


async def test_a_generation_in_doubt_is_not_called_an_edit(apimart: Command, emulator: Emulator) -> None:
    emulator.faults.add(Fault(kind="disconnect", route="generations", executed=True, times=1))
    manifest = apimart.directory / "prompts.csv"
    manifest.write_text("prompt\nA lighthouse\n")
    command = ("batch", manifest, "-o", "out", "--operation", "generate")
    done = await apimart(*command)
    assert "With --resubmit-in-doubt, those are submitted again that the service promises to bill once; " in (
        done.stderr
    )
    status = await apimart("batch", "status", "out")
    assert "--resubmit-in-doubt submits those again that are safe)" in status.stdout


async def test_a_batch_in_object_storage_needs_the_place_of_its_journal(offline: Command) -> None:
    for command in (("batch", "status"), ("report",)):
        done = await offline(*command, "s3://photos/out")
        assert done.code == 2
        assert "The journal of a batch in object storage is elsewhere: name it with --journal." in done.stderr


async def test_a_folder_of_a_bucket_is_no_manifest(offline: Command) -> None:
    for place in ("s3://photos/in", "s3://photos/in/*.jpg", "gs://photos"):
        done = await offline("batch", place, "-p", "sunset", "-o", "out")
        assert done.code == 2
        assert "A folder of a bucket cannot be listed: write a manifest with an s3:// URL" in done.stderr
    done = await offline("batch", "s3://photos/jobs.csv", "-o", "out", "--check")
    assert (done.code, done.stdout) == (2, "")
    assert "A manifest is a file on this machine" in done.stderr


# --- before anything is sent --------------------------------------------------------------------------------


async def test_a_check_counts_and_sends_nothing_and_needs_no_key(
    offline: Command, photos: list[Path]
) -> None:
    manifest = offline.directory / "jobs.csv"
    for photo in photos:
        shutil.copy(photo, offline.directory)
    rows = [f"{photo.name},x,2" for photo in photos]
    manifest.write_text("\n".join(["image,prompt,n", *rows, rows[0]]))
    done = await offline("batch", manifest, "-o", "out", "--check")
    as_json = await offline("batch", manifest, "-o", "out", "--check", "--json")

    size = sum(photo.stat().st_size for photo in photos)
    assert (done.code, done.stderr) == (0, "")
    assert done.results == [
        "Jobs: 3 (1 more row asks for the same)",
        "Images to come: 6",
        "Models: grok-imagine-1.0-edit-apimart for 6 images",
        f"Pictures to upload: 3, {size / 1000:.1f} kB",
        "Estimated cost: $0.09, for all of it",
    ]
    (record,) = as_json.records
    assert record == {
        "jobs": 3,
        "repeated": 1,
        "saved": 0,
        "unfinished": 0,
        "in_doubt": 0,
        "failed": 0,
        "left": 3,
        "images": {"grok-imagine-1.0-edit-apimart": 6},
        "free": 0,
        "pictures": 3,
        "bytes": size,
        "spent": 0.0,
        "estimated_cost": pytest.approx(0.09),
        "max_cost": None,
        "fits": None,
        "options": [],
        "extra": [],
        "skipped": {},
        "skipped_names": [],
        "bad_count": 0,
        "bad": [],
    }
    assert not (offline.directory / "out").exists()


async def test_the_estimate_uses_prices_of_earlier_results(apimart: Command, folder: Path) -> None:
    command = ("batch", folder, "-p", "sunset", "-o", "out", "--model", "another-model")
    before = await apimart(*command, "--check")
    await apimart(*command)
    after = await apimart(*command, "-n", "2", "--check")
    assert before.results[-1] == "Estimated cost: not known before the first results"
    assert after.results[-1] == "Estimated cost: $0.09, in addition to $0.045 so far"


async def test_the_estimate_uses_prices_of_the_catalogue(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    command = ("batch", folder, "-p", "sunset", "-o", "out", "--model", "gpt-image-2", "--check")
    priced = await apimart(*command)
    assert priced.results[-1] == "Estimated cost: $0.045, for all of it"
    assert not emulator.ledger.entries
    without_key = await apimart(*command, APIMART_API_KEY="")
    assert without_key.results[-1] == "Estimated cost: not known before the first results"
    emulator.faults.add(Fault(kind="status", status=401, route="catalogue"))
    refused = await apimart(*command)
    assert refused.results[-1] == "Estimated cost: not known before the first results"
    assert "The prices of the service are not known" in refused.stderr


async def test_bad_rows_are_listed_with_their_lines_and_nothing_is_sent(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    good = f"{folder.name}/{next(folder.iterdir()).name},x\n"
    manifest = apimart.directory / "jobs.csv"
    manifest.write_text(
        "image,prompt\n" + good + "none.png,x\n" + good.replace("x\n", "\n") + "gone.png,x\n" * 30
    )
    for more in ((), ("--check",)):
        done = await apimart("batch", manifest, "-o", "out", *more)
        said = (done.stdout + done.stderr).splitlines()
        first = next(number for number, line in enumerate(said) if "32 of 33 rows cannot be done" in line)

        assert done.code == 2
        assert said[first + 1].startswith("  line 3: ")
        assert "none.png" in said[first + 1]
        assert said[first + 2].startswith("  line 4: It has no prompt")
        assert said[-1] == "  and 12 more"
    assert {seen.route for seen in emulator.requests} == {"catalogue"}, "the check asks for the schema"
    assert not (apimart.directory / "out").exists()


@pytest.fixture
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APIMART_API_KEY", raising=False)


@pytest.mark.usefixtures("_no_key")
@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("batch", "MANIFEST"),
        ("batch FOLDER -p x", "--output"),
        ("batch FOLDER -o OUT", "give the prompt with -p"),
        ("batch FOLDER -p x -o FOLDER", "among the images"),
        ("batch FOLDER -p x -o OUT --in-flight 0", "--in-flight must be 1 or more"),
        ("batch FOLDER -p x -o OUT --max-cost 0", "--max-cost must be more than 0"),
        ("batch FOLDER -p x -o OUT --max-cost nan", "--max-cost must be more than 0"),
        ("batch FOLDER -p x -o OUT --timeout 0", "--timeout must be more than 0"),
        ("batch FOLDER -p x -o OUT -n 11", "n must be a whole number from 1 to 10"),
        ("batch 'FOLDER/*.png' -p x -o OUT --recursive", "--recursive is for a folder"),
        ("batch FOLDER -p ' ' -o OUT", "prompt must be a text"),
        ("batch FOLDER/none.csv -o OUT", "There is no manifest"),
        ("batch FOLDER -p x -o OUT", "No API key: set APIMART_API_KEY, or add --local"),
        ("batch FOLDER -p x -o OUT --local --base-url http://127.0.0.1:9", "leave --base-url out"),
        ("batch status OUT", "no batch has run there"),
        ("report OUT", "no batch has run there"),
    ],
)
def test_a_mistake_is_a_sentence(
    command: str,
    sentence: str,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    shutil.copy(photo, folder)
    places = {"FOLDER": str(folder), "OUT": str(tmp_path / "out")}
    for name, place in places.items():
        command = command.replace(name, shlex.quote(place))

    assert run(shlex.split(command)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert sentence in said.err
    assert not (tmp_path / "out").exists()


async def test_a_manifest_without_rows_is_nothing_to_do(apimart: Command) -> None:
    (apimart.directory / "jobs.csv").write_text("image,prompt\n")
    done = await apimart("batch", "jobs.csv", "-o", "out")
    assert done.code == 0
    assert "nothing to do" in done.stderr


# --- ends before the end ------------------------------------------------------------------------------------


async def test_a_budget_ends_the_batch_and_a_larger_one_continues_it(
    apimart: Command, emulator: Emulator, many: Path
) -> None:
    done = await apimart("batch", many, "-o", "out", "--max-cost", "0.1")

    assert done.code == 1
    assert (
        "The next job could pass the budget of 0.1 USD: 0.09 USD are spent. The batch has stopped, "
        "and nothing that was paid for is lost: raise --max-cost or leave it out, then run it again"
        in done.stderr
    )
    assert "6 of 30 jobs saved in out, 24 not done yet; " in done.stderr.splitlines()[-1]
    assert len(emulator.ledger.entries) == 6
    assert (await apimart("batch", many, "-o", "out", "--max-cost", "1")).code == 0
    assert len(emulator.ledger.entries) == 30


async def test_a_wrong_key_ends_the_batch(apimart: Command, emulator: Emulator, many: Path) -> None:
    done = await apimart("batch", many, "-o", "out", APIMART_API_KEY="sk-another")

    assert done.code == 1
    assert "). The batch has stopped, and nothing that was paid for is lost: check the API key" in done.stderr
    assert "0 of 30 jobs saved in out" in done.stderr.splitlines()[-3]
    assert "sk-another" not in done.stderr
    assert (await apimart("batch", many, "-o", "out")).code == 0
    assert len(emulator.ledger.entries) == 30


async def test_a_used_up_balance_ends_the_batch(offline: Command, many: Path) -> None:
    from apimart_async.emulator import Emulator

    async with Emulator(task_seconds=0.1, balance=0.05, images="tiny") as poor:
        done = await offline(
            "batch", many, "-o", "out", APIMART_API_KEY=poor.api_key, APIMART_BASE_URL=poor.base_url
        )

    assert done.code == 1
    assert "top up the account, then run it again" in done.stderr
    assert "3 of 30 jobs saved in out" in done.stderr.splitlines()[-3]


async def test_a_dead_network_ends_the_batch(apimart: Command, many: Path) -> None:
    done = await apimart("batch", many, "-o", "out", APIMART_BASE_URL="http://127.0.0.1:9")

    assert done.code == 1
    assert "see to the connection, then run it again" in done.stderr
    # Nothing was submitted, so that the same command starts all jobs again.
    assert "--retry-failed" not in done.stderr
    assert "0 of 30 jobs saved in out" in done.stderr.splitlines()[-3]


@pytest.mark.long
@posix
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_the_first_signal_finishes_the_jobs_in_flight(
    apimart: Command, emulator: Emulator, many: Path, how: signal.Signals
) -> None:
    async with Gate(emulator, "/tasks", "received") as gate:
        running = await apimart.start("batch", many, "-o", "out", "--in-flight", "4", "--base-url", gate.url)
        await submitted(emulator, 4)
        running.send_signal(how)
        await running.stderr_until("Finishing the jobs in flight")
        gate.release()
        done = await running.finish()

    assert done.code == 130
    *_, last, advice, command = done.stderr.splitlines()
    assert last.startswith("Interrupted: ")
    assert "4 of 30 jobs saved in out, 26 not done yet" in last
    assert len(done.results) == len(emulator.ledger.entries) == 4

    assert advice == "Continue with:"
    program, *words = shlex.split(command.replace(gate.url, emulator.base_url))
    assert program == "apimart"
    again = await apimart(*words)
    assert again.code == 0
    assert len(set(again.results)) == len(emulator.ledger.entries) == 30


@posix
async def test_the_second_signal_stops_at_once_and_loses_nothing(
    apimart: Command, emulator: Emulator, many: Path
) -> None:
    async with Gate(emulator, "/tasks", "received") as gate:
        running = await apimart.start("batch", many, "-o", "out", "--in-flight", "4", "--base-url", gate.url)
        await submitted(emulator, 4)
        running.send_signal(signal.SIGINT)
        done = await running.interrupt(signal.SIGTERM)

    assert done.code == 130
    *_, last, status, _, _ = done.stderr.splitlines()
    assert last.startswith("Interrupted: 0 of 30 jobs saved in out, 30 not ended in this run; ")
    assert status == "`apimart batch status` counts all jobs that are saved, paid for or in doubt."
    assert (await apimart("batch", many, "-o", "out")).code == 0
    assert len(emulator.ledger.entries) == 30


# --- without a key ------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_local_and_real_batches_do_not_share_a_directory(
    apimart: Command, emulator: Emulator, folder: Path
) -> None:
    command = ("batch", folder, "-p", "sunset", "-o", "out")
    assert (await apimart(*command, "--local")).code == 0
    assert (await apimart(*command, "--local")).code == 0
    real = await apimart(*command)
    assert real.code == 2
    assert "holds a batch that --local made" in real.stderr
    assert emulator.requests == ()

    elsewhere = ("batch", folder, "-p", "sunset", "-o", "real")
    assert (await apimart(*elsewhere)).code == 0
    local = await apimart(*elsewhere, "--local")
    assert local.code == 2
    assert "holds a batch of the real service" in local.stderr


@pytest.mark.long
@posix
async def test_a_local_batch_starts_jobs_anew_that_its_emulator_has_lost(
    apimart: Command, many: Path
) -> None:
    manifest = apimart.directory / "fewer.csv"
    manifest.write_text("".join(many.read_text().splitlines(keepends=True)[:13]))
    running = await apimart.start("batch", manifest, "-o", "out", "--local", "--in-flight", "4")
    assert running.process.stdout
    await running.process.stdout.receive()
    running.process.kill()
    await running.finish()
    status = await apimart("batch", "status", "out", "--json")
    assert status.records[0]["unfinished"] + status.records[0]["in_doubt"] > 0

    again = await apimart("batch", manifest, "-o", "out", "--local")
    assert again.code == 0
    assert "12 of 12 jobs saved" in again.stderr


# --- status, report and display -----------------------------------------------------------------------------


async def test_status_and_report_of_a_batch(apimart: Command, emulator: Emulator, folder: Path) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits", times=1))
    await apimart("batch", folder, "-p", "sunset", "-o", "out")
    status = await apimart("batch", "status", "out")
    as_json = await apimart("batch", "status", "out", "--json")
    page = await apimart("report", "out")

    assert status.code == as_json.code == page.code == 0
    assert [line.split()[:2] for line in status.results[:2]] == [["saved:", "2"], ["failed:", "1"]]
    assert status.results[5].split() == ["spent:", "$0.03"]
    assert status.results[-1].split()[0] == "1"
    (record,) = as_json.records
    assert [record[name] for name in ("saved", "failed", "in_doubt", "unfinished", "images", "spent")] == [
        *(2, 1, 0, 0, 2, 0.03)
    ]
    assert [(reason["count"], reason["status"]) for reason in record["reasons"]] == [(1, "failed")]
    assert page.results == [str(Path("out", "report.html"))]
    text = (apimart.directory / "out" / "report.html").read_text(encoding="utf-8")
    assert "../pictures/" in text


@posix
async def test_a_report_is_opened_in_the_browser(apimart: Command, folder: Path) -> None:
    await apimart("batch", folder, "-p", "sunset", "-o", "out")
    browser = apimart.directory / "browser"
    browser.write_text('#!/bin/sh\nprintf %s "$1" > opened\n')
    browser.chmod(0o755)

    done = await apimart.in_process("report", "out", "--open", BROWSER=f"{browser} %s")
    assert (done.code, done.results) == (0, [str(Path("out", "report.html"))])
    opened = (apimart.directory / "opened").read_text()
    assert opened == (apimart.directory / "out" / "report.html").resolve().as_uri()

    unopened = await apimart.in_process("report", "out", "--open", BROWSER=str(apimart.directory / "none"))
    assert unopened.code == 0
    assert "Open it in a browser." in unopened.stderr


@posix
async def test_the_display_shows_the_progress(apimart: Command, emulator: Emulator, folder: Path) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits", times=1))
    done = await apimart.on_terminal("batch", folder, "-p", "sunset", "-o", "out", stdout_too=True)

    assert done.code == 1
    assert done.stderr.rfind(HIDE) < done.stderr.rfind(SHOW)
    text = CONTROL.sub("", done.stderr)
    assert "of 3 done" in text
    assert "in flight · " in text
    assert text.count("✗ ") == 1
    assert text.rstrip().splitlines()[-1].startswith("2 of 3 jobs saved in out, 1 failed; ")
    assert "out/" not in text.replace("out/results.jsonl", "")
