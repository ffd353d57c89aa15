"""The options and the fixed limits of an emulator."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

from attrs import field, frozen, validators

from .catalogue import ModelSpec
from .rate_limit import RateLimit

HOUR = 3600.0

UPLOAD_LIMIT = 20_971_520
"""Bytes an uploaded image may have (contract: 20 MiB)."""

BODY_LIMIT = 32 * 1024 * 1024
"""Bytes a JSON body may have: one image of the largest size as base64, and room for the rest."""

TASK_TTL = 7 * 24 * HOUR
"""Seconds a task is kept; the contract says "some days"."""

IDEMPOTENCY_TTL = 24 * HOUR
"""Seconds an idempotency key is kept."""

BatchVariant = Literal["list", "tasks", "results"]
Images = Literal["edited", "tiny"]
Duration = float | Callable[[random.Random], float]

_positive = validators.gt(0.0)


@frozen(kw_only=True)
class Settings:
    """The options of an emulator; `Emulator` documents each."""

    host: str = "127.0.0.1"
    port: int = field(default=0, validator=[validators.ge(0), validators.le(65535)])
    api_key: str = field(default="sk-emulator", validator=validators.min_len(1), repr=False)
    seed: int = 0
    task_seconds: Duration = 1.0
    upload_ttl: float = field(default=72 * HOUR, validator=_positive)
    result_ttl: float = field(default=24 * HOUR, validator=_positive)
    balance: float = field(default=10_000.0, validator=validators.ge(0.0))
    rate_limits: Sequence[RateLimit] = ()
    task_limit: int | None = field(default=None, validator=validators.optional(validators.ge(1)))
    clock_offset: float = 0.0
    naive_times: bool = False
    idempotent_replay: bool = True
    variants: bool = False
    compat: bool = False
    batch: BatchVariant | None = "list"
    images: Images = "edited"
    models: Sequence[ModelSpec] | None = ()
    access_log: bool = False

    def spec_of(self, model: str) -> ModelSpec | None:
        """Return the model with a schema that has this name."""
        return next((spec for spec in self.models or () if spec.model == model), None)

    def shown(self, moment: float) -> int | str:
        """Return a moment in unix seconds as responses show it."""
        shown = int(moment + self.clock_offset)
        if not self.naive_times:
            return shown
        return datetime.fromtimestamp(shown, UTC).replace(tzinfo=None).isoformat(" ")

    def draw_seconds(self, draws: random.Random) -> float:
        """Draw the duration of a task in seconds."""
        if callable(self.task_seconds):
            return max(0.0, self.task_seconds(draws))
        if self.task_seconds <= 0:
            return 0.0
        return draws.lognormvariate(math.log(self.task_seconds), 0.3)
