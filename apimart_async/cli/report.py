"""``apimart report``: an HTML page about a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from apimart_async.cli.display.output import say, sentence, write_line
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.errors import JournalError

USAGE = "Usage: apimart report DIR"


def report(
    directory: Annotated[Path, Parameter(name="DIR", negative=(), help="Directory of the batch.")],
    /,
) -> Exit:
    """Write report.html: each picture before and after, costs, times, failures.

    The page is one file, works from disk and asks the network for nothing. It
    refers to the pictures where they are: move it together with the results.

    Try this:

      apimart report out
    """
    from apimart_async.batch.report.page import write_report

    try:
        path = write_report(directory)
    except JournalError as error:
        raise UsageError(sentence(error.message)) from error
    write_line(str(path))
    say("Open it in a browser.")
    return Exit.ALL_DONE
