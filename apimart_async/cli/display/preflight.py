"""A manifest before anything is sent: its invalid rows, its size, and its cost against the budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import attrs
from rich.filesize import decimal

from apimart_async.cli.display.output import dollars, listed, printable, sentence, shorten
from apimart_async.cli.display.results import Record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from apimart_async.batch.job import Status
    from apimart_async.batch.manifest.preflight import Preflight

_STARTED: Final[Mapping[Status, str]] = {
    "saved": "saved",
    "unfinished": "paid for and to be finished",
    "in_doubt": "in doubt and left alone without --resubmit-unsafe or, except for edits, --resubmit-in-doubt",
    "failed": "failed and left alone without --retry-failed",
}
_ROUNDING: Final = 1e-9
_MAX_NAMES: Final = 12


def complaints(found: Preflight, *, skip_bad: bool = False) -> Sequence[str]:
    """Return the reason for each invalid row, a line each."""
    result = "left out" if skip_bad else "so nothing was sent"
    if found.bad_count == 1 and not skip_bad:
        return [f"{_complaint(found, 0)} Nothing was sent."]
    lines = [f"{found.bad_count:,} of {found.rows:,} rows cannot be done, {result}:"]
    lines += listed([_complaint(found, number) for number in range(len(found.bad))])
    if found.bad_count > len(found.bad):
        lines.append(f"  and {found.bad_count - len(found.bad):,} more")
    return lines


def _complaint(found: Preflight, number: int) -> str:
    row = found.bad[number]
    complaint = sentence(row.complaint)
    return complaint if complaint.startswith(row.location) else f"{row.location}: {complaint}"


def remarks(found: Preflight) -> Sequence[str]:
    """Return lines about left-out files and rows and about columns that are not sent, for a run."""
    lines = [*_skipped(found)]
    if found.bad:
        lines += complaints(found, skip_bad=True)
    if found.extra:
        lines.append(f"Columns that are not sent, and kept in results.jsonl: {_listed(found.extra)}")
    return lines


def nothing(*, has_files: bool) -> str:
    """Return the sentence for a manifest without jobs."""
    missing = "It has no pictures to edit" if has_files else "The manifest has no rows"
    return f"{missing}: there is nothing to do."


def _skipped(found: Preflight) -> Sequence[str]:
    """Return the line that counts the left-out files of a folder, if there are any."""
    if not found.skipped:
        return []
    from apimart_async.batch.manifest.files import RESULT, SUBFOLDER

    plurals = {SUBFOLDER: "in subfolders", RESULT: "results of a batch"}
    kinds = [
        f"{count:,} {(plurals.get(reason) if count > 1 else None) or printable(reason)}"
        for reason, count in found.skipped.most_common()
    ]
    count = found.skipped.total()
    hint = "; use --recursive" if found.skipped[SUBFOLDER] else ""
    return [f"{count:,} {'file' if count == 1 else 'files'} skipped: {', '.join(kinds)}{hint}"]


def _model(name: str, images: int) -> str:
    return f"{shorten(printable(name), 60)} for {images:,} {'image' if images == 1 else 'images'}"


def _listed(names: Iterable[str]) -> str:
    shown = [shorten(printable(name), 40) for name in names]
    more = f" and {len(shown) - _MAX_NAMES:,} more" if len(shown) > _MAX_NAMES else ""
    return f"{', '.join(shown[:_MAX_NAMES])}{more}"


def is_enough(max_cost: float | None, cost: float | None) -> bool | None:
    """Tell whether a cost fits a budget; ``None`` if there is no budget, or the cost is not known."""
    return None if max_cost is None or cost is None else cost <= max_cost + _ROUNDING


def budget_line(max_cost: float, fits: bool | None, subject: str) -> str:  # noqa: FBT001 of is_enough
    """Return the line about the budget of a ``subject``, such as a batch."""
    words = {None: "", True: ", enough", False: f", not enough: the {subject} would end early"}
    return f"Budget: {dollars(max_cost)}{words[fits]}"


@attrs.frozen
class Plan:
    """The work that the next run of a batch would do.

    Attributes:
        found: The check of the manifest.
        max_cost: The option.
        has_files: Whether the manifest is a folder or a pattern.
        prices: USD an image in the catalogue of the service, by model.
        tells_costs: Whether the service reports prices and costs.
    """

    found: Preflight
    max_cost: float | None
    has_files: bool
    prices: Mapping[str, float] = attrs.field(factory=dict[str, float])
    tells_costs: bool = True

    @property
    def unpriced(self) -> Sequence[str]:
        """Return the models of the next run whose price is not known."""
        return sorted(self._images().keys() - self._known().keys())

    def _known(self) -> Mapping[str, float]:
        from apimart_async.batch.backends import DOCUMENTED_PRICES

        earlier = self.found.earlier
        return {**DOCUMENTED_PRICES, **self.prices, **(earlier.prices if earlier else {})}

    def _images(self) -> Counter[str]:
        earlier = self.found.earlier
        return self.found.images + (earlier.outstanding if earlier else Counter[str]())

    @property
    def cost(self) -> float | None:
        """Return the USD that the next run may cost; ``None`` when the price of a model is not known.

        It includes the jobs of earlier runs that may be billed, but whose cost is not known.
        """
        return None if self.unpriced else self._price(self._images())

    def _price(self, images: Counter[str]) -> float:
        known = self._known()
        return sum(count * known[model] for model, count in images.items())

    @property
    def spent(self) -> float:
        """Return the USD that earlier runs have cost."""
        return self.found.earlier.spent if self.found.earlier else 0.0

    @property
    def fits(self) -> bool | None:
        """Return whether everything fits the budget; ``None`` if there is none, or the cost is not known."""
        return is_enough(self.max_cost, None if self.cost is None else self.spent + self.cost)

    def facts(self, *, skip_bad: bool = False) -> Sequence[str]:
        """Return the numbers of a manifest, a line each, and its invalid rows.

        Args:
            skip_bad: Whether the run leaves these out.
        """
        found = self.found
        lines = [
            f"Jobs: {found.jobs:,}"
            + (
                f" ({found.repeated:,} more {'row asks' if found.repeated == 1 else 'rows ask'} for the same)"
                * bool(found.repeated)
            ),
        ]
        if found.earlier is not None:
            states = [(found.started[status], text) for status, text in _STARTED.items()]
            started = [f"{count:,} {text}" for count, text in states if count]
            lines += [f"Started: {', '.join(started)}"] if started else []
            lines.append(f"Left: {found.left:,}")
        lines += [
            f"Images to come: {found.images.total() + found.free:,}"
            + f", {found.free:,} of them free" * bool(found.free),
        ]
        if found.images:
            models = [_model(name, count) for name, count in found.images.most_common()]
            lines.append(f"Models: {', '.join(models)}")
        way = "upload" if self.tells_costs else "send"
        lines.append(f"Pictures to {way}: {found.pictures:,}, {decimal(found.bytes)}")
        lines.append(self._cost_in_words())
        if self.max_cost is not None:
            lines.append(budget_line(self.max_cost, self.fits, "batch"))
        if found.options:
            lines.append(f"Columns sent as options: {_listed(found.options)}")
        if found.extra:
            lines.append(f"Columns kept in results.jsonl, not sent: {_listed(found.extra)}")
        lines += _skipped(found)
        if found.skipped:
            more = found.skipped.total() - len(found.skipped_names)
            names = [f"  {printable(name)}" for name in found.skipped_names]
            lines += [*names, f"  and {more:,} more"] if more else names
        if not found.jobs and self.has_files:
            lines.append(nothing(has_files=True))
        return lines if not found.bad else [*lines, *complaints(found, skip_bad=skip_bad)]

    def _cost_in_words(self) -> str:
        if not self.tells_costs:
            return "Estimated cost: not known; this service tells no prices"
        if self.cost is None:
            return "Estimated cost: not known before the first results"
        earlier = self.found.earlier
        if earlier is None:
            return f"Estimated cost: {dollars(self.cost)}, for all of it"
        certain = self._price(self._images() - earlier.doubtful)
        line = f"Estimated cost: {dollars(certain)}, in addition to {dollars(self.spent)} so far"
        if not earlier.doubtful:
            return line
        count = earlier.jobs_in_doubt
        jobs = "the job in doubt was" if count == 1 else f"the {count:,} jobs in doubt were"
        return f"{line}; up to {dollars(self._price(earlier.doubtful))} more if {jobs} executed"

    def record(self) -> Record:
        """Return the numbers and the invalid rows for ``--json``."""
        found = self.found
        return {
            "jobs": found.jobs,
            "repeated": found.repeated,
            **{str(status): found.started[status] for status in _STARTED},
            "left": found.left,
            "images": dict(found.images),
            "free": found.free,
            "pictures": found.pictures,
            "bytes": found.bytes,
            "spent": round(self.spent, 6),
            "estimated_cost": None if self.cost is None else round(self.cost, 6),
            "max_cost": self.max_cost,
            "fits": self.fits,
            "options": list(found.options),
            "extra": list(found.extra),
            "skipped": dict(found.skipped),
            "skipped_names": list(found.skipped_names),
            "bad_count": found.bad_count,
            "bad": [{"place": row.location, "complaint": row.complaint} for row in found.bad],
        }
