"""``estimate``: the expected cost of jobs, before a batch is run."""

from __future__ import annotations

from collections import Counter
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

import attrs
from anyio import to_thread

from apimart_async.arguments import check_types, wrong_type
from apimart_async.batch.backends import ApimartBackend
from apimart_async.batch.job import Job
from apimart_async.batch.journal.opening import check_location, existing_journal_path, is_url, read_records
from apimart_async.batch.manifest.earlier import Earlier
from apimart_async.batch.runner import lazily
from apimart_async.client import AsyncApimart
from apimart_async.models import Quote
from apimart_async.transport.concurrency import for_each

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, Iterable, Mapping

_JOBS_AT_ONCE: Final = 64


@attrs.frozen
class Estimate:
    """The expected cost of jobs; the service bills by the images it delivers.

    Attributes:
        jobs: Jobs that the batch would submit.
        images: Images that it would be billed for.
        cost: USD; ``None`` if the price of a model is not known.
        quotes: Price, images and cost of each model whose price is known.
        unpriced: Models whose price is not known.
        repeated: Further jobs that are equal to one of these, and cost nothing.
        started: Further jobs that an earlier run has started, and that are not submitted again.
        invalid: Further jobs that cannot be submitted, such as those with a missing file, and cost nothing.
    """

    jobs: int
    images: int
    cost: float | None
    quotes: tuple[Quote, ...] = ()
    unpriced: tuple[str, ...] = ()
    repeated: int = 0
    started: int = 0
    invalid: int = 0


async def estimate(
    client: AsyncApimart,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    output: str | os.PathLike[str] | None = None,
    journal: str | os.PathLike[str] | None = None,
) -> Estimate:
    """Estimate the cost of jobs before ``run_many`` runs them. Free.

    The images are read, because equal jobs are paid once, and nothing but a request for prices is sent. A
    price is the highest that the journal has, or else that of the catalogue of the service, as ``quote``
    returns it, or else that of its documentation. ``apimart batch --check`` prints the same estimate.

    Args:
        client: Fetches the prices.
        jobs: Jobs, as for ``run_many``; memory grows by about 150 bytes per job.
        output: Folder of the batch: jobs that its journal has and the next run does not submit cost nothing.
        journal: Path of its journal, when that is elsewhere, or its URL ``postgresql://…``.

    Returns:
        The number of jobs and images, and their cost in all and by model.

    Raises:
        JournalError: The journal is damaged or of a newer version, or cannot be reached.
        APIError: The request for prices failed after all retries.
        InvalidArgumentError: An argument has another type, or the output is in object storage and no journal
            is named.

    Cancellation leaves nothing behind.
    """
    if not isinstance(cast("object", client), AsyncApimart):
        raise wrong_type("client", "an AsyncApimart (apimart_async.sync has estimate for an Apimart)", client)
    check_types(jobs=jobs)
    check_location(journal)
    if output is not None:
        check_types(output=output)
    backend = ApimartBackend(client)
    started, prices = await to_thread.run_sync(_read_journal, output, journal)
    seen: set[str] = set()
    images: Counter[str] = Counter()
    counts: Counter[str] = Counter()

    async def count(job: Job) -> None:
        if not isinstance(cast("object", job), Job):
            raise wrong_type("Each of jobs", "a Job", job)
        try:
            record = (await backend.prepare(job)).record
        except Exception:  # noqa: BLE001 the batch reports it as the outcome of the job
            counts["invalid"] += 1
            return
        if record.id in seen:
            counts["repeated"] += 1
        elif record.id in started:
            counts["started"] += 1
        else:
            counts["jobs"] += 1
            images[record.model] += record.billable
        seen.add(record.id)

    chunk: list[Job] = []
    async with aclosing(lazily(jobs)) as taken:
        async for job in taken:
            chunk.append(job)
            if len(chunk) == _JOBS_AT_ONCE:
                await for_each(count, chunk)
                chunk.clear()
    await for_each(count, chunk)
    quotes = [
        Quote(model, n, price, round(n * price, 9))
        for model, n in sorted((+images).items())
        if (price := prices.get(model) or await backend.price(model)) is not None
    ]
    unpriced = tuple(sorted((+images).keys() - {quote.model for quote in quotes}))
    return Estimate(
        jobs=counts["jobs"],
        images=images.total(),
        cost=None if unpriced else round(sum(quote.cost for quote in quotes), 9),
        quotes=tuple(quotes),
        unpriced=unpriced,
        repeated=counts["repeated"],
        started=counts["started"],
        invalid=counts["invalid"],
    )


def _read_journal(
    output: str | os.PathLike[str] | None, journal: str | os.PathLike[str] | None
) -> tuple[set[str], Mapping[str, float]]:
    """Return the ids of the jobs that the next run does not submit, and the price of each model; blocks."""
    sums, started = Earlier(), set[str]()
    path = existing_journal_path(output) if journal is None and output is not None else journal
    if path is not None and (is_url(path) or Path(path).is_file()):
        for record in read_records(path, "", may_be_missing=True):
            sums.add(record)
            if not (record.state == "failed" and record.key is None):
                started.add(record.id)
    return started, sums.prices
