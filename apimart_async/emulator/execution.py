"""Executing a submission: one step creates the task, bills it and records it in the ledger."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Final

from attrs import frozen

from .fault_injection import CURRENT_FAULT
from .filters import choose_filter
from .ledger import Endpoint, Entry, price_of
from .renderer import Landscape, RenderSpec, Source, StoredImage
from .responses import ServiceError
from .service import ulid
from .tasks import Task

if TYPE_CHECKING:
    from .faults import Kind
    from .service import Service
    from .tasks import FailureReason, FinalStatus

MODERATED: Final = "moderated"
"""A prompt with this word does not pass content moderation."""

_FINAL_STATUSES: Final[dict[Kind | None, FinalStatus]] = {
    "task-cancelled": "cancelled",
    "task-expired": "expired",
}
_ID_PREFIXES: Final[dict[Endpoint, str]] = {"edits": "task", "generations": "task", "applerouter": "img"}


@frozen(kw_only=True)
class Submission:
    """A parsed and checked submission.

    Attributes:
        endpoint: The endpoint that received it.
        model: The model.
        prompt: The prompt; may be empty for a generation.
        images: How many images are requested.
        source: The image to edit, or None for a new one.
        mask: Digest of a stored mask, or None.
        size: Width and height of the results in pixels, or None for those of the source.
        png: Whether PNG (True) or JPEG (False) is requested, or whichever suits the image (None).
        payload: Digest of the whole request.
        idempotency_key: Its Idempotency-Key, or None.
        immediate: Whether its task ends at once.
        operation: `segment`, which is free, `region_edit`, or None.
    """

    endpoint: Endpoint
    model: str
    prompt: str
    images: int
    source: Source | None = None
    mask: str | None = None
    size: tuple[int, int] | None = None
    png: bool | None = None
    payload: str = ""
    idempotency_key: str | None = None
    immediate: bool = False
    operation: str | None = None

    @property
    def moderated(self) -> bool:
        """Whether its prompt does not pass content moderation."""
        return MODERATED in self.prompt.casefold()


async def execute(service: Service, submission: Submission) -> Task:
    """Execute a submission.

    Raises:
        ServiceError: 402, when the balance does not cover it, or 429, when too many tasks run; nothing was
            executed then.
    """
    # AppleRouter has no tasks; its path for JSON edits is that of APIMart's edits.
    fault = None if submission.endpoint == "applerouter" else CURRENT_FAULT.get()
    source = submission.source
    reason: FailureReason | None = None
    transparent = False
    if submission.moderated:
        reason = "moderated"
    elif fault == "task-failed":
        reason = "broken"
    if isinstance(source, StoredImage) and service.settings.images == "edited":
        inspection = await service.store.inspect(source.digest)
        transparent = inspection.transparent
        if inspection.size is None:
            reason = reason or "unreadable"
    # Nothing awaits from here on: the balance that is checked is the balance that is charged.
    limit = service.settings.task_limit
    if limit is not None and service.tasks.running(service.clock.now()) >= limit:
        raise ServiceError(status=429, message=f"only {limit} tasks may run at once")
    price = price_of(submission.model, submission.operation)
    if price * submission.images > service.balance + 1e-9:
        raise ServiceError(
            status=402,
            message=f"insufficient balance: {service.balance:.3f} USD left, "
            f"{price * submission.images:.3f} needed",
        )
    final_status = "failed" if reason else _FINAL_STATUSES.get(fault, "completed")
    images = max(1, submission.images // 2) if fault == "task-partial" else submission.images
    seconds = 0.0 if submission.immediate else service.settings.draw_seconds(service.random)
    seed = (service.settings.seed, submission.prompt, source)
    now = service.clock.now()
    task = Task(
        id=f"{_ID_PREFIXES[submission.endpoint]}_{ulid(now)}",
        submitted_at=now,
        seconds=math.inf if fault == "task-stuck" else seconds,
        images=images,
        cost=price * images if final_status == "completed" else 0.0,
        reserved=price * submission.images,
        spec=RenderSpec(
            source=source or Landscape(_checksum(submission.prompt)),
            filter=choose_filter(submission.prompt),
            seed=_checksum(repr(seed)),
            size=submission.size,
            mask=submission.mask,
            png=transparent if submission.png is None else submission.png,
        ),
        final_status=final_status,
        reason=reason,
    )
    service.tasks.add(task)
    service.ledger.record(
        Entry(
            task_id=task.id,
            endpoint=submission.endpoint,
            idempotency_key=submission.idempotency_key,
            payload=submission.payload,
            model=submission.model,
            images=task.images,
            cost=task.cost,
            at=now,
            operation=submission.operation,
        )
    )
    return task


def _checksum(text: str) -> int:
    return zlib.crc32(text.encode(errors="surrogatepass"))
