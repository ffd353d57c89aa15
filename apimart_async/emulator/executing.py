"""Executing a submission: it becomes a task, is paid for and written into the ledger, all in one step."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Final, Literal

from attrs import frozen

from .identifiers import ulid
from .ledger import Endpoint, Entry, price_of
from .looks import choose_look
from .recipes import Imagined, Recipe, Source, Stored
from .replies import Refusal
from .tasks import Task

if TYPE_CHECKING:
    from .service import Service
    from .tasks import Ending

MODERATED: Final = "moderated"
"""A prompt with this word does not pass content moderation."""

Fate = Literal["stuck", "failed", "cancelled", "expired", "partial"]

_ENDINGS: Final[dict[Fate, Ending]] = {
    "failed": "failed",
    "cancelled": "cancelled",
    "expired": "expired",
}

_PREFIXES: Final[dict[Endpoint, str]] = {"edits": "task", "generations": "task", "applerouter": "img"}


@frozen(kw_only=True)
class Order:
    """What is asked for, read, checked and with its pictures at hand.

    Attributes:
        endpoint: Where it was asked for.
        model: The model.
        prompt: The prompt; may be empty for a generation.
        images: How many images are wanted.
        source: The picture to edit, or None for a new one.
        mask: Digest of a kept mask, or None.
        size: Width and height in pixels to deliver, or None for the picture's own.
        png: Whether PNG is wanted (True), JPEG (False), or whatever suits the picture (None).
        payload: Digest of all of it.
        idempotency_key: The key it came with, or None.
        fate: What goes wrong with the task, or None.
    """

    endpoint: Endpoint
    model: str
    prompt: str
    images: int
    source: Source | None = None
    mask: str | None = None
    size: tuple[int, int] | None = None
    png: bool | None = None
    payload: str
    idempotency_key: str | None = None
    fate: Fate | None = None

    @property
    def moderated(self) -> bool:
        """Whether its prompt does not pass content moderation."""
        return MODERATED in self.prompt.casefold()


async def execute(service: Service, order: Order) -> Task:
    """Execute an order.

    Raises:
        Refusal: 402, when the balance does not cover it; nothing was executed then.
    """
    source = order.source or Imagined(zlib.crc32(order.prompt.encode(errors="surrogatepass")))
    reason = "moderated" if order.moderated else "broken" if order.fate == "failed" else None
    transparent = False
    if isinstance(source, Stored) and service.settings.images == "edited":
        seen = await service.pictures.inspect(source.digest)
        transparent = seen.transparent
        reason = reason or ("unreadable" if seen.size is None else None)
    # From here on nothing awaits: the balance that is checked is the balance that is charged.
    price = price_of(order.model) * order.images
    if price > service.balance + 1e-9:
        raise Refusal(
            status=402, message=f"insufficient balance: {service.balance:.3f} USD left, {price:.3f} needed"
        )
    ending = "failed" if reason else _ENDINGS.get(order.fate, "completed") if order.fate else "completed"
    images = max(1, order.images // 2) if order.fate == "partial" else order.images
    seconds = service.settings.draw_seconds(service.random)
    now = service.clock.now()
    task = Task(
        id=f"{_PREFIXES[order.endpoint]}_{ulid(now)}",
        submitted_at=now,
        seconds=math.inf if order.fate == "stuck" else seconds,
        images=images,
        cost=price_of(order.model) * images if ending == "completed" else 0.0,
        recipe=Recipe(
            source=source,
            look=choose_look(order.prompt),
            seed=zlib.crc32(repr((service.settings.seed, order.prompt, source)).encode()),
            size=order.size,
            mask=order.mask,
            png=transparent if order.png is None else order.png,
        ),
        ending=ending,
        reason=reason,
    )
    service.tasks.add(task)
    service.ledger.record(
        Entry(
            task_id=task.id,
            endpoint=order.endpoint,
            idempotency_key=order.idempotency_key,
            payload=order.payload,
            model=order.model,
            images=task.images,
            cost=task.cost,
            at=now,
        )
    )
    return task
