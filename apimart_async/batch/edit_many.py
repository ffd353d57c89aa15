"""``run_many``, ``edit_many`` and ``read_outcomes``: run a batch, and read the outcomes of its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, cast

from apimart_async.applerouter import AsyncAppleRouter
from apimart_async.arguments import check_types, wrong_type
from apimart_async.batch.backends import ApimartBackend, AppleRouterBackend
from apimart_async.batch.context import BatchOptions
from apimart_async.batch.journal.opening import open_journal, read_records
from apimart_async.batch.runner import Runner
from apimart_async.batch.shutdown import Shutdown
from apimart_async.client import AsyncApimart
from apimart_async.transport.object_storage import any_path

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
    from contextlib import AbstractAsyncContextManager

    from apimart_async.batch.backends import Backend
    from apimart_async.batch.job import Job, Outcome
    from apimart_async.batch.journal.protocol import Journal
    from apimart_async.batch.progress import Progress
    from apimart_async.config import Check


def run_many(
    client: AsyncApimart | AsyncAppleRouter,
    jobs: Iterable[Job] | AsyncIterable[Job],
    *,
    output: str | os.PathLike[str],
    journal: Journal | str | os.PathLike[str] | None = None,
    max_in_flight: int = 256,
    max_uploads: int = 32,
    max_downloads: int = 32,
    max_cost: float | None = None,
    in_doubt: Literal["report", "collect", "resubmit"] = "report",
    retry_failed: bool = False,
    retry_missing: bool = False,
    timeout: float | None = None,
    check: Check | None = None,
    max_retry_after: float = 3600.0,
    on_progress: Callable[[Progress], object] | None = None,
    shutdown: Shutdown | None = None,
) -> AbstractAsyncContextManager[AsyncIterator[Outcome]]:
    """Run many jobs of any operation, each paid at most once, and save the results. Billable.

    ``edit_many`` is another name of it.

    Every step is written to a journal before the next one, so that the batch can be killed at any moment and
    run again: saved jobs are skipped, jobs that are paid for are finished, and the rest is done. A job that
    fails is an outcome, not the end of the batch.

    Args:
        client: Client of the service, open for as long as the batch runs.
        jobs: Jobs, taken lazily: memory does not grow with their number. A plain generator runs in worker
            threads.
        output: Folder for the images, for ``results.jsonl``, which lists every job once the batch has ended,
            and by default for the journal, in ``.batch``. It is created when it is missing. Or a URL of
            object storage, ``s3://bucket/folder``, ``gs://…`` or ``az://…``, as for ``images.save``;
            ``journal`` is then needed.
        journal: Path of a journal elsewhere on this machine; ``postgresql://…`` for a journal that several
            processes and machines share; ``":memory:"`` for a journal that does not survive the batch; or an
            object with the methods of ``Journal``.
        max_in_flight: Maximum number of jobs between their submit and the end of their task, 1 or more;
            default 256.
        max_uploads: Maximum number of concurrent uploads, 1 or more; default 32. An image is uploaded once
            for all jobs and runs, and again before its 72 h are over.
        max_downloads: Maximum number of jobs whose images are downloaded at the same time, 1 or more; default
            32.
        max_cost: USD that the batch may cost, more than 0, over all runs with its journal and including jobs
            in flight; with a journal in PostgreSQL, of all processes together. No limit by default. The price
            of a model is learnt from its tasks: until the first has ended, one runs at a time, in each
            process, at the price that the service quotes.
        in_doubt: How to treat jobs whose paid request was cut off before its answer: ``"report"``, the
            default, reports them. ``"collect"`` sends those again under the same idempotency key whose model
            promises to execute a key once, while the service remembers it, and reports the others.
            ``"resubmit"`` sends all of them again; a service that does not honour the key then bills them
            twice.
        retry_failed: Whether to submit jobs again that the service refused, or whose task failed, in an
            earlier run; default False.
        retry_missing: Whether to submit jobs of an earlier run again whose task the service does not know,
            which may pay for them twice: look at the account first. Each task is polled before, for at least
            a minute. By default such a job is an unfinished outcome, and the next run polls its task again.
        timeout: Seconds to wait for each task; ``Poll.timeout`` of the client (600) by default. A task that
            takes longer is an unfinished outcome, which the next run continues.
        check: Whether paid requests are checked against the schema of their model, ``"schema"`` or ``"off"``;
            ``check`` of the client by default. A job that its model does not take fails, and is free.
        max_retry_after: Longest ``Retry-After``, in seconds, that the batch waits after a 429; default
            3600. A longer one ends the batch. After a 429 without ``Retry-After``, the batch waits for any
            length of time.
        on_progress: Called with a ``Progress`` five times a second, and at the end.
        shutdown: Ends the batch early: once it is requested, no further jobs are started, those in flight are
            finished, and the iterator ends.

    Returns:
        A context manager whose value is an asynchronous iterator of outcomes, in the order jobs end.

    Raises:
        JournalInUseError: On entering, another batch is using the journal.
        JournalError: On entering, the journal is damaged, of a newer version or cannot be written; nothing
            was sent. From the iterator, it cannot be written any more.
        AuthenticationError: From the iterator, the key is not accepted.
        InsufficientBalanceError: From the iterator, the balance is used up.
        RateLimitError: From the iterator, a quota is used up, or ``Retry-After`` is above
            ``max_retry_after``.
        BudgetExceededError: From the iterator, the next job could pass ``max_cost``.
        APIConnectionError: From the iterator, the service cannot be reached any more.
        DownloadError: On entering, or from the iterator, the output folder cannot be written, or the bucket
            is missing or not open to the credentials; on entering, nothing was sent.
        InvalidArgumentError: An argument is out of range, or of another type.

    The errors from the iterator come after everything that was in flight has ended, and say how to continue.
    An error of ``jobs`` itself comes after all jobs before it have ended. Leaving early and cancellation let
    paid requests in flight get their answer within 5 seconds and leave everything else to the next run.
    """
    if not isinstance(cast("object", client), AsyncApimart | AsyncAppleRouter):
        expected = (
            "an AsyncApimart or an AsyncAppleRouter (apimart_async.sync has run_many for blocking clients)"
        )
        raise wrong_type("client", expected, client)
    check_types(jobs=jobs)
    options = BatchOptions(
        output=output,
        max_in_flight=max_in_flight,
        max_uploads=max_uploads,
        max_downloads=max_downloads,
        max_cost=max_cost,
        in_doubt=in_doubt,
        retry_failed=retry_failed,
        retry_missing=retry_missing,
        timeout=timeout,
        max_retry_after=max_retry_after,
        on_progress=on_progress,
        shutdown=Shutdown() if shutdown is None else shutdown,
    )
    backend: Backend = (
        AppleRouterBackend(client)
        if isinstance(client, AsyncAppleRouter)
        else ApimartBackend(client if check is None else client.with_options(check=check))
    )
    return Runner(backend, jobs, open_journal(journal, output), options)


edit_many = run_many


def read_outcomes(
    output: str | os.PathLike[str], *, journal: str | os.PathLike[str] | None = None
) -> Iterator[Outcome]:
    """Yield the outcome of every job of a batch, in the order of their start; changes nothing, and blocks.

    A batch that is running can be read. Its jobs in flight are ``"unfinished"``, or ``"in_doubt"`` from their
    paid request until the answer.

    Args:
        output: Folder of the batch.
        journal: Path of its journal, when that is elsewhere, or its URL ``postgresql://…``.

    Raises:
        JournalError: There is no journal, it is damaged or of a newer version, or cannot be reached.
        InvalidArgumentError: The URL is malformed, the extra ``postgres`` is not installed, or the output is
            in object storage and no journal is named.
    """
    check_types(output=output)
    directory = any_path(output)
    return (record.outcome(directory) for record in read_records(journal, output))
