"""The answers of the services as plain frozen data: picklable, comparable, without a client inside.

``transport/parsing.py`` builds them from JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import attrs

from apimart_async import previews

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"

TERMINAL_STATUSES: Final = frozenset({COMPLETED, FAILED, CANCELLED, EXPIRED})

_SHOWN = 96


def _shorten(value: object) -> str:
    # A data: URL may have megabytes.
    text = repr(value[: 2 * _SHOWN] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…({len(str(value))} characters)"


def _no_raw() -> dict[str, Any]:
    return {}


@attrs.frozen
class Upload:
    """An image on the file host of the service; any number of edits can use it until it expires.

    Attributes:
        url: Public URL of the file.
        filename: Name of the stored file.
        content_type: MIME type that the service detected, for example ``"image/jpeg"``.
        bytes: Size in bytes.
        created_at: Time of the upload.
        expires_at: Time at which the URL expires, 72 h after ``created_at``.
    """

    url: str
    filename: str
    content_type: str
    bytes: int
    created_at: datetime
    expires_at: datetime


@attrs.frozen
class Image:
    """One result image.

    Attributes:
        url: An ``https://`` URL, or a ``data:`` URL that contains the image.
        expires_at: Time at which the URL expires; ``None`` if it does not or the service did not say.
        revised_prompt: The prompt that the model used, if the service reported it.
        task_id: Id of the task that made the image; errors name it.
        index: Position in the result, counted from 1.
        content_type: MIME type such as ``"image/png"``: of the content of a ``data:`` URL, as the answer
            reports it, or by the extension of the URL; ``None`` if none of these tells it. ``images.inspect``
            reads the file itself.
        width: Pixels, of the content of a ``data:`` URL or as the answer reports it; ``None`` otherwise, as
            the answers of APIMart do not report it. ``images.inspect`` reads the file itself.
        height: Pixels, likewise.
    """

    url: str = attrs.field(repr=_shorten)
    expires_at: datetime | None = None
    revised_prompt: str | None = None
    task_id: str | None = None
    index: int | None = None
    content_type: str | None = None
    width: int | None = None
    height: int | None = None

    def _repr_html_(self) -> str:
        return previews.html_of_image(self)


@attrs.frozen
class TaskFailure:
    """The reason of a failed task, as the service reported it.

    Attributes:
        message: Readable reason.
        code: Error code as text.
        type: Error type.
    """

    message: str
    code: str | None = None
    type: str | None = None


@attrs.frozen
class TokenDetails:
    """The tokens of the input or of the output, by kind.

    Attributes:
        cached_tokens: Tokens that were in a cache of the service.
        image_tokens: Tokens of images.
        text_tokens: Tokens of texts.
    """

    cached_tokens: int | None = None
    image_tokens: int | None = None
    text_tokens: int | None = None


@attrs.frozen
class Usage:
    """The tokens that a task has used; ``None`` for a number that the service did not report.

    Attributes:
        input_tokens: Tokens of the prompt and the images that were given.
        output_tokens: Tokens of the result.
        total_tokens: Sum of both.
        input_tokens_details: Tokens of the input by kind.
        output_tokens_details: Tokens of the output by kind.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None
    input_tokens_details: TokenDetails | None = None
    output_tokens_details: TokenDetails | None = None


@attrs.frozen
class Task:
    """One run of a model in its last known state.

    Attributes:
        id: Id of the task; another process can fetch the task with it. ``None`` if the service answered the
            submit with the result itself: such a task has ended, can be saved, and cannot be fetched.
        status: ``submitted``, ``pending``, ``queued``, ``processing``, ``in_progress``, ``completed``,
            ``failed``, ``cancelled``, ``expired``, or any other status that the service sent, unchanged.
        progress: Percent, 0 to 100; ``None`` if the service did not report it.
        images: Every image, in order; empty until completed.
        cost: USD that the service keeps: ``None`` while the task runs, 0 once a failed task is refunded. The
            amount that is reserved meanwhile is in ``raw``.
        credits_cost: The same in credits of the service.
        created_at: Time at which the service accepted the task, by the clock of the service; until it reports
            that, time of the submit.
        completed_at: Time at which the task ended.
        estimated_time: Duration in seconds that the service expected.
        actual_time: Duration in seconds.
        error: Reason of a failure.
        idempotency_key: Idempotency key of the submit, if this process submitted the task.
        model: Model of the task, if this process submitted it or the service reported it.
        n: Number of images that were asked for, if this process submitted the task.
        submitted_at: Time of the submit by the clock of this machine, if this package submitted the task. The
            age of the task is computed from it, never from ``created_at``.
        resolution: Resolution that was asked for, such as ``"4k"``, if this process submitted the task.
        usage: Tokens that the task has used, if the service reported them.
        sibling_ids: Ids of further tasks that the same submit has started, each with a part of the images.
            ``tasks.wait`` and ``tasks.get`` return the images and the cost of all of them together.
        is_replay: Whether the service marked its answer to the submit as a repetition of an earlier answer
            under the same key. ``False`` if the submit was sent again and the answer was not marked: the work
            may have been billed twice. ``None`` if it was sent once, or in another process.
        base_url: Base URL that the task was submitted to, if this package submitted it. A client with several
            base URLs polls there first, and believes only that address that it does not know the task.
        raw: The JSON object of the service, with fields that this class does not have; not compared.
    """

    id: str | None
    status: str
    progress: float | None = None
    images: tuple[Image, ...] = ()
    cost: float | None = None
    credits_cost: float | None = None
    created_at: datetime | None = None
    completed_at: datetime | None = None
    estimated_time: float | None = None
    actual_time: float | None = None
    error: TaskFailure | None = None
    idempotency_key: str | None = None
    model: str | None = None
    n: int | None = None
    submitted_at: datetime | None = None
    resolution: str | None = None
    usage: Usage | None = None
    sibling_ids: tuple[str, ...] = ()
    base_url: str | None = None
    is_replay: bool | None = None
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)

    def _repr_html_(self) -> str:
        return previews.html_of_task(self)

    @property
    def is_completed(self) -> bool:
        """Whether the status is ``completed``; ``tasks.wait`` raises if there are no images all the same."""
        return self.status == COMPLETED

    @property
    def is_finished(self) -> bool:
        """Whether the task has ended, in any terminal status."""
        return self.status in TERMINAL_STATUSES


@attrs.frozen
class DurationEstimate:
    """The usual duration of tasks, estimated from tasks that have ended.

    Attributes:
        median: Seconds within which half of the tasks end.
        within: Seconds within which 80 % of the tasks end.
        tasks: Number of tasks that the estimate is based on.
    """

    median: float
    within: float
    tasks: int

    def __str__(self) -> str:
        return f"about {self.median:.0f} s, 80 % within {self.within:.0f} s"


@attrs.frozen
class ImageSet:
    """The answer of a synchronous image service.

    Attributes:
        created: Time at which the images were made.
        images: Every image, in order.
        raw: The JSON object of the service; not compared.
        cost: USD that the answer names; ``None``, for unknown, if it names none, as OpenAI's answers do.
        usage: Tokens that were used, if the service reported them.
    """

    created: datetime
    images: tuple[Image, ...]
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)
    cost: float | None = None
    usage: Usage | None = None

    def _repr_html_(self) -> str:
        return previews.html_of_image_set(self)


@attrs.frozen
class PartialImageEvent:
    """A preview of an image that the service is still making.

    Attributes:
        type: ``"image_edit.partial_image"`` or ``"image_generation.partial_image"``.
        image: The preview, whole but unfinished.
        index: Number of the preview, from 0.
        created_at: Time of the event.
        raw: The JSON object of the service; not compared.
    """

    type: str
    image: Image
    index: int
    created_at: datetime | None = None
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)


@attrs.frozen
class CompletedImageEvent:
    """A finished image.

    Attributes:
        type: ``"image_edit.completed"`` or ``"image_generation.completed"``; ``"completed"`` if the service
            answers with all images at once.
        image: The image.
        created_at: Time of the event.
        usage: Tokens that were used, if the service reported them.
        raw: The JSON object of the service; not compared.
    """

    type: str
    image: Image
    created_at: datetime | None = None
    usage: Usage | None = None
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)


ImageEvent: TypeAlias = PartialImageEvent | CompletedImageEvent
"""An event of a stream of images."""


@attrs.frozen
class Balance:
    """The balance of an API key or an account.

    Attributes:
        remaining: Remaining USD.
        used: Used USD.
        unlimited: Whether the key has no quota.
        raw: The JSON object of the service; not compared.
    """

    remaining: float | None
    used: float | None
    unlimited: bool
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)


@attrs.frozen
class Model:
    """A model of the service.

    Attributes:
        id: Name of the model, the argument ``model`` of edits and generations.
        raw: The JSON object of the service; not compared.
    """

    id: str
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)


@attrs.frozen
class Parameter:
    """A parameter of a model, as the schema of the model describes it.

    Attributes:
        types: JSON types of its values, such as ``"string"`` or ``"integer"``; empty for any.
        choices: Its values; ``None`` for any.
        minimum: Least number.
        maximum: Greatest number.
        min_items: Least number of items of a list.
        max_items: Greatest number of items of a list.
        max_length: Greatest number of characters of a text.
        default: Value that the model uses if the parameter is not sent, if the schema tells one.
        description: Text of the service.
    """

    types: tuple[str, ...] = ()
    choices: tuple[Any, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None
    min_items: int | None = None
    max_items: int | None = None
    max_length: int | None = None
    default: Any = None
    description: str | None = None


@attrs.frozen
class Idempotency:
    """The promise of the service to execute requests of a model once for each idempotency key.

    Attributes:
        header: Header with the key of a request.
        replay_header: Header of an answer that repeats an earlier one; ``None`` if there is none, and the
            promise cannot be checked.
        retention_seconds: Seconds that the service remembers a key.
        scope: Requests among which a key is unique, such as ``"api_key_endpoint"``.
    """

    header: str
    replay_header: str | None = None
    retention_seconds: float | None = None
    scope: str | None = None


@attrs.frozen
class ModelSchema:
    """The requests that a model takes.

    Attributes:
        model: Name of the model.
        operation: Operation that the schema is for, such as ``"image_generation"``.
        method: HTTP method of its endpoint.
        path: Path of its endpoint, such as ``"/v1/images/generations"``.
        parameters: Parameters by name.
        required: Names of the parameters that each request has to have.
        is_open: Whether requests may have parameters that the schema does not name.
        idempotency: The promise to execute a request once for each key; ``None`` if there is no such promise.
        response_version: Version of the answer that the service recommends for this model.
        schema_version: Version of the schema.
        raw: The JSON object of the service; not compared.
    """

    model: str
    operation: str | None = None
    method: str = "POST"
    path: str | None = None
    parameters: Mapping[str, Parameter] = attrs.field(factory=dict[str, Parameter])
    required: tuple[str, ...] = ()
    is_open: bool = False
    idempotency: Idempotency | None = None
    response_version: str | None = None
    schema_version: str | None = None
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)


@attrs.frozen
class Quote:
    """The expected cost of a paid request, before it is sent; the service bills by the images it delivers.

    Attributes:
        model: Name of the model.
        n: Number of images.
        price: USD for an image, as the catalogue of the service tells it.
        cost: USD for all images.
    """

    model: str
    n: int
    price: float
    cost: float


@attrs.frozen
class DayUsage:
    """The use of an account on one day.

    Attributes:
        date: First moment of the day.
        cost: USD; ``None`` if the service did not report it.
        requests: Number of requests; ``None`` if the service did not report it.
    """

    date: datetime
    cost: float | None = None
    requests: int | None = None


@attrs.frozen
class AccountUsage:
    """The use of an account in the last days.

    Attributes:
        cost: USD in all days; ``None`` if the service did not report it.
        requests: Number of requests in all days; ``None`` if the service did not report it.
        days: The single days, as far as the service reported them.
        raw: The JSON object of the service; not compared.
    """

    cost: float | None = None
    requests: int | None = None
    days: tuple[DayUsage, ...] = ()
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)
