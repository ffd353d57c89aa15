"""``apimart batch``: a whole manifest, killed and run again at will."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from apimart_async.cli import checks, connection, options
from apimart_async.cli.batch_run import Plan, run_batch
from apimart_async.cli.display.preflight import complaints, estimate, facts, survey_record
from apimart_async.cli.display.results import json_line
from apimart_async.cli.display.streams import say, write_line
from apimart_async.cli.exits import Exit, UsageError
from apimart_async.cli.local_batch import check_directory_is_for

HELP = """Edit as many pictures as a manifest names, safe to kill and run again.

A manifest is a folder of images, edited with one prompt, or a CSV or JSONL file
with a row for each edit. Its columns are image and prompt, and if you like
model, n, id and name; any other column is an option of the request, such as
size. Paths of images start from the folder of the file. All rows are checked
before anything is sent.

Every step is in a journal in the output directory before the next is taken.
The same command run again goes on where it was: nothing is paid twice, and
nothing that is paid for is lost. Ctrl-C finishes what is in flight and begins
nothing more; pressed again, it stops at once. At the end results.jsonl lists
every job, and `apimart report DIR` makes a page of it.

Try these:

  apimart batch photos -p "A starry sky behind it" --local -o out
  apimart batch jobs.csv -o out --check
  apimart batch jobs.csv -o out --max-cost 5.00 --in-flight 64
  apimart batch status out

The paths of the results go to stdout where that is not a terminal, with --json
one object for each job as it ends, as in results.jsonl; all else to stderr.

Exit codes: 0 all saved; 1 some were not, or the budget, the balance, the key or
the network ended the batch; 2 usage, nothing was sent; 130 interrupted."""

USAGE = "Usage: apimart batch MANIFEST -o DIR [-p PROMPT] [OPTIONS]"


def _flag(name: str, text: str) -> Parameter:
    return Parameter(name=name, negative=(), show_default=False, help=text)


def batch(
    manifest: Annotated[Path, Parameter(negative=(), help="A .csv or .jsonl file, or a folder of images.")],
    /,
    *,
    output: options.Output,
    prompt: Annotated[
        str | None,
        Parameter(
            name=("--prompt", "-p"), allow_leading_hyphen=True, help="For rows that have none of their own."
        ),
    ] = None,
    model: Annotated[str | None, Parameter(name=("--model", "-m"), help="For rows that name none.")] = None,
    n: Annotated[int, Parameter(name="-n", help="Variants, 1 to 10, for rows that do not say.")] = 1,
    check: Annotated[
        bool, _flag("--check", "Only look: how many jobs, how many bytes, about how much money.")
    ] = False,
    in_flight: Annotated[
        int, Parameter(name="--in-flight", help="Jobs from submit to the end of their task, at most.")
    ] = 256,
    max_cost: Annotated[
        float | None, Parameter(name="--max-cost", help="USD, over all runs into this directory.")
    ] = None,
    retry_failed: Annotated[
        bool, _flag("--retry-failed", "Submit again what failed in an earlier run, which was free.")
    ] = False,
    resubmit_in_doubt: Annotated[
        bool,
        _flag(
            "--resubmit-in-doubt",
            "Submit again what may have been paid for already: look at the account first.",
        ),
    ] = False,
    local: options.Local = False,
    timeout: options.Timeout = None,
    base_url: options.BaseUrl = None,
    json: Annotated[bool, _flag("--json", "Write one JSON object a line to stdout.")] = False,
) -> Exit:
    """Edit what a manifest names, or go on with it."""
    from apimart_async.batch.manifest.preflight import preflight
    from apimart_async.batch.manifest.reader import open_manifest
    from apimart_async.batch.manifest.rows import Defaults
    from apimart_async.resources.edits import DEFAULT_MODEL
    from apimart_async.resources.submission import check_request

    check_request("any" if prompt is None else prompt, model or DEFAULT_MODEL, n)
    options.check_timeout(timeout)
    _check_limits(in_flight, max_cost)
    opened = open_manifest(manifest, Defaults(prompt, model or DEFAULT_MODEL, n))
    if opened.kind == "folder" and output.resolve() == manifest.resolve():
        raise UsageError("The results would lie among the images: name another directory with -o.")
    found = anyio.run(preflight, opened)
    if check:
        cost = estimate(found, output)
        if json:
            write_line(json_line(survey_record(found, cost)))
        else:
            for line in facts(found, cost):
                write_line(line)
        return Exit.USAGE if found.bad else Exit.ALL_DONE
    if found.bad:
        raise UsageError("\n".join(complaints(found)))
    service = connection.checked(
        base_url, local=local, otherwise="add --local to try it with an emulator on this machine"
    )
    check_directory_is_for(output, local=local)
    checks.check_directory(output)
    if not found.jobs:
        say("The manifest has no rows: there is nothing to do.")
        return Exit.ALL_DONE
    plan = Plan(
        manifest=opened,
        total=found.jobs + found.repeated,
        output=output,
        connection=service,
        in_flight=in_flight,
        max_cost=max_cost,
        retry_failed=retry_failed,
        resubmit_in_doubt=resubmit_in_doubt,
        timeout=timeout,
        json=json,
    )
    return run_batch(plan)


def _check_limits(in_flight: int, max_cost: float | None) -> None:
    if in_flight < 1:
        raise UsageError(f"--in-flight must be 1 or more, not {in_flight}.")
    if max_cost is not None and not max_cost > 0:
        raise UsageError(f"--max-cost must be more than 0 USD, not {max_cost:g}.")
