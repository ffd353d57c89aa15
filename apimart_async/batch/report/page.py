"""``report.html``: a batch as one file that works from disk and makes no requests to the network.

It holds the facts of each job, as the journal has them, and refers to the originals and results on disk.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from apimart_async.batch.journal.opening import read_records
from apimart_async.batch.report.rows import LONGEST_TEXT, row_of
from apimart_async.batch.report.statistics import (
    NARROW_WIDTH,
    WIDTH,
    Totals,
    dollars,
    histogram,
    quantile,
    time_span,
)
from apimart_async.batch.results import RESULTS
from apimart_async.errors import InvalidArgumentError
from apimart_async.transport.files import objects
from apimart_async.transport.files.private import Replacement
from apimart_async.transport.object_storage import ObjectPath, any_path

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import jinja2

    from apimart_async.batch.job import Status


MOST_ROWS: Final = 100_000
"""Maximum number of jobs on the page; saved ones are left out first."""

_NAME: Final = "report.html"
_MANY_ROWS: Final = 10_000
_SHORT_TEXT: Final = 400
_REASONS: Final = 8

_WORDS: Final[Mapping[Status, str]] = {
    "saved": "Saved",
    "failed": "Failed",
    "in_doubt": "In doubt",
    "unfinished": "Unfinished",
}
_NOTES: Final[Mapping[Status, str]] = {
    "failed": "not billed",
    "in_doubt": "perhaps billed; not sent again",
    "unfinished": "paid for; run the batch again",
}


class _Tile(NamedTuple):
    label: str
    figure: str
    note: str | None = None
    tone: Status | None = None


def write_report(directory: str | os.PathLike[str], *, journal: str | os.PathLike[str] | None = None) -> Path:
    """Write ``report.html`` into the output directory of a batch; blocking.

    An earlier report is replaced once the new one is whole. The batch may be running.

    Args:
        directory: Output directory of the batch, or its URL of object storage.
        journal: Path or URL of its journal, when that is elsewhere.

    Returns:
        The file.

    Raises:
        JournalError: No batch has run there, or its journal cannot be read.
        InvalidArgumentError: jinja2 is missing, or the file cannot be written.
    """
    output = any_path(directory)
    page = _template()
    totals = Totals()
    for record in read_records(journal, output):
        totals.add(record.outcome(output), record.changed_at.timestamp())
    shown = _shares(totals.statuses)
    parts = page.generate(
        **_assets(),
        **_summary(totals),
        title=output.resolve().name or str(output.resolve()),
        results=RESULTS if (output / RESULTS).exists() else None,
        left_out=totals.jobs - sum(shown.values()),
        rows=_rows(output, journal, shown),
    )
    return _write(output / _NAME, parts)


def _template() -> jinja2.Template:
    try:
        import jinja2
    except ModuleNotFoundError as missing:
        raise InvalidArgumentError("A report needs jinja2: pip install '.[report]' in the clone") from missing
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_read("report.html.j2"))


def _read(name: str) -> str:
    return files("apimart_async.batch.report").joinpath("templates", name).read_text(encoding="utf-8")


def _assets() -> Mapping[str, Any]:
    """Return style and script, and their digests for the page's policy, which allows nothing else."""
    from markupsafe import Markup

    assets: dict[str, Any] = {}
    for name, text in {"style": _read("report.css"), "script": _read("report.js")}.items():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assets[name] = Markup(text)  # noqa: S704 files of this package
        assets[f"{name}_digest"] = Markup(f"'sha256-{digest}'")  # noqa: S704 base64
    return assets


# --- the summary --------------------------------------------------------------------------------------------


def _summary(totals: Totals) -> Mapping[str, Any]:
    made_at = datetime.now(UTC).replace(microsecond=0)
    reasons = totals.reasons.most_common(_REASONS)
    return {
        "made_at": made_at,
        "made_on": f"{made_at.day} {made_at:%B %Y, %H:%M} UTC",
        "tiles": list(_tiles(totals)),
        "histograms": [
            (name, drawing)
            for name, width in (("wide-chart", WIDTH), ("narrow-chart", NARROW_WIDTH))
            if (drawing := histogram(totals.durations, width))
        ],
        "reasons": [
            {"count": count, "status": status, "message": message} for (status, message), count in reasons
        ],
        "more_reasons": totals.reasons.total() + totals.other_reasons - sum(count for _, count in reasons),
        "choices": [
            {"status": "all", "label": "All", "count": totals.jobs},
            *(
                {"status": status, "label": word, "count": totals.statuses[status]}
                for status, word in _WORDS.items()
                if totals.statuses[status]
            ),
        ],
    }


def _tiles(totals: Totals) -> Iterator[_Tile]:
    for status, word in _WORDS.items():
        count = totals.statuses[status]
        if count or status in {"saved", "failed"}:
            note = f"of {totals.jobs:,} jobs" if status == "saved" else _NOTES[status] if count else None
            yield _Tile(word, f"{count:,}", note, status if count else None)
    yield _Tile("Images", f"{totals.files:,}", "in this folder")
    note = f"{dollars(totals.spent / totals.files)} an image" if totals.files else None
    if totals.unknown_costs:
        note = f"without {totals.unknown_costs:,} jobs of unknown cost"
    yield _Tile("Spent", dollars(totals.spent) if totals.costs_known else "—", note)
    if totals.periods:
        done = totals.jobs / max(totals.wall_time, 0.001)
        pace = f"{done:,.1f} jobs a second" if done >= 1 else f"{done * 60:,.1f} jobs a minute"
        yield _Tile("Wall time", time_span(totals.wall_time), pace)
    if totals.durations:
        ordered = sorted(totals.durations)
        yield _Tile(
            "Median time", f"{quantile(ordered, 0.5):.1f} s", f"95 % within {quantile(ordered, 0.95):.1f} s"
        )


# --- the jobs -----------------------------------------------------------------------------------------------


def _shares(statuses: Mapping[Status, int]) -> dict[Status, int]:
    """Return how many jobs of each status are shown: all, or as many as fit, the saved ones last."""
    left = MOST_ROWS
    shares: dict[Status, int] = {}
    for status in ("in_doubt", "unfinished", "failed", "saved"):
        shares[status] = min(statuses.get(status, 0), left)
        left -= shares[status]
    return shares


def _rows(
    directory: Path, journal: str | os.PathLike[str] | None, shares: dict[Status, int]
) -> Iterator[Mapping[str, Any]]:
    left = dict(shares)
    base = directory.resolve()
    # A browser takes seconds to read hundreds of megabytes.
    longest_text = LONGEST_TEXT if sum(shares.values()) <= _MANY_ROWS else _SHORT_TEXT
    for record in read_records(journal, directory):
        outcome = record.outcome(directory)
        # A batch that is running may have more jobs by now.
        if left.get(outcome.status, 0) > 0:
            left[outcome.status] -= 1
            yield row_of(outcome, base, record.position, longest_text)


# --- the file -----------------------------------------------------------------------------------------------


def _write(path: Path, parts: Iterator[str]) -> Path:
    try:
        if isinstance(path, ObjectPath):
            objects.replace_text(path, parts)
            return path
        file = Replacement.begin(path)
        try:
            file.write(parts)
            file.finish()
        finally:
            file.discard()
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be written: {error.strerror or error}.") from error
    return path
