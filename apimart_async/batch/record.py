"""A job as the journal knows it: its state, and how one state becomes the next. Pure.

    intent ──► submitted ──► completed ──► saved
       │            └────────────┴───────► failed
       └──► in_doubt, failed

On the way, each state is on disk before the next step is taken:

- ``intent``: the paid request is about to be sent, or has been; nobody here knows its answer. The idempotency
  key and the digest of the payload are known. *Found on restart*: the job is in doubt, and becomes
  ``in_doubt``.
- ``in_doubt``: the request was sent and it is not known whether it was executed. *On restart*: reported. It
  is sent again, under the same key, only with ``in_doubt="resubmit"``.
- ``submitted``: the service took the job and it is paid for; the id of its task is known. *On restart*: the
  task is waited for. Services without tasks skip this state.
- ``completed``: the task has ended with images, whose addresses are known. *On restart*: they are
  downloaded; when the addresses have expired, the task is fetched again first.
- ``saved``: the images are whole on disk. *On restart*: skipped if the files are there, else as
  ``completed``.
- ``failed``: the service refused the job, or its task ended without images; it is free. *On restart*:
  reported, and begun anew under a new key with ``retry_failed=True``. A job that failed before its paid
  request, such as one whose image cannot be read, has no key; it is always begun anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import attrs

from apimart_async import errors
from apimart_async.batch.job import Job, Outcome, Status
from apimart_async.models import ImageSet, Task

if TYPE_CHECKING:
    from pathlib import Path

State: TypeAlias = Literal["intent", "in_doubt", "submitted", "completed", "saved", "failed"]

_STATUSES: Final[Mapping[State, Status]] = {
    "intent": "in_doubt",
    "in_doubt": "in_doubt",
    "submitted": "unfinished",
    "completed": "unfinished",
    "saved": "saved",
    "failed": "failed",
}


@attrs.frozen
class Failure:
    """An error as it is kept.

    Attributes:
        type: Name of its class.
        message: What went wrong.
        status: HTTP status.
        code: The service's error code.
        request_id: What the service calls the request.
    """

    type: str
    message: str
    status: int | None = None
    code: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Keep what matters of an error."""
        kind = type(error).__name__
        if not isinstance(error, errors.ApimartError):
            return cls(kind, str(error) or kind)
        return cls(kind, error.message, error.status, error.code, error.request_id)

    def error(self, record: Record) -> errors.ApimartError:
        """Return an error of the same class, about the record's task."""
        kind = getattr(errors, self.type, None)
        if not isinstance(kind, type) or not issubclass(kind, errors.ApimartError):
            kind = errors.ApimartError
        return kind(
            self.message,
            status=self.status,
            code=self.code,
            request_id=self.request_id,
            task_id=record.task.id if record.task else None,
            idempotency_key=record.key,
        )


@attrs.frozen(kw_only=True)
class Record:
    """One row of a journal.

    Attributes:
        id: Of the job.
        state: Where it stands.
        payload: Digest of what the request asks for.
        image: What was edited, for people: a path, an address or a word.
        prompt: As it was sent.
        model: As it was sent.
        n: How many variants.
        name: Of the files, if one was given.
        options: Further fields of the request, for people.
        key: Idempotency key of the last paid request; ``None`` when there was none.
        task: As last seen, once it is known.
        images: What a service without tasks answered, until it is saved.
        paths: Files, relative to the output directory.
        error: Why it failed or is in doubt, or what the last try to finish it met.
        cost: USD.
        seconds: Spent on it, over all runs.
        changed_at: When the row was written.
    """

    id: str
    state: State
    payload: str
    image: str
    prompt: str
    model: str
    n: int = 1
    name: str | None = None
    options: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    key: str | None = None
    task: Task | None = None
    images: ImageSet | None = None
    paths: tuple[str, ...] = ()
    error: Failure | None = None
    cost: float | None = None
    seconds: float = 0.0
    changed_at: datetime = attrs.field(factory=lambda: datetime.now(UTC))

    @property
    def may_have_been_billed(self) -> bool:
        """Tell whether it may cost something that is not in ``cost``."""
        return self.cost is None and self.state not in {"saved", "failed"}

    def submitted(self, task: Task) -> Record:
        """Return it with the task that the service took it as."""
        return self._changed("submitted", task=task, error=None)

    def in_doubt(self, error: Exception | None) -> Record:
        """Return it as one whose paid request may or may not have been executed."""
        return self._changed("in_doubt", error=Failure.of(error) if error else None)

    def completed(self, result: Task | ImageSet) -> Record:
        """Return it with its images, not saved yet."""
        if isinstance(result, ImageSet):
            return self._changed("completed", images=result, error=None)
        return self._changed("completed", task=result, cost=result.cost, error=None)

    def saved(self, paths: tuple[str, ...], seconds: float) -> Record:
        """Return it with its files; their addresses are not needed any more, and may be the images."""
        task = self.task and attrs.evolve(self.task, images=())
        return self._changed("saved", task=task, images=None, paths=paths, error=None, seconds=seconds)

    def lost(self) -> Record:
        """Return it as one whose files are gone: they are to be fetched again."""
        return self._changed("completed", paths=())

    def failed(self, error: Exception, seconds: float) -> Record:
        """Return it as one that has no images and never will."""
        task = getattr(error, "task", None) or self.task
        return self._changed("failed", task=task, error=Failure.of(error), seconds=seconds)

    def met(self, error: Exception, seconds: float) -> Record:
        """Return it where it stands, with what the last try to finish it met."""
        return self._changed(self.state, error=Failure.of(error), seconds=seconds)

    def _changed(self, state: State, **changes: Any) -> Record:  # noqa: ANN401 attributes of any type
        return attrs.evolve(self, state=state, changed_at=datetime.now(UTC), **changes)

    def outcome(self, directory: Path, *, job: Job | None = None, resumed: bool = True) -> Outcome:
        """Return what the row says of its job.

        Args:
            directory: That the paths are relative to.
            job: As it was given; by default as the row describes it.
            resumed: Whether an earlier run had begun it.
        """
        return Outcome(
            job=job or Job(self.image, self.prompt, self.model, self.n, self.id, self.name, self.options),
            status=_STATUSES[self.state],
            task=self.task,
            paths=tuple(directory / path for path in self.paths),
            error=self.error.error(self) if self.error else None,
            cost=self.cost,
            seconds=self.seconds,
            resumed=resumed,
            id=self.id,
        )
