"""The options of a batch, and everything that its jobs share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import anyio
import attrs

from apimart_async import errors
from apimart_async.arguments import check_types, is_whole, wrong_type
from apimart_async.batch.backends import Backend
from apimart_async.batch.budget import Budget
from apimart_async.batch.cooldown import Cooldown
from apimart_async.batch.job import Job
from apimart_async.batch.journal.protocol import Journal
from apimart_async.batch.journal.shared_rate import SharedRate
from apimart_async.batch.progress import JobProgress, Progress
from apimart_async.batch.shutdown import Shutdown, ShutdownState
from apimart_async.resources.uploads import BatchUploads
from apimart_async.transport.object_storage import any_path

if TYPE_CHECKING:
    import os


def _path(output: str | os.PathLike[str]) -> Path:
    check_types(output=output)
    return any_path(output)


@attrs.frozen(kw_only=True)
class BatchOptions:
    """The options of a batch; those of ``edit_many`` are documented there.

    Attributes:
        grace: Seconds that a paid request in flight gets for its answer when the batch is cancelled; more
            than 0, default 5.
        template: Returns the name template of a job's files; by default it is made of ``Job.name``, or of the
            task's id.
        write_results: Whether to write ``results.jsonl`` at the end; default true.
        on_job: Called with a ``JobProgress`` when a job enters a stage, and after each poll of its task.

    Raises:
        InvalidArgumentError: An option is out of range.
    """

    output: Path = attrs.field(converter=_path)
    max_in_flight: int = 256
    max_uploads: int = 32
    max_downloads: int = 32
    max_cost: float | None = None
    in_doubt: Literal["report", "collect", "resubmit"] = "report"
    retry_failed: bool = False
    retry_missing: bool = False
    timeout: float | None = None
    max_retry_after: float = 3600.0
    grace: float = 5.0
    template: Callable[[Job], str] | None = None
    write_results: bool = True
    on_progress: Callable[[Progress], object] | None = None
    on_job: Callable[[JobProgress], object] | None = None
    shutdown: Shutdown = attrs.field(factory=Shutdown)

    def __attrs_post_init__(self) -> None:
        names = ("retry_failed", "retry_missing", "max_cost", "timeout", "max_retry_after")
        functions = ("template", "on_progress", "on_job")
        check_types(**{name: getattr(self, name) for name in (*names, *functions)})
        if not isinstance(cast("object", self.shutdown), Shutdown):
            raise wrong_type("shutdown", "a Shutdown", self.shutdown)
        for name in ("max_in_flight", "max_uploads", "max_downloads"):
            number: object = getattr(self, name)
            if not is_whole(number) or cast("int", number) < 1:
                raise errors.InvalidArgumentError(f"{name} must be a whole number above 0, not {number!r}.")
        for name in ("max_cost", "timeout", "max_retry_after", "grace"):
            amount: float | None = getattr(self, name)
            if amount is not None and not amount > 0:
                raise errors.InvalidArgumentError(f"{name} must be more than 0, not {amount!r}.")
        if self.in_doubt not in ("report", "collect", "resubmit"):
            raise errors.InvalidArgumentError(
                f"in_doubt must be 'report', 'collect' or 'resubmit', not {self.in_doubt!r}."
            )


@attrs.frozen(kw_only=True)
class Context:
    """Everything that the jobs of a batch share.

    Attributes:
        options: Options of the batch.
        backend: The service.
        journal: The journal, already entered.
        shutdown: Decides whether further jobs are started.
        budget: Admits submits.
        uploads: Keeps uploads in the journal, and limits those under way.
        upload_cooldown: Pauses uploads after a 429.
        submit_cooldown: Pauses submits after a 429.
        in_flight: Semaphore for jobs from their submit until their task has ended.
        downloads: Semaphore for jobs whose images are downloaded.
        rate: Limit on the paid requests of all processes that share the journal, if there is one.
        running: Ids of the jobs in progress, each with the event of its end.
    """

    options: BatchOptions
    backend: Backend
    journal: Journal
    shutdown: ShutdownState
    budget: Budget
    uploads: BatchUploads
    upload_cooldown: Cooldown
    submit_cooldown: Cooldown
    in_flight: anyio.Semaphore
    downloads: anyio.Semaphore
    rate: SharedRate | None = None
    running: dict[str, anyio.Event] = attrs.field(factory=dict[str, anyio.Event])
