"""The command line: its commands, its help, and the exit code and message of every error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from io import TextIOWrapper

from cyclopts import App, CycloptsError

import apimart_async
from apimart_async.cli import account, batch, edit, emulator, fleet, generate, report, task, upload
from apimart_async.cli.display.messages import debugging, explain, trace
from apimart_async.cli.display.output import complain, printable
from apimart_async.cli.options import UsageError, take_verbosity
from apimart_async.cli.signals import Exit
from apimart_async.errors import InvalidArgumentError

_HELP = """Edit pictures with the APIMart image services.

Try these:

  apimart edit photos/*.jpg -p "A starry sky behind it" --local -o edited
  APIMART_API_KEY=... apimart edit portrait.png -p "Watercolour" -n 3
  apimart task save TASK_ID -o edited
  apimart batch jobs.csv -o out --max-cost 5.00

Everywhere:

  -v                log submits, retries, costs and saved files to stderr
  -vv               log each HTTP request too
  -q                no progress and no summary, only errors

Environment:

  APIMART_API_KEY   the key; only `emulator` and `--local` work without it
  APIMART_BASE_URL  another service with the same API
  APIMART_DEBUG     1 to see tracebacks and the log
  APIMART_LOG       debug, info, warning or error: log to stderr
  APPLEROUTER_API_KEY, APPLEROUTER_BASE_URL
                    the same for `edit --service applerouter`

Exit codes:

  0    all done
  1    some failed; stderr says which and why
  2    usage: an argument, the key or a picture is wrong, and nothing was sent
  130  interrupted; stderr says how to continue with paid tasks"""


def build() -> App:
    """Return the application with all its commands."""
    app = App(name="apimart", help=_HELP, help_format="plaintext", version=apimart_async.__version__)
    app.command(edit.edit, usage=edit.USAGE)
    app.command(generate.generate, usage=generate.USAGE)
    app.command(upload.upload, usage=upload.USAGE)
    tasks = App(name="task", help=task.HELP)
    tasks.command(task.get, usage="Usage: apimart task get IDS... [OPTIONS]")
    tasks.command(task.wait, usage="Usage: apimart task wait IDS... [OPTIONS]")
    tasks.command(task.save, usage="Usage: apimart task save IDS... [OPTIONS]")
    app.command(tasks)
    batches = App(name="batch", help=batch.HELP, usage=batch.USAGE)
    batches.default(batch.batch)
    batches.command(batch.status, usage=batch.STATUS_USAGE)
    app.command(batches)
    fleets = App(name="fleet", help=fleet.HELP)
    fleets.command(fleet.work, usage=fleet.WORK_USAGE)
    fleets.command(fleet.status, usage=fleet.STATUS_USAGE)
    app.command(fleets)
    app.command(report.report, usage=report.USAGE)
    app.command(account.balance)
    app.command(account.models)
    app.command(emulator.emulator)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become sentences on stderr.

    Args:
        arguments: Without the name of the program.
    """
    arguments = take_verbosity(arguments)
    try:
        command, bound, _ = build().parse_args(arguments, print_error=False, exit_on_error=False)
        return int(command(*bound.args, **bound.kwargs) or Exit.ALL_DONE)
    except CycloptsError as error:
        chain = " ".join(["apimart", *(error.command_chain or ())])
        complain(f"{printable(str(error))} See: {chain} --help")
    except UsageError as error:
        complain(str(error))
    except InvalidArgumentError as error:
        complain(printable(error.message))
    except Exception as error:  # noqa: BLE001 every error becomes a sentence
        trace(error)
        complain(explain(error))
        return Exit.SOME_FAILED
    return Exit.USAGE


def prepare_process() -> None:
    """Log only when debugging or with ``-v``, and write file names to stdout as they are."""
    if debugging():
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    else:
        # Without a handler, Python writes warnings to stderr, in addition to the command's own messages.
        logging.basicConfig(handlers=[logging.NullHandler()])
    stdout: object = sys.stdout
    if isinstance(stdout, TextIOWrapper):
        is_utf8 = stdout.encoding.lower().replace("-", "") == "utf8"
        stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")
