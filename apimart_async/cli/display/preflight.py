"""A manifest before anything is sent: its invalid rows, its size and its estimated cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.filesize import decimal

from apimart_async.cli.display.output import dollars, sentence
from apimart_async.cli.display.results import Record

if TYPE_CHECKING:
    from apimart_async.batch.manifest.preflight import Preflight

# USD an image in the service's documentation: an estimate until results have the real cost.
_DOCUMENTED: Final[Mapping[str, float]] = {"grok-imagine-1.0-edit-apimart": 0.015}


def complaints(found: Preflight) -> Sequence[str]:
    """Return the reason for each invalid row, a line each."""
    rows = found.jobs + found.repeated + found.bad_count
    if found.bad_count == 1:
        return [f"{_complaint(found, 0)} Nothing was sent."]
    lines = [f"{found.bad_count:,} of {rows:,} rows cannot be done, so nothing was sent:"]
    lines += [f"  {_complaint(found, number)}" for number in range(len(found.bad))]
    if found.bad_count > len(found.bad):
        lines.append(f"  and {found.bad_count - len(found.bad):,} more")
    return lines


def _complaint(found: Preflight, number: int) -> str:
    row = found.bad[number]
    return f"{row.location}: {sentence(row.complaint)}"


def estimate(found: Preflight, output: Path) -> float | None:
    """Return the estimated cost of all jobs in USD; ``None`` when the price of a model is not known.

    Args:
        found: The checks of the manifest.
        output: Directory of the batch: the costs of earlier jobs in it are the best guess.
    """
    from apimart_async.batch.edit_many import journal_path, read_outcomes

    prices: dict[str, float] = {}
    if journal_path(output).is_file():
        for outcome in read_outcomes(output):
            if outcome.cost and outcome.paths:
                model, price = outcome.job.model or "", outcome.cost / len(outcome.paths)
                prices[model] = max(price, prices.get(model, 0.0))
    known = {**_DOCUMENTED, **prices}
    if found.images.keys() - known.keys():
        return None
    return sum(count * known[model] for model, count in found.images.items())


def facts(found: Preflight, cost: float | None) -> Sequence[str]:
    """Return the numbers of a manifest, a line each, and its invalid rows."""
    images = sum(found.images.values())
    lines = [
        f"Jobs: {found.jobs:,}"
        + (f" ({found.repeated:,} more rows ask for the same)" * bool(found.repeated)),
        f"Images to come: {images:,}",
        f"Pictures to upload: {found.pictures:,}, {decimal(found.bytes)}",
        "Estimated cost: not known before the first results"
        if cost is None
        else f"Estimated cost: {dollars(cost)}, for all of it",
    ]
    return lines if not found.bad else [*lines, *complaints(found)]


def record(found: Preflight, cost: float | None) -> Record:
    """Return the numbers and the invalid rows for ``--json``."""
    return {
        "jobs": found.jobs,
        "repeated": found.repeated,
        "images": dict(found.images),
        "pictures": found.pictures,
        "bytes": found.bytes,
        "estimated_cost": cost,
        "bad_count": found.bad_count,
        "bad": [{"place": row.location, "complaint": row.complaint} for row in found.bad],
    }
