"""A job in the journal: its state, the changes from one state to the next, and its row. Pure.

    intent ──► submitted ──► completed ──► saved
       │            └────────────┴───────► failed
       └──► in_doubt, failed

Each state is on disk before the next step is taken:

- ``intent``: the paid request is about to be sent, or has been, and its answer is not known. The idempotency
  key and the digest of the payload are known. *On restart*: the job becomes ``in_doubt``.
- ``in_doubt``: the request was sent and may or may not have been executed. *On restart*: reported. It is sent
  again, under the same key, with ``in_doubt="collect"`` if the service promises to execute the key once,
  and with ``in_doubt="resubmit"`` in any case.
- ``submitted``: the service accepted the job and it is paid for; the id of its task is known. *On restart*:
  the task is waited for. If the service does not know the task, the job stays in this state, and is submitted
  anew under a new key only with ``retry_missing=True``. Services without tasks skip this state.
- ``completed``: the task has ended with images, whose URLs are known. *On restart*: they are downloaded; when
  the URLs have expired, the task is fetched again first; if the service does not know the task any more, the
  job is ``submitted`` again.
- ``saved``: the images are whole on disk. *On restart*: skipped if the files exist, else as ``completed``.
- ``failed``: the service refused the job, or its task ended without images; it is free. *On restart*:
  reported, and started anew under a new key with ``retry_failed=True``. A job that failed before its paid
  request, for example because its image cannot be read, has no key; it is always started anew.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import attrs

from apimart_async import errors
from apimart_async.batch.job import Job, Outcome, Status
from apimart_async.batch.nesting import is_too_deep
from apimart_async.models import ImageSet, Task, Upload
from apimart_async.resources.submission import Operation, is_free
from apimart_async.transport.json import converter, dumps_anything, structure
from apimart_async.transport.media.forms import is_named_file

if TYPE_CHECKING:
    from pathlib import Path

State: TypeAlias = Literal["intent", "in_doubt", "submitted", "completed", "saved", "failed"]

Row: TypeAlias = tuple[str, str, str | None, str, int, float | None, str]
"""Id, state, key, model, number of images, cost, and all other fields as JSON."""

_STATUSES: Final[Mapping[State, Status]] = {
    "intent": "in_doubt",
    "in_doubt": "in_doubt",
    "submitted": "unfinished",
    "completed": "unfinished",
    "saved": "saved",
    "failed": "failed",
}
_LONGEST: Final = 512
_CREDENTIALS: Final = re.compile(r"\A((?:s3|gs|az)://)[^/]*@", re.IGNORECASE)
_NOT_FOUND: Final = 404
_MOST_SECONDS: Final = 1e10
"""More than three hundred years."""

_UNREADABLE: Final = (
    *(ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError, OSError),
    errors.APIResponseValidationError,
)


class UnreadableRowError(Exception):
    """A row was not written by this package, or has been damaged since."""


@attrs.frozen
class Failure:
    """An error as the journal keeps it.

    Attributes:
        type: Name of its class.
        message: Its message.
        status: HTTP status.
        code: The service's error code.
        request_id: The service's id of the request.
    """

    type: str
    message: str
    status: int | None = None
    code: str | None = None
    request_id: str | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return the parts of an error that are kept."""
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


@attrs.frozen(kw_only=True, slots=False)
class Record:
    """One row of a journal.

    Attributes:
        id: Id of the job.
        state: State of the job.
        payload: Digest of the request; empty if the job could not be prepared.
        image: The image in words, for people: a path, a URL or a description.
        prompt: Prompt of the request.
        model: Model of the request.
        n: Number of variants.
        name: Name of the files, if one was given.
        options: Further fields of the request, for people.
        extra: Data of the caller.
        key: Idempotency key of the last paid request; ``None`` when there was none.
        base_url: Base URL that the last paid request was sent to, or may have been.
        task: Task as last seen, once there is one.
        images: The answer of a service without tasks, until it is saved.
        paths: Files, relative to the output directory. A completed record has paths if its files were saved
            once and are missing now.
        error: Reason why the job failed or is in doubt, or error of the last attempt to finish it.
        cost: USD.
        seconds: Time spent on it, over all runs.
        changed_at: Time at which the row was written.
        sent_at: Time of the first paid request with the key; ``None`` if there was none.
        operation: Operation of the job.
        roles: Roles of its images.
        position: Position among the jobs of the run that submitted it, from 0.
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
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    key: str | None = None
    base_url: str | None = None
    task: Task | None = None
    images: ImageSet | None = None
    paths: tuple[str, ...] = ()
    error: Failure | None = None
    cost: float | None = None
    seconds: float = 0.0
    changed_at: datetime = attrs.field(factory=lambda: datetime.now(UTC))
    sent_at: datetime | None = None
    operation: Operation = "edit"
    roles: tuple[str, ...] = ()
    position: int | None = None

    @classmethod
    def describe(cls, job: Job, model: str, *, job_id: str | None = None, payload: str = "") -> Record:
        """Return a row that describes a job in words; its id is a digest of them unless one is given."""
        if is_too_deep([job.options, job.extra]):  # the job fails, and no row could hold the values
            job = attrs.evolve(job, options={}, extra={})
        image = "" if job.image is None else _in_words(job.image)
        if job_id is None:
            words = [image, str(job.prompt), str(job.model), repr(job.n), repr(job.options)]
            words += [] if job.operation == "edit" else [str(job.operation)]
            job_id = hashlib.sha256("\0".join(words).encode(errors="replace")).hexdigest()[:32]
        return cls(
            id=_storable(job_id),
            state="failed",
            payload=payload,
            image=image,
            prompt=str(job.prompt),
            model=_storable(str(model)),
            n=job.n if type(job.n) is int else 1,
            name=job.name,
            options={
                name: _in_words(value) if name == "mask" or len(repr(value)) > _LONGEST else value
                for name, value in job.options.items()
            },
            extra=job.extra,
            operation=cast("Operation", _storable(str(job.operation))),
            roles=tuple(map(str, job.roles)),
        )

    @property
    def billable(self) -> int:
        """Return the number of images that it may be billed for."""
        return 0 if is_free(self.operation) else self.n

    def intent(self, key: str, seconds: float) -> Record:
        """Return the record with the idempotency key of the paid request that is about to be sent."""
        return self._changed(
            "intent",
            key=key,
            seconds=seconds,
            cost=None if self.billable else 0.0,
            sent_at=datetime.now(UTC),
        )

    def submitted(self, task: Task) -> Record:
        """Return the record with the task that the service started."""
        return self._changed("submitted", task=task, error=None)

    def in_doubt(self, error: Exception | None) -> Record:
        """Return the record of a job whose paid request may or may not have been executed."""
        return self._changed("in_doubt", error=Failure.of(error) if error else None)

    def cut_off(self) -> Record:
        """Return the record of a job in doubt: an earlier run sent its paid request, and has no answer."""
        error = errors.SubmissionIndeterminateError(
            "An earlier run was cut off between its paid request and the answer: it is not known whether it "
            f"was executed. Look at the account before submitting it again; idempotency key {self.key}.",
            idempotency_key=self.key,
        )
        return self.in_doubt(error)

    def completed(self, result: Task | ImageSet) -> Record:
        """Return the record with its images, which are not saved yet."""
        if isinstance(result, ImageSet):
            return self._changed("completed", images=result, cost=result.cost, error=None)
        cost = self.cost if result.cost is None and not self.billable else result.cost
        return self._changed("completed", task=result, cost=cost, error=None)

    def saved(self, paths: tuple[str, ...], seconds: float) -> Record:
        """Return the record with its files, without the URLs of the images, which may hold their content."""
        task = self.task and attrs.evolve(self.task, images=())
        return self._changed("saved", task=task, images=None, paths=paths, error=None, seconds=seconds)

    def lost(self) -> Record:
        """Return the record of a job whose files are missing and, if they stay so, are downloaded again."""
        return self._changed("completed")

    def failed(self, error: Exception, seconds: float) -> Record:
        """Return the record of a job that has no images and will not get any."""
        task = error.task if isinstance(error, errors.TaskError) else None
        return self._changed("failed", task=task or self.task, error=Failure.of(error), seconds=seconds)

    def task_ended(self, error: errors.TaskError, seconds: float) -> Record:
        """Return the record of a job whose task ended without images: failed, or unfinished if it is unknown.

        A task that has completed is paid for, so it must not be started anew, though no image can be found.
        """
        if isinstance(error, errors.TaskResultError) and error.task is not None:
            return self.completed(error.task).with_error(error, seconds)
        if not (isinstance(error, errors.TaskExpiredError) and error.status == _NOT_FOUND):
            cost = (error.task.cost if error.task else None) or self.cost or 0.0
            return attrs.evolve(self.failed(error, seconds), cost=cost, paths=())
        task = self.task and attrs.evolve(self.task, status="submitted", images=())
        return self._changed("submitted", task=task, paths=(), error=Failure.of(error), seconds=seconds)

    @property
    def is_missing(self) -> bool:
        """Tell whether the service did not know its task when it was last asked."""
        error = self.error
        is_unknown = error is not None and (error.type, error.status) == ("TaskExpiredError", _NOT_FOUND)
        return self.state == "submitted" and is_unknown

    @property
    def first_sent_at(self) -> float:
        """Return the time of the first request with its key in unix seconds; 0 if it is not known."""
        return self.sent_at.timestamp() if self.sent_at else 0.0

    def with_error(self, error: Exception, seconds: float) -> Record:
        """Return the record in its state, with the error of the last attempt to finish it."""
        return self._changed(self.state, error=Failure.of(error), seconds=seconds)

    def _changed(self, state: State, **changes: Any) -> Record:  # noqa: ANN401 attributes of any type
        # The result of `attrs.evolve` in a third of the time; each job is changed four times.
        changed = object.__new__(Record)
        changed.__dict__.update(self.__dict__, state=state, changed_at=datetime.now(UTC), **changes)
        return changed

    def outcome(self, directory: Path, *, job: Job | None = None, resumed: bool = True) -> Outcome:
        """Return the outcome of its job.

        Args:
            directory: Base of the relative paths.
            job: The job as it was given; by default as the row describes it.
            resumed: Whether an earlier run had started it.
        """
        described = Job(
            *(self.image or None, self.prompt, self.model, self.n, self.id, self.name),
            *(self.options, self.extra),
            operation=self.operation,
            roles=self.roles,
        )
        return Outcome(
            job=job or described,
            status=_STATUSES[self.state],
            task=self.task,
            paths=tuple(directory / path for path in self.paths) if self.state == "saved" else (),
            error=self.error.error(self) if self.error else None,
            cost=self.cost,
            seconds=self.seconds,
            resumed=resumed,
            id=self.id,
        )

    def to_row(self) -> Row:
        """Return the record as a row.

        The columns are those that are searched and summed; the rest is JSON, so that this version can read
        rows with fields that a later one adds.
        """
        body = {
            "payload": self.payload,
            "image": self.image,
            "prompt": self.prompt,
            "name": self.name,
            "options": dict(self.options),
            "extra": dict(self.extra),
            "base_url": self.base_url,
            "task": converter.unstructure(self.task) if self.task else None,
            "images": converter.unstructure(self.images) if self.images else None,
            "paths": list(self.paths),
            "error": attrs.asdict(self.error) if self.error else None,
            "seconds": self.seconds,
            "changed_at": self.changed_at.timestamp(),
            "sent_at": self.sent_at.timestamp() if self.sent_at else None,
            "operation": None if self.operation == "edit" else self.operation,
            "roles": list(self.roles),
            # From 1, as fields that are false are left out.
            "number": None if self.position is None else self.position + 1,
        }
        text = dumps_anything({name: value for name, value in body.items() if value})
        return self.id, self.state, self.key, self.model, self.n, self.cost, text

    @classmethod
    def from_row(cls, row: Row) -> Record:
        """Read a row.

        Raises:
            UnreadableRowError: The row was not written by this package, or has been damaged since.
        """
        job_id, state, key, model, images, cost, text = row
        try:
            body: dict[str, Any] = json.loads(text)
            _check_types(state, body)
            _check_numbers(images, cost, body.get("seconds", 0.0))
            task, image_set, error = body.get("task"), body.get("images"), body.get("error")
            return cls(
                id=job_id,
                state=cast("State", state),
                payload=body.get("payload", ""),
                image=body.get("image", ""),
                prompt=body.get("prompt", ""),
                model=model,
                n=images,
                name=body.get("name"),
                options=body.get("options", {}),
                extra=body.get("extra", {}),
                key=key,
                base_url=body.get("base_url"),
                task=structure(task, Task, task) if task else None,
                images=structure(image_set, ImageSet, image_set) if image_set else None,
                paths=tuple(body.get("paths", ())),
                error=Failure(**error) if error else None,
                cost=cost,
                seconds=body.get("seconds", 0.0),
                changed_at=datetime.fromtimestamp(body["changed_at"], UTC),
                sent_at=datetime.fromtimestamp(body["sent_at"], UTC) if body.get("sent_at") else None,
                operation=body.get("operation", "edit"),
                roles=tuple(body.get("roles", ())),
                position=body["number"] - 1 if body.get("number") else None,
            )
        except _UNREADABLE as reason:
            raise UnreadableRowError(f"the row of job {job_id!r} cannot be read") from reason


def _storable(text: str) -> str:
    """Return a text without halves of surrogate pairs, which no database takes."""
    return text.encode("utf-8", "backslashreplace").decode()


def _check_types(state: str, body: Mapping[str, Any]) -> None:
    """Check the types of the parts of a row, which may be manipulated.

    Raises:
        TypeError: A part has another type.
    """
    failure = cast("dict[str, Any]", body.get("error") or {})
    fits = (
        state in _STATUSES
        and all(isinstance(body.get(name, ""), str) for name in ("payload", "image", "prompt", "operation"))
        and all(isinstance(body.get(name, {}), dict) for name in ("options", "extra"))
        and all(isinstance(body.get(name), str | None) for name in ("name", "base_url"))
        and isinstance(body.get("number", 0), int)
        and all(isinstance(text, str) for name in ("paths", "roles") for text in body.get(name, ()))
        and all(_is_within(path) for path in body.get("paths", ()))
        and all(isinstance(failure.get(name), str) for name in ("type", "message") if failure)
        and all(isinstance(failure.get(name), str | None) for name in ("code", "request_id"))
        and isinstance(failure.get("status"), int | None)
    )
    if not fits:
        raise TypeError("a value of another type")


def _is_within(path: str) -> bool:
    """Tell whether a path stays in the output folder: an equal job copies the files of a row.

    Raises:
        UnicodeEncodeError: The path holds half a surrogate pair, which no path of this package does.
    """
    path.encode()
    parts = PurePath(path)
    return not parts.anchor and ".." not in parts.parts


def _check_numbers(images: object, cost: object, seconds: object) -> None:
    """Check the numbers that the budget and the report are computed with.

    Raises:
        ValueError: A number would let more jobs pass than the budget allows, or is not a duration.
    """
    is_count = isinstance(images, int) and images >= 0
    is_cost = cost is None or (isinstance(cost, int | float) and 0 <= cost < math.inf)
    is_duration = isinstance(seconds, int | float) and 0 <= seconds <= _MOST_SECONDS
    if not (is_count and is_cost and is_duration):
        raise ValueError("a number out of its range")


def _in_words(image: Any) -> str:  # noqa: ANN401 a caller without a type checker passes anything
    if is_named_file(image):
        return _in_words(image[0] or image[1])
    if isinstance(image, (list, tuple)):
        return ", ".join(map(_in_words, cast("Sequence[Any]", image)))
    if isinstance(image, Upload):
        return image.url
    if isinstance(image, Mapping):
        return ", ".join(map(_in_words, cast("Mapping[str, Any]", image).values()))
    if isinstance(image, bytes):
        return f"{len(image)} bytes"
    # A file object is described by its path; the name of a path is only its last component.
    name: object = None if isinstance(image, PurePath) else getattr(image, "name", None)
    text = _CREDENTIALS.sub(r"\1***@", name if isinstance(name, str) else str(image))
    return text if len(text) <= _LONGEST else f"{text[:40]}… ({len(text)} characters)"
