"""``apimart batch``: run the jobs of a manifest, or continue them; and ``batch status``."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import anyio
import attrs
from cyclopts import Parameter

from apimart_async import errors
from apimart_async.cli import connection, local_batch, options, prices
from apimart_async.cli.batch_run import BatchRun
from apimart_async.cli.display import preflight
from apimart_async.cli.display.output import (
    dollars,
    say,
    sentence,
    unknown_costs,
    write_line,
)
from apimart_async.cli.display.results import json_line
from apimart_async.cli.signals import Exit, UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from apimart_async.batch import Status
    from apimart_async.batch.manifest.preflight import Preflight

HELP = """Run all jobs of a manifest, safe to kill and run again.

A manifest is a folder of images or a pattern such as 'photos/*.jpg', edited
with one prompt, or a CSV, JSONL, Parquet or Arrow file with a row for each
job. Its columns are image and prompt, and optionally operation, model, n, id
and name; documented fields of the request, such as size, and columns called
option.NAME are options (option.mask is an image), and any other column is only
carried into results.jsonl. Paths of images start from the folder of the file
and lead out of it only with --allow-outside; a CSV or JSONL file on stdin (-)
starts from the working directory. All rows are checked before anything is
sent.

The operation of a row, or of --operation, is edit by default; generate makes
an image from a prompt and needs no column image; segment is free and needs no
prompt; region_edit changes regions. Several images are a list such as
["a.jpg", "b.jpg"]; with roles they are in the column image_with_roles, as
[{"url": "a.jpg", "role": "..."}].

Every step is in a journal in the output directory before the next is taken.
The same command continues the batch: nothing is paid twice, and no paid result
is lost. Ctrl-C finishes the jobs in flight and starts no others; pressed again,
it stops at once. At the end results.jsonl lists every job, and
`apimart report DIR` makes a page of it.

Try these:

  apimart batch docs/examples/photos -p "A starry sky" --local -o out
  apimart batch docs/examples/jobs.csv --local -o jobs
  apimart batch docs/examples/jobs.csv -o new --dry-run
  apimart batch - --local -o in < docs/examples/prompts.csv --operation generate
  apimart batch jobs.csv -o out --max-cost 5.00 --in-flight 64
  apimart batch status out

The paths of the results go to stdout where that is not a terminal, with --json
one object for each job as it ends, as in results.jsonl; all else to stderr.

Exit codes: 0 all saved; 1 some were not, or the budget, the balance, the key or
the network ended the batch; 2 usage, nothing was sent; 130 interrupted."""

USAGE: Final = "Usage: apimart batch MANIFEST -o DIR [-p PROMPT] [OPTIONS]"
STATUS_USAGE: Final = (
    "Usage: apimart batch status DIR [OPTIONS]\n       apimart batch status --journal URL [OPTIONS]"
)

_STATUSES: Final[Mapping[Status, str]] = {
    "saved": "",
    "failed": "not billed; --retry-failed tries them once more",
    "in_doubt": "perhaps billed, or being submitted; --resubmit-in-doubt submits those again that are safe",
    "unfinished": "paid for, or in flight; run the batch again if it is not running",
}
_EDITS_IN_DOUBT: Final = "; for edits none is: look at the account, then --resubmit-unsafe"
_MOST_REASONS: Final = 5


def batch(
    manifest: options.Manifest,
    /,
    *,
    output: options.Output,
    prompt: options.RowPrompt = None,
    model: options.RowModel = None,
    n: options.RowVariants = 1,
    operation: options.RowOperation = "edit",
    service: options.Service = "apimart",
    check: Annotated[
        bool,
        Parameter(
            name=("--check", "--dry-run"),
            negative=(),
            show_default=False,
            help="Only check, and print the models, the number of jobs and an estimate of the cost.",
        ),
    ] = False,
    recursive: options.Recursive = False,
    skip_bad: options.SkipBad = False,
    allow_outside: options.AllowOutside = False,
    allow_webhook: options.AllowWebhook = False,
    in_flight: Annotated[
        int, Parameter(name="--in-flight", help="Jobs from submit to the end of their task, at most.")
    ] = 256,
    max_cost: Annotated[
        float | None, Parameter(name="--max-cost", help="USD, over all runs into this directory.")
    ] = None,
    retry_failed: Annotated[
        bool,
        options.flag("--retry-failed", "Submit failed jobs of an earlier run again; they were free."),
    ] = False,
    retry_missing: Annotated[
        bool,
        options.flag(
            "--retry-missing",
            "Submit jobs again whose task the service does not know; they may be paid for twice.",
        ),
    ] = False,
    resubmit_in_doubt: Annotated[
        bool,
        options.flag(
            "--resubmit-in-doubt",
            "Submit jobs again that may have been paid for, where the service promises to bill them once.",
        ),
    ] = False,
    resubmit_unsafe: Annotated[
        bool,
        options.flag(
            "--resubmit-unsafe",
            "Submit all jobs again that may have been paid for: look at the account first.",
        ),
    ] = False,
    convert: options.Convert = "auto",
    keep_metadata: options.KeepMetadata = False,
    local: options.Local = False,
    timeout: options.Timeout = None,
    max_retry_after: Annotated[
        float,
        Parameter(
            name="--max-retry-after",
            help="Seconds that the batch waits if the service asks for it, at most; a longer wait ends it.",
        ),
    ] = 3600.0,
    base_url: options.BaseUrl = None,
    journal: options.Journal = None,
    json: Annotated[bool, options.flag("--json", "Write one JSON object a line to stdout.")] = False,
) -> Exit:
    """Run the jobs of a manifest, or continue where an earlier run ended."""
    from apimart_async.batch import BatchOptions
    from apimart_async.batch.journal.opening import journal_path, open_journal
    from apimart_async.batch.manifest import preflight as checks
    from apimart_async.batch.manifest.reader import open_manifest
    from apimart_async.cli.stdin_manifest import on_disk

    rights = options.manifest_options(
        service,
        prompt=prompt,
        model=model,
        n=n,
        operation=operation,
        recursive=recursive,
        output=output,
        allow_outside=allow_outside,
        allow_webhook=allow_webhook,
        convert=convert,
    )
    options.check_timeout(timeout)
    options.check_journal(journal, output, local=local)
    options.check_max_cost(max_cost, service)
    _check_limits(in_flight, max_retry_after)
    with on_disk(manifest) as (path, base):
        opened = attrs.evolve(open_manifest(path, rights), base=base)
        options.check_manifest(opened, output)
        options.check_journal_is_there(output, journal, local=local)
        if check:
            options.check_directory_name(output)
            local_batch.check_directory_is_for(output, local=local)
        checking = partial(
            checks.preflight,
            opened,
            journal=(journal or journal_path(output)) if check else None,
            retry_failed=retry_failed,
            retry_missing=retry_missing,
            resubmit_in_doubt=resubmit_in_doubt or resubmit_unsafe,
        )
        if service == "applerouter":
            from apimart_async.cli.png_preparation import check_row

            checking = partial(checking, check=check_row)
        elif check and not local:
            checking = partial(_with_schemas, checking, base_url)
        found = anyio.run(checking)
        if check:
            tells_costs = service == "apimart"
            plan = preflight.Plan(found, max_cost, has_files=opened.is_folder, tells_costs=tells_costs)
            plan = plan if local else _priced(plan, base_url)
            for line in [json_line(plan.record())] if json else plan.facts(skip_bad=skip_bad):
                write_line(line)
            return _code_of(plan, skip_bad=skip_bad)
        if found.bad and not skip_bad:
            raise UsageError("\n".join(preflight.complaints(found)))
        reached = connection.checked(
            base_url,
            provider="APIMART" if service == "apimart" else "APPLEROUTER",
            local=local,
            convert=convert,
            keep_metadata=keep_metadata,
        )
        local_batch.check_directory_is_for(output, local=local)
        options.check_directory(output)
        for line in preflight.remarks(found):
            say(line)
        if not found.jobs:
            say(preflight.nothing(has_files=opened.is_folder))
            return Exit.SOME_FAILED if found.bad or opened.is_folder else Exit.ALL_DONE
        run = BatchRun(opened, found, output, open_journal(journal or None, output), json=json)
        return run.execute(
            reached,
            BatchOptions(
                output=output,
                max_in_flight=in_flight,
                max_cost=max_cost,
                retry_failed=retry_failed,
                retry_missing=retry_missing,
                in_doubt="resubmit" if resubmit_unsafe else "collect" if resubmit_in_doubt else "report",
                timeout=timeout,
                max_retry_after=max_retry_after,
                on_progress=run.show,
            ),
        )


def _check_limits(in_flight: int, max_retry_after: float) -> None:
    """Check the options, or raise ``UsageError``."""
    if in_flight < 1:
        raise UsageError(f"--in-flight must be 1 or more, not {in_flight}.")
    if not max_retry_after > 0:
        raise UsageError(f"--max-retry-after must be more than 0 seconds, not {max_retry_after:g}.")


async def _with_schemas(check: Callable[..., Awaitable[Preflight]], base_url: list[str] | None) -> Preflight:
    """Check every row against the schema of its model too, if there is a key and the service answers."""
    from apimart_async.batch.backends import check_against_schema

    try:
        service = connection.checked(base_url)
    except UsageError:
        return await check()
    async with connection.connected(service) as client:
        return await check(check=partial(check_against_schema, client))


def _priced(plan: preflight.Plan, base_url: list[str] | None) -> preflight.Plan:
    """Return the plan with the prices that only the catalogue of the service has.

    A check works without a key and without a network, too; these prices are then not known.
    """

    async def ask(service: connection.Connection) -> dict[str, float]:
        async with connection.connected(service) as client:
            return await prices.quoted(client, plan.unpriced)

    if plan.unpriced and plan.tells_costs:
        with suppress(UsageError):
            return attrs.evolve(plan, prices=anyio.run(ask, connection.checked(base_url)))
    return plan


def _code_of(plan: preflight.Plan, *, skip_bad: bool) -> Exit:
    """Return the exit code of a check."""
    if plan.found.bad and not skip_bad:
        return Exit.USAGE
    is_empty = plan.has_files and not plan.found.jobs
    return Exit.SOME_FAILED if plan.found.bad or is_empty or plan.fits is False else Exit.ALL_DONE


# --- status -----------------------------------------------------------------------------------------------


def status(
    directory: Annotated[
        Path | None,
        Parameter(
            name="DIR",
            negative=(),
            converter=options.output_path,
            help="Directory of the batch; not with --journal.",
        ),
    ] = None,
    /,
    *,
    journal: options.Journal = None,
    json: Annotated[bool, options.flag("--json", "Print one JSON object instead.")] = False,
) -> Exit:
    """Show the state of a batch, and change nothing; it may be running.

    Try this:

      apimart batch status out

    With --json, the object has: saved, failed, in_doubt, unfinished (numbers of
    jobs that were started), images, spent (USD), unknown_costs (number of jobs
    that spent lacks), and reasons (count, status, message), the commonest first.
    """
    from apimart_async.batch.edit_many import read_outcomes
    from apimart_async.batch.report.statistics import Totals

    if directory is None and not journal:
        raise UsageError(f"Name the directory of the batch, or its journal. {STATUS_USAGE}")
    options.check_journal_is_named(journal, directory)
    totals, doubtful_edits = Totals(), 0
    try:
        for outcome in read_outcomes(directory or Path(), journal=journal or None):
            totals.add(outcome)
            doubtful_edits += outcome.status == "in_doubt" and outcome.job.operation == "edit"
    except errors.JournalError as error:
        raise UsageError(sentence(error.message)) from error
    numbers: dict[Status, int] = {name: totals.statuses[name] for name in _STATUSES}
    reasons = totals.reasons.most_common(_MOST_REASONS)
    if json:
        record: dict[str, object] = {
            **{str(name): number for name, number in numbers.items()},
            "images": totals.files,
            "spent": round(totals.spent, 6),
            "unknown_costs": totals.unknown_costs,
            "reasons": [
                {"count": number, "status": name, "message": text} for (name, text), number in reasons
            ],
        }
        write_line(json_line(record))
        return Exit.ALL_DONE
    for name, number in numbers.items():
        text = _STATUSES[name] + _EDITS_IN_DOUBT * (name == "in_doubt" and doubtful_edits > 0)
        meaning = f"  ({text})" if number and text else ""
        write_line(f"{name.replace('_', ' ') + ':':<12} {number:>9,}{meaning}")
    write_line(f"{'images:':<12} {totals.files:>9,}")
    missing = f"  (without {unknown_costs(totals.unknown_costs)})" if totals.unknown_costs else ""
    write_line(f"{'spent:':<12} {dollars(totals.spent):>9}{missing}")
    if reasons:
        write_line("Reasons:")
        for (name, text), number in reasons:
            write_line(f"{number:>9,}  {name.replace('_', ' ')}: {sentence(text)}")
    return Exit.ALL_DONE
