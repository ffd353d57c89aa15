"""``edit_many``: a batch of jobs from its first to its last outcome."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from apimart_async import errors
from apimart_async.batch.conducting import Conductor, Options
from apimart_async.batch.drain import Drain
from apimart_async.batch.results import journal_path
from apimart_async.batch.sqlite import SqliteJournal

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
    from contextlib import AbstractAsyncContextManager

    from apimart_async.applerouter import AsyncAppleRouter
    from apimart_async.batch.job import Job, Outcome
    from apimart_async.batch.journal import Journal
    from apimart_async.batch.progress import Progress
    from apimart_async.client import AsyncApimart


def edit_many(
    client: AsyncApimart | AsyncAppleRouter,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    output: str | os.PathLike[str],
    journal: Journal | str | os.PathLike[str] | None = None,
    max_in_flight: int = 256,
    max_uploads: int = 32,
    max_downloads: int = 32,
    max_cost: float | None = None,
    in_doubt: Literal["report", "resubmit"] = "report",
    retry_failed: bool = False,
    timeout: float | None = None,
    on_progress: Callable[[Progress], object] | None = None,
    drain: Drain | None = None,
) -> AbstractAsyncContextManager[AsyncIterator[Outcome]]:
    """Edit many images, each paid at most once, and save the results. Billable.

    Every step is written to a journal before the next one, so that the batch can be killed at any moment and
    run again: what is saved is skipped, what is paid for is finished, and the rest is done. A job that fails
    is an outcome, not the end of the batch.

    Args:
        client: Open for as long as the batch runs.
        jobs: Taken lazily: memory does not grow with their number. A plain generator runs in worker threads.
        output: Folder for the images, for ``results.jsonl``, which lists every job once the batch has ended,
            and for the journal in ``.batch``. It is made when it is missing.
        journal: Path of a journal elsewhere on this machine, or another kind of journal.
        max_in_flight: Jobs from their submit until their task has ended, at most.
        max_uploads: Uploads at once. The same image is uploaded once for all jobs and runs, and again
            before its 72 h are over.
        max_downloads: Jobs whose images are fetched at once.
        max_cost: USD that the batch may cost, over all runs with its journal, what is in flight included.
            The price of a model is learnt from its tasks: until the first has ended, one runs at a time.
        in_doubt: What to do with jobs whose paid request was cut off before its answer: ``"report"`` them,
            or ``"resubmit"`` them under the same idempotency key. A service that does not honour the key
            then bills them twice.
        retry_failed: Submit jobs again that the service refused, or whose task failed, in an earlier run.
        timeout: Seconds to wait for each task; ``Poll.timeout`` of the client (600) by default. A task that
            takes longer is an unfinished outcome, which the next run takes up.
        on_progress: Called with a ``Progress`` a few times a second, and at the end.
        drain: To end early: once it is requested, nothing more is begun, what is in flight is finished, and
            the iterator ends.

    Returns:
        A context manager whose value is an asynchronous iterator of outcomes, in the order jobs end.

    Raises:
        JournalInUseError: On entering, another batch is using the journal.
        JournalError: On entering, the journal is damaged, of a newer version or cannot be written; nothing
            was sent. From the iterator, it cannot be written any more.
        AuthenticationError: From the iterator, the key is not accepted.
        InsufficientBalanceError: From the iterator, the balance is used up.
        BudgetExceededError: From the iterator, the next job could pass ``max_cost``.
        APIConnectionError: From the iterator, the service cannot be reached any more.
        DownloadError: On entering, or from the iterator, the output folder cannot be written.
        InvalidArgumentError: An argument cannot be right.

    The errors from the iterator come after everything that was in flight has ended, and say how to go on.
    What ``jobs`` itself raises comes after all jobs it gave have ended. Leaving early, or cancelling it, lets
    paid requests that are under way get their answer within 5 seconds and leaves everything else to the next
    run.
    """
    for name, number in (
        ("max_in_flight", max_in_flight),
        ("max_uploads", max_uploads),
        ("max_downloads", max_downloads),
        ("max_cost", max_cost),
        ("timeout", timeout),
    ):
        if number is not None and not number > 0:
            raise errors.InvalidArgumentError(f"{name} must be more than 0, not {number!r}.")
    if in_doubt not in {"report", "resubmit"}:
        raise errors.InvalidArgumentError(f"in_doubt must be 'report' or 'resubmit', not {in_doubt!r}.")
    if max_cost is not None and not hasattr(client, "tasks"):
        raise errors.InvalidArgumentError(
            "max_cost cannot be kept: this service does not tell what edits cost."
        )
    if journal is None:
        journal = journal_path(output)
    options = Options(
        client=client,
        jobs=jobs,
        directory=Path(output),
        journal=SqliteJournal(journal) if isinstance(journal, (str, os.PathLike)) else journal,
        max_in_flight=max_in_flight,
        max_uploads=max_uploads,
        max_downloads=max_downloads,
        max_cost=max_cost,
        resubmits=in_doubt == "resubmit",
        retries_failed=retry_failed,
        timeout=timeout,
        on_progress=on_progress,
        drain=drain or Drain(),
    )
    return Conductor(options)
