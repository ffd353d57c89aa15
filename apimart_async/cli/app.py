"""The command line: its commands, its help, and the exit code and message of every error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from io import TextIOWrapper
from itertools import pairwise
from typing import Annotated, Final, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, UnusedCliTokensError

import apimart_async
from apimart_async.cli.display.output import (
    ARGUMENTS,
    complain,
    debugging,
    printable,
    set_quiet,
    shorten,
)
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.errors import InvalidArgumentError
from apimart_async.logs import log_to_stderr

_HELP = """Edit pictures with the APIMart image services.

Try these:

  apimart edit docs/examples/photos/*.jpg -p "A starry sky" --local -o edited
  apimart batch docs/examples/jobs.csv -o jobs --local
  APIMART_API_KEY=... apimart edit portrait.png -p "Watercolour" -n 3
  apimart task save TASK_ID -o edited
  apimart --install-completion --shell bash

Environment:

  APIMART_API_KEY   the key; only `emulator` and `--local` work without it
  APIMART_BASE_URL  another service with the same API
  APIMART_DEBUG     1 to see tracebacks and the log
  APIMART_LOG       debug, info, warning or error: log to stderr
  APPLEROUTER_API_KEY, APPLEROUTER_BASE_URL
                    the same for `--service applerouter`

Exit codes:

  0    all done
  1    some failed; stderr says which and why
  2    usage: an argument, the key or a picture is wrong, and nothing was sent
  130  interrupted; stderr says how to continue with paid tasks"""


_EPILOGUE: Final = """Every command also has:

  -v   log submits, retries, costs and saved files to stderr
  -vv  log each HTTP request too
  -q   no progress and no summary, only errors
"""
_COMMANDS: Final[Mapping[str, str]] = {
    "edit": "Edit pictures as a prompt says, all of them at once.",
    "generate": "Make a picture as a prompt says, from other pictures if you like.",
    "upload": "Upload pictures, which is free, and print their addresses.",
    "task": "Show tasks, wait for them, save their images.",
    "batch": "Run all jobs of a manifest, safe to kill and run again.",
    "fleet": "Share a batch among many processes and machines.",
    "report": "Write report.html: each picture before and after, costs, times, failures.",
    "balance": "Show the rest of the balance, in USD.",
    "models": "List the models of the service, a line each, with their prices.",
    "emulator": "Serve both image services on this machine, for play money.",
}
"""The first line of the help of each command, known without an import of its module."""


_VERBOSITY: Final = {"-q": 0, "-v": 1, "-vv": 2}
_INSTALL_COMPLETION: Final = "--install-completion"


def build(only: str | None = None) -> App:
    """Return the application with its commands.

    Args:
        only: Name of the command to import; the others are only listed. All by default.
    """
    app = App(
        name="apimart",
        help=_HELP,
        help_epilogue=_EPILOGUE,
        help_format="plaintext",
        version=apimart_async.__version__,
    )
    for number, (name, summary) in enumerate(_COMMANDS.items()):
        if only is None or name == only:
            _add(app, name)
        else:
            app.command(App(name=name, help=summary))
        app[name].sort_key = number
    app.command(_install_completion, name=_INSTALL_COMPLETION, sort_key=len(_COMMANDS))
    return app


def _install_completion(
    *,
    shell: Annotated[
        Literal["bash", "zsh", "fish"] | None,
        Parameter(name="--shell", help="The shell; by default the one that runs the command."),
    ] = None,
) -> Exit:
    """Let the Tab key complete commands, options and files in bash, zsh or fish.

    Writes the completion script of the shell into the home directory and, for
    bash and zsh, adds the lines that load it to ~/.bashrc or ~/.zshrc.

    Try this:

      apimart --install-completion --shell bash
    """
    from apimart_async.cli.completion import install

    return install(build(), shell)


def _add(app: App, name: str) -> None:
    """Import a command, and add it."""
    match name:
        case "edit":
            from apimart_async.cli import edit

            app.command(edit.edit, usage=edit.USAGE)
        case "generate":
            from apimart_async.cli import generate

            app.command(generate.generate, usage=generate.USAGE)
        case "upload":
            from apimart_async.cli import upload

            app.command(upload.upload, usage=upload.USAGE)
        case "task":
            from apimart_async.cli import task

            tasks = App(name="task", help=task.HELP)
            tasks.command(task.get, usage="Usage: apimart task get IDS... [OPTIONS]")
            tasks.command(task.wait, usage="Usage: apimart task wait IDS... [OPTIONS]")
            tasks.command(task.save, usage="Usage: apimart task save IDS... [OPTIONS]")
            app.command(tasks)
        case "batch":
            from apimart_async.cli import batch

            batches = App(name="batch", help=batch.HELP, usage=batch.USAGE)
            batches.default(batch.batch)
            batches.command(batch.status, usage=batch.STATUS_USAGE)
            app.command(batches)
        case "fleet":
            from apimart_async.cli import fleet

            fleets = App(name="fleet", help=fleet.HELP)
            fleets.command(fleet.work, usage=fleet.WORK_USAGE)
            fleets.command(fleet.status, usage=fleet.STATUS_USAGE)
            app.command(fleets)
        case "report":
            from apimart_async.cli import report

            app.command(report.report, usage=report.USAGE)
        case "emulator":
            from apimart_async.cli import emulator

            app.command(emulator.emulator)
        case _:
            from apimart_async.cli import account

            app.command({"balance": account.balance, "models": account.models}[name])


def take_verbosity(arguments: Sequence[str]) -> list[str]:
    """Apply ``-v``, ``-vv`` and ``-q``, which every command has, and return the other arguments."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    given = [argument for argument in arguments[:end] if argument in _VERBOSITY]
    set_quiet(quiet="-q" in given)
    if level := sum(map(_VERBOSITY.__getitem__, given)):
        log_to_stderr("info" if level == 1 else "debug")
    return [argument for argument in arguments[:end] if argument not in _VERBOSITY] + list(arguments[end:])


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; errors become sentences on stderr.

    Args:
        arguments: Without the name of the program.
    """
    ARGUMENTS.set(tuple(arguments))
    arguments = take_verbosity(arguments)
    try:
        only = next((argument for argument in arguments if argument in _COMMANDS), "")
        command, bound, _ = build(only).parse_args(arguments, print_error=False, exit_on_error=False)
        return int(command(*bound.args, **bound.kwargs) or Exit.ALL_DONE)
    except CycloptsError as error:
        chain = " ".join(["apimart", *(error.command_chain or ())])
        complain(f"{printable(_mistake(error, arguments))} See: {chain} --help")
    except UsageError as error:
        complain(str(error))
    except InvalidArgumentError as error:
        complain(printable(error.message))
    except Exception as error:  # noqa: BLE001 every error becomes a sentence
        from apimart_async.cli.display.messages import explain, trace

        trace(error)
        complain(explain(error))
        return Exit.SOME_FAILED
    return Exit.USAGE


def _mistake(error: CycloptsError, arguments: Sequence[str]) -> str:
    """Return the sentence about arguments that do not fit the command."""
    if isinstance(error, MissingArgumentError):
        return _missing(error, arguments)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        first, *others = error.unused_tokens
        more = f" and {len(others):,} more" if others else ""
        # A shell makes many arguments of a pattern, and of a prompt with spaces.
        return (
            f"Unexpected argument: {shorten(first, 60)}{more}. Put a pattern or a prompt in quotation marks."
        )
    return str(error)


def _missing(error: MissingArgumentError, arguments: Sequence[str]) -> str:
    """Return the sentence about an argument that is not there, with the option that may be a mistyped one."""
    argument, app = error.argument, error.app
    if argument is None or app is None or error.keyword:
        if not error.keyword:
            return str(error)
        is_dash = (error.keyword, "-") in pairwise(arguments)
        return f"{error.keyword} {'does not take -' if is_dash else 'has no value'}."
    known = {name for each in app.assemble_argument_collection() for name in each.names}
    unknown = {each.partition("=")[0] for each in arguments if each.startswith("--")} - known
    for name in argument.names:
        if name.startswith("--") and (typed := get_close_matches(name, unknown, n=1)):
            return f"Unknown option: {typed[0]}. Did you mean {name}?"
    return f"{argument.name} is missing."


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
