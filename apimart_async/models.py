"""What the services answer, as plain frozen data: picklable, comparable, without a client inside.

The readers that build these from JSON are in ``transport/parsing.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import attrs

COMPLETED: Final = "completed"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"

TERMINAL_STATUSES: Final = frozenset({COMPLETED, FAILED, CANCELLED, EXPIRED})

_SHOWN = 96


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…({len(text)} characters)"


def _no_raw() -> dict[str, Any]:
    return {}


@attrs.frozen
class Upload:
    """An image on the service's file host, usable in any number of edits until it expires.

    Attributes:
        url: Public address of the file.
        filename: Name it was stored under.
        content_type: MIME type the service found, for example ``"image/jpeg"``.
        bytes: Size.
        created_at: When it was uploaded.
        expires_at: When the address stops working, 72 h after ``created_at``.
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
        url: Where it is: an ``https://`` address, or a ``data:`` URL that holds the image itself.
        expires_at: When the address stops working; ``None`` when it does not or nobody said.
        revised_prompt: The prompt the model really worked from, where the service tells.
        task_id: The task it came from, so that errors can name it.
        index: Its place in the result it came from, counted from 1.
    """

    url: str = attrs.field(repr=_shorten)
    expires_at: datetime | None = None
    revised_prompt: str | None = None
    task_id: str | None = None
    index: int | None = None


@attrs.frozen
class TaskFailure:
    """Why a task failed, in the service's words.

    Attributes:
        message: Readable reason.
        code: Error code as text.
        type: Error type.
    """

    message: str
    code: str | None = None
    type: str | None = None


@attrs.frozen
class Task:
    """One run of a model, as the service last described it.

    Attributes:
        id: The service's name for it; all that is needed to find it again.
        status: ``submitted``, ``pending``, ``queued``, ``processing``, ``in_progress``, ``completed``,
            ``failed``, ``cancelled``, ``expired``, or a word the service has newly invented, as it is.
        progress: Percent, 0 to 100, as reported; ``None`` when not.
        images: Every image, in order; empty until completed.
        cost: USD.
        credits_cost: The same in the service's credits.
        created_at: When the service took it, or, as long as it has not said so, when it was submitted here.
        completed_at: When it ended.
        estimated_time: Seconds the service expected it to take.
        actual_time: Seconds it took.
        error: Why it failed.
        idempotency_key: The key it was submitted under, when this process submitted it.
        model: The model that runs it, when this process submitted it or the service tells.
        raw: The service's own object, for fields this class does not name; not compared.
    """

    id: str
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
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)

    @property
    def is_completed(self) -> bool:
        """Tell whether the task ended with images."""
        return self.status == COMPLETED

    @property
    def is_finished(self) -> bool:
        """Tell whether the task has ended, well or not."""
        return self.status in TERMINAL_STATUSES


@attrs.frozen
class ImageSet:
    """The answer of a synchronous image service.

    Attributes:
        created: When the images were made.
        images: Every image, in order.
        raw: The service's own object; not compared.
    """

    created: datetime
    images: tuple[Image, ...]
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)


@attrs.frozen
class Balance:
    """What the account has left.

    Attributes:
        remaining: USD left.
        used: USD used.
        unlimited: Whether the key has no quota.
        raw: The service's own object; not compared.
    """

    remaining: float | None
    used: float | None
    unlimited: bool
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)


@attrs.frozen
class Model:
    """A model in the service's catalogue.

    Attributes:
        id: The name to pass as ``model``.
        raw: The service's own object; not compared.
    """

    id: str
    raw: Mapping[str, Any] = attrs.field(factory=_no_raw, eq=False, repr=False)
