"""``apimart report``: an HTML page about a batch."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from apimart_async.cli.display.output import say, sentence, write_line
from apimart_async.cli.options import Journal, check_journal_is_named, flag, output_path
from apimart_async.cli.signals import Exit, UsageError
from apimart_async.errors import JournalError
from apimart_async.transport.object_storage import ObjectPath

USAGE = "Usage: apimart report DIR [OPTIONS]"


def report(
    directory: Annotated[
        Path,
        Parameter(
            name="DIR", negative=(), converter=output_path, help="Directory of the batch, or its s3:// URL."
        ),
    ],
    /,
    *,
    journal: Journal = None,
    show: Annotated[bool, flag("--open", "Open the page in the browser.")] = False,
) -> Exit:
    """Write report.html: each picture before and after, costs, times, failures.

    The page is one file, works from disk and asks the network for nothing. It
    refers to the pictures where they are: move it together with the results.

    Try these:

      apimart report out
      apimart report out --open
    """
    from apimart_async.batch.report.page import write_report

    check_journal_is_named(journal, directory)
    try:
        path = write_report(directory, journal=journal or None)
    except JournalError as error:
        raise UsageError(sentence(error.message)) from error
    write_line(str(path))
    is_file = not isinstance(path, ObjectPath)
    if not (show and is_file and webbrowser.open(path.resolve().as_uri())):
        say("Open it in a browser.")
    return Exit.ALL_DONE
