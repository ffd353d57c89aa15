"""What to say of a manifest before anything is sent: its mistakes, its size, and what it may cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from apimart_async.cli.display.results import Record
from apimart_async.cli.display.text import dollars, sentence

if TYPE_CHECKING:
    from apimart_async.batch.manifest.preflight import Preflight

# Of an image, in the service's documentation: good for a guess until results tell the real cost.
_DOCUMENTED: Final[Mapping[str, float]] = {"grok-imagine-1.0-edit-apimart": 0.015}
_KILO: Final = 1000
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB")


def complaints(survey: Preflight) -> Sequence[str]:
    """Return what is wrong with the rows, a line each."""
    rows = survey.jobs + survey.repeated + survey.bad_count
    if survey.bad_count == 1:
        return [f"{_complaint(survey, 0)} Nothing was sent."]
    lines = [f"{survey.bad_count:,} of {rows:,} rows cannot be done, so nothing was sent:"]
    lines += [f"  {_complaint(survey, number)}" for number in range(len(survey.bad))]
    if survey.bad_count > len(survey.bad):
        lines.append(f"  and {survey.bad_count - len(survey.bad):,} more")
    return lines


def _complaint(survey: Preflight, number: int) -> str:
    row = survey.bad[number]
    return f"{row.place[:1].upper()}{row.place[1:]}: {sentence(row.complaint)}"


def estimate(survey: Preflight, output: Path) -> float | None:
    """Return what all of it may cost, in USD; ``None`` when the price of a model is not known.

    Args:
        survey: Of the manifest.
        output: Directory of the batch: what earlier jobs in it have cost is the best guess.
    """
    from apimart_async.batch.edit_many import journal_path, read_outcomes

    prices: dict[str, float] = {}
    if journal_path(output).is_file():
        for outcome in read_outcomes(output):
            if outcome.cost and outcome.paths:
                model, price = outcome.job.model or "", outcome.cost / len(outcome.paths)
                prices[model] = max(price, prices.get(model, 0.0))
    known = {**_DOCUMENTED, **prices}
    if survey.images.keys() - known.keys():
        return None
    return sum(count * known[model] for model, count in survey.images.items())


def facts(survey: Preflight, cost: float | None) -> Sequence[str]:
    """Return how much there is to do, a line for each fact, and what is wrong."""
    images = sum(survey.images.values())
    lines = [
        f"Jobs: {survey.jobs:,}"
        + (f" ({survey.repeated:,} more rows ask for the same)" * bool(survey.repeated)),
        f"Images to come: {images:,}",
        f"Pictures to upload: {survey.pictures:,}, {size(survey.bytes)}",
        "Estimated cost: not known before the first results"
        if cost is None
        else f"Estimated cost: {dollars(cost)}, for all of it",
    ]
    return lines if not survey.bad else [*lines, *complaints(survey)]


def survey_record(survey: Preflight, cost: float | None) -> Record:
    """Return the same for programs."""
    return {
        "jobs": survey.jobs,
        "repeated": survey.repeated,
        "images": dict(survey.images),
        "pictures": survey.pictures,
        "bytes": survey.bytes,
        "estimated_cost": cost,
        "bad_count": survey.bad_count,
        "bad": [{"place": row.place, "complaint": row.complaint} for row in survey.bad],
    }


def size(count: int) -> str:
    """Write a number of bytes."""
    number, unit = float(count), 0
    while number >= _KILO and unit < len(_UNITS) - 1:
        number, unit = number / _KILO, unit + 1
    return f"{number:.1f} {_UNITS[unit]}" if unit else f"{count} {'byte' if count == 1 else 'bytes'}"
