"""``apimart fleet``: one worker of a batch that many processes share, and the state of all of them."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import anyio
import attrs
from cyclopts import Parameter

from apimart_async import errors
from apimart_async.cli import connection, options
from apimart_async.cli.display import messages, preflight
from apimart_async.cli.display.output import complain, dollars, printable, say, sentence, write_line
from apimart_async.cli.display.results import json_line
from apimart_async.cli.signals import SIGNALS, Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from apimart_async.batch import Job, Outcome
    from apimart_async.batch.manifest.reader import Manifest
    from apimart_async.fleet import Fleet

HELP = """Share a batch among many processes and machines.

Every worker gets the same manifest and the same journal in PostgreSQL; each job
is done once, and the jobs of a worker that dies are finished by another.

Try these:

  export APIMART_JOURNAL=postgresql://user:password@host/database
  apimart fleet work jobs.csv -o out --rate 50 --max-cost 500
  apimart fleet work jobs.csv -o out --shard 2/8
  apimart fleet status"""

WORK_USAGE: Final = "Usage: apimart fleet work MANIFEST -o DIR [--journal URL] [OPTIONS]"
STATUS_USAGE: Final = "Usage: apimart fleet status [--journal URL] [OPTIONS]"

_ELSEWHERE: Final = "with other workers"
_NOT_ENDED: Final = "not ended in this run"


def work(
    manifest: options.Manifest,
    /,
    *,
    output: options.Output,
    journal: options.Journal = None,
    prompt: options.RowPrompt = None,
    model: options.RowModel = None,
    n: options.RowVariants = 1,
    operation: options.RowOperation = "edit",
    recursive: options.Recursive = False,
    skip_bad: options.SkipBad = False,
    allow_outside: options.AllowOutside = False,
    allow_webhook: options.AllowWebhook = False,
    shard: Annotated[
        str | None,
        Parameter(name="--shard", help="I/N: only every Nth row, from row I on; the first is 0."),
    ] = None,
    rate: Annotated[
        float | None, Parameter(name="--rate", help="Paid requests a second of all workers together.")
    ] = None,
    max_cost: Annotated[
        float | None, Parameter(name="--max-cost", help="USD that all workers together may spend.")
    ] = None,
    in_flight: Annotated[
        int, Parameter(name="--in-flight", help="Jobs of this worker from submit to the end of their task.")
    ] = 256,
    lease: Annotated[
        float, Parameter(name="--lease", help="Seconds after which the jobs of a dead worker are taken.")
    ] = 30.0,
    json: Annotated[bool, options.flag("--json", "Write one JSON object a line to stdout.")] = False,
) -> Exit:
    """Do the jobs of a manifest beside other workers, or continue them.

    Exit codes: 0 all saved, or with other living workers; 1 some were not saved;
    2 usage, nothing was sent; 130 interrupted, the same command continues.
    """
    from apimart_async.batch.manifest import preflight as checks
    from apimart_async.batch.manifest.reader import open_manifest
    from apimart_async.cli.stdin_manifest import on_disk
    from apimart_async.fleet import Fleet

    rights = options.manifest_options(
        "apimart",
        prompt=prompt,
        model=model,
        n=n,
        operation=operation,
        recursive=recursive,
        output=output,
        allow_outside=allow_outside,
        allow_webhook=allow_webhook,
    )
    options.check_max_cost(max_cost, "apimart")
    fleet = Fleet(
        journal=_url(journal),
        output=str(output),
        requests_per_second=rate,
        max_cost=max_cost,
        max_in_flight=in_flight,
        lease=lease,
    )
    index, count = _shard(shard)
    with on_disk(manifest) as (path, base):
        opened = attrs.evolve(open_manifest(path, rights), base=base)
        options.check_manifest(opened, output)
        found = anyio.run(checks.preflight, opened)
        if found.bad and not skip_bad:
            raise UsageError("\n".join(preflight.complaints(found)))
        connection.checked(None)
        options.check_directory(output)
        for line in preflight.remarks(found):
            say(line)
        jobs = _jobs(opened, found.bad_rows, index, count)
        try:
            statuses, error, is_stopped = anyio.run(_work, fleet, jobs, output, json)
        except (errors.JournalError, errors.DownloadError) as refusal:
            raise UsageError(sentence(refusal.message)) from refusal
    if error is not None:
        complain(messages.ending(error))
    # Each row has an outcome, unless the end of the worker has prevented it.
    total = len(range(index, found.jobs + found.repeated, count))
    statuses[_NOT_ENDED] = total - statuses.total()
    counts = [f"{number:,} {name}" for name, number in statuses.items() if number]
    say(f"{', '.join(counts) or 'No jobs'}.")
    if is_stopped and statuses[_NOT_ENDED]:
        say("The worker was interrupted; the same command continues.", always=True)
        return Exit.INTERRUPTED
    are_done = error is None and statuses["saved"] + statuses[_ELSEWHERE] == total
    return Exit.ALL_DONE if are_done and not found.bad else Exit.SOME_FAILED


async def _work(
    fleet: Fleet,
    jobs: AsyncGenerator[Job],
    output: Path,
    json: bool,  # noqa: FBT001 for anyio.run
) -> tuple[Counter[str], errors.ApimartError | None, bool]:
    """Return the number of jobs by their end, the error that ended the worker, and whether a signal did."""
    from apimart_async.batch import Shutdown
    from apimart_async.batch.results import as_plain

    statuses, shutdown, scope = Counter[str](), Shutdown(), anyio.CancelScope()
    error: errors.ApimartError | None = None

    def report(outcome: Outcome) -> None:
        statuses[_ELSEWHERE if outcome.is_elsewhere else outcome.status.replace("_", " ")] += 1
        paths = [str(path) for path in outcome.paths]
        for line in [json_line(as_plain(outcome, output))] if json else paths:
            write_line(line)
        if outcome.error is not None:
            say(f"{printable(outcome.id)}: {messages.explain(outcome.error)}", always=True)

    def finish() -> None:
        say("Finishing the jobs in flight; Ctrl-C again stops at once, and loses nothing either.")
        shutdown.request()

    with SIGNALS.calling(finish, scope.cancel), scope:
        error = await fleet.work(jobs, report, shutdown=shutdown)
    return statuses, error, shutdown.is_requested


async def _jobs(manifest: Manifest, bad_rows: Sequence[int], index: int, count: int) -> AsyncGenerator[Job]:
    number = 0
    async for job in manifest.jobs(bad_rows):
        if number % count == index:
            yield job
        number += 1


def _shard(text: str | None) -> tuple[int, int]:
    """Return the number of a shard and that of all shards."""
    index, _, count = (text or "0/1").partition("/")
    if not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise UsageError(
            f"--shard must be I/N with I from 0 to N-1, such as 0/4, not {printable(text or '')}."
        )
    return int(index), int(count)


def _url(journal: str | None) -> str:
    from apimart_async.batch.journal.opening import is_url

    if not is_url(journal or ""):
        raise UsageError(
            "A fleet needs a journal in PostgreSQL: --journal postgresql://..., or APIMART_JOURNAL."
        )
    return journal or ""


def status(
    *,
    journal: options.Journal = None,
    json: Annotated[bool, options.flag("--json", "Print one JSON object instead.")] = False,
) -> Exit:
    """Show the workers, their jobs, the states of all jobs and the spend; changes nothing.

    With --json, the object has: workers (id, host, seconds, lease, jobs),
    jobs (numbers by state), spent (USD) and outstanding (images by model).
    """
    from apimart_async.fleet import Fleet

    fleet = Fleet(journal=_url(journal), output="")
    try:
        tally, workers = fleet.tally(), fleet.workers()
    except errors.JournalError as error:
        raise UsageError(sentence(error.message)) from error
    if json:
        record = {
            "workers": [
                {
                    "id": worker.id,
                    "host": worker.host,
                    "seconds": _finite(worker.seconds, 1),
                    "lease": _finite(worker.lease, 1),
                    "jobs": worker.jobs,
                }
                for worker in workers
            ],
            "jobs": dict(tally.jobs),
            "spent": _finite(tally.spent, 6),
            "outstanding": dict(tally.outstanding),
        }
        write_line(json_line(record))
        return Exit.ALL_DONE
    write_line(f"{'workers:':<12} {len(workers):>9,}")
    for worker in workers:
        jobs = ", ".join(f"{number:,} {state}" for state, number in sorted(worker.jobs.items()))
        host = printable(worker.host)
        write_line(f"  {worker.id[:8]} on {host}, {worker.seconds:.0f} s, lease {worker.lease:.0f} s: {jobs}")
    for state, number in sorted(tally.jobs.items()):
        write_line(f"{state.replace('_', ' ') + ':':<12} {number:>9,}")
    write_line(f"{'spent:':<12} {dollars(tally.spent):>9}")
    return Exit.ALL_DONE


def _finite(number: float, digits: int) -> float | None:
    """Return a number that JSON has: a stranger may have written infinite times into the database."""
    return round(number, digits) if math.isfinite(number) else None
