"""``apimart batch status``: how a batch stands, running or not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import attrs
from cyclopts import Parameter

from apimart_async.cli.display.results import Record, json_line
from apimart_async.cli.display.streams import write_line
from apimart_async.cli.display.text import dollars, sentence
from apimart_async.cli.exits import Exit, UsageError
from apimart_async.errors import JournalError

USAGE = "Usage: apimart batch status DIR [OPTIONS]"

_WORDS = {
    "saved": "saved",
    "failed": "failed",
    "in_doubt": "in doubt",
    "unfinished": "unfinished",
}
_MEANING = {
    "failed": "not billed; --retry-failed tries them once more",
    "in_doubt": "perhaps billed, or being submitted; --resubmit-in-doubt submits them again",
    "unfinished": "paid for, or in flight; run the batch again if it is not running",
}
_REASONS = 5


def status(
    directory: Annotated[Path, Parameter(name="DIR", negative=(), help="Where the batch puts its results.")],
    /,
    *,
    json: Annotated[
        bool,
        Parameter(name="--json", negative=(), show_default=False, help="Print one JSON object instead."),
    ] = False,
) -> Exit:
    """Show how a batch stands, and change nothing; it may be running.

    Try this:

      apimart batch status out

    With --json, the object has: saved, failed, in_doubt, unfinished (numbers of
    jobs that were begun), images, spent (USD), and reasons (count, status,
    message), the commonest first.
    """
    status = _read(directory)
    if json:
        write_line(json_line(status.record))
        return Exit.ALL_DONE
    for name, word in _WORDS.items():
        number = status.jobs[name]
        meaning = f"  ({_MEANING[name]})" if number and name in _MEANING else ""
        write_line(f"{word + ':':<12} {number:>9,}{meaning}")
    write_line(f"{'images:':<12} {status.images:>9,}")
    write_line(f"{'spent:':<12} {dollars(status.spent):>9}")
    if status.reasons:
        write_line("What went wrong:")
        for (_, message), number in status.reasons:
            write_line(f"{number:>9,}  {sentence(message)}")
    return Exit.ALL_DONE


@attrs.frozen
class _Standing:
    jobs: Counter[str]
    images: int
    spent: float
    reasons: list[tuple[tuple[str, str], int]]

    @property
    def record(self) -> Record:
        return {
            **{name: self.jobs[name] for name in _WORDS},
            "images": self.images,
            "spent": round(self.spent, 6),
            "reasons": [
                {"count": number, "status": name, "message": message}
                for (name, message), number in self.reasons
            ],
        }


def _read(directory: Path) -> _Standing:
    from apimart_async.batch.edit_many import read_outcomes
    from apimart_async.batch.report.statistics import Totals

    totals = Totals()
    try:
        for outcome in read_outcomes(directory):
            totals.add(outcome)
    except JournalError as error:
        raise UsageError(sentence(error.message)) from error
    jobs = Counter({str(name): number for name, number in totals.statuses.items()})
    reasons = [((str(name), text), number) for (name, text), number in totals.reasons.most_common(_REASONS)]
    return _Standing(jobs, totals.files, totals.spent, reasons)
