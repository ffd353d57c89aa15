"""What can go wrong, where, and how often: data, and the decision whether it is time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from attrs import Attribute, field, fields, frozen, validators

if TYPE_CHECKING:
    from collections.abc import Callable

    from apimart_async.emulator.routing import Route

Kind = Literal[
    "status",
    "error-in-200",
    "html",
    "idempotency-in-progress",
    "idempotency-key-reused",
    "idempotency-result-indeterminate",
    "idempotency-unavailable",
    "disconnect",
    "hang",
    "truncated",
    "stalled",
    "slow",
    "close-after",
    "empty",
    "broken-json",
    "gigantic",
    "redirect",
    "redirect-elsewhere",
    "no-id",
    "task-stuck",
    "task-failed",
    "task-cancelled",
    "task-expired",
    "task-partial",
    "unknown-status",
    "wrong-bytes",
    "cut-image",
]

Place = Literal[
    "any",
    "uploads",
    "edits",
    "generations",
    "applerouter",
    "tasks",
    "tasks/batch",
    "account",
    "files",
]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PLACES: Final[tuple[Place, ...]] = get_args(Place)

_EVERYWHERE: Final[frozenset[Route]] = frozenset(
    ("uploads", "edits", "generations", "applerouter", "tasks", "tasks/batch", "account", "files")
)
_API: Final = _EVERYWHERE - {"files"}
_SUBMITS: Final[frozenset[Route]] = frozenset(("edits", "generations"))
_POLLS: Final[frozenset[Route]] = frozenset(("tasks", "tasks/batch"))
_FILES: Final[frozenset[Route]] = frozenset(("files",))

_POSSIBLE: Final[dict[Kind, frozenset[Route]]] = {
    "error-in-200": _API,
    "broken-json": _API,
    "gigantic": _API,
    "idempotency-in-progress": _SUBMITS,
    "idempotency-key-reused": _SUBMITS,
    "idempotency-result-indeterminate": _SUBMITS,
    "idempotency-unavailable": _SUBMITS,
    "no-id": _SUBMITS,
    "task-stuck": _SUBMITS,
    "task-failed": _SUBMITS,
    "task-cancelled": _SUBMITS,
    "task-expired": _SUBMITS,
    "task-partial": _SUBMITS,
    "unknown-status": _POLLS,
    "wrong-bytes": _FILES,
    "cut-image": _FILES,
}
"""Where the kinds that do not make sense everywhere can happen."""


def _positive_integer(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is None and attribute.default is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{attribute.name} must be a whole number of at least 1, not {value!r}")


def _text(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{attribute.name} must be text, not {value!r}")


def _code(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, int | str):
        raise ValueError(f"{attribute.name} must be a number or text, not {value!r}")


def _boolean(_: object, attribute: Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        raise ValueError(f"{attribute.name} must be true or false, not {value!r}")  # noqa: TRY004 - one kind of error


def _number(low: float, high: float) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"{attribute.name} must be a number from {low:g} to {high:g}, not {value!r}")

    return check


def _retry_after(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str):
        _number(0, math.inf)(_, attribute, value)


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong with some of the requests to some routes.

    Of the requests that match `route` (and `reused`), it happens to those that pass each of `first`,
    `every`, `probability` and `times`; without these, to all. When several faults could happen to a request,
    the first one does, alone. Whatever goes wrong, the ledger tells the truth.

    The kinds, and whether the request is carried out:

    - `status`: an error with `status`, `code` and `message`; with `retry_after` in seconds, or as a date when
      `retry_after_date`. Before or after execution, as `executed` says.
    - `error-in-200`: a 200 that carries an error, or `success: false` for the balance. Before or after.
    - `html`: a gateway's page with `status`. Before or after.
    - `idempotency-in-progress`, `idempotency-key-reused`, `idempotency-unavailable`,
      `idempotency-result-indeterminate`: the documented answers. Before or after.
    - `disconnect`: the connection is dropped without a byte of an answer. Before or after.
    - `hang`: nothing at all for `seconds`, then the connection is dropped. Before or after.
    - `truncated`: half of the body, then the end of the connection. `stalled`: half of the body, then nothing
      for `seconds`, then the end. `slow`: the body in small pieces over `seconds`. Executed.
    - `close-after`: a proper answer, then the connection is closed without having said so. Executed.
    - `empty`: no body. `broken-json`: half of the JSON as if it were all. `gigantic`: JSON of `size` bytes.
      `no-id`: accepted, but without an identifier. Executed.
    - `redirect`: 307 (or `status`) to the same origin; for edits, to the path's other form, with or without
      its last slash. `redirect-elsewhere`: to another origin, which accepts everything. Before or after.
    - `task-stuck`, `task-failed`, `task-cancelled`, `task-expired`, `task-partial`: what becomes of the task
      that is submitted. Only the stuck and the partial one are billed, the latter by the images delivered.
    - `unknown-status`: the task's status is one that nobody has heard of.
    - `wrong-bytes`: a page instead of an image, under the image's type. `cut-image`: the first half of an
      image as if it were all.

    Args:
        kind: What goes wrong.
        route: Where; "any" is everywhere the kind makes sense.
        probability: Share of the matching requests, 0 to 1, drawn from the emulator's seed.
        first: Only the first so many matching requests.
        every: Only every so manieth matching request, starting with that one.
        times: At most so many times.
        executed: Whether the request is carried out before it goes wrong, where the kind leaves that open.
        reused: Whether only on connections that have served a request before.
        status: The HTTP status, where the kind has one; otherwise 500, 502 for `html`, 307 for redirects.
        code: `error.code` of the body.
        message: `error.message` of the body.
        retry_after: Seconds in `Retry-After`, or the header's text; None for no such header.
        retry_after_date: Whether the seconds are sent as an HTTP date.
        seconds: How long it takes, where the kind takes time; at most an hour.
        size: Bytes, where the kind has a size.

    Raises:
        ValueError: An argument is out of its range, or the kind does not happen at that route.
    """

    kind: Kind = field(validator=validators.in_(KINDS))
    route: Place = field(default="any", validator=validators.in_(PLACES))
    probability: float = field(default=1.0, validator=_number(0, 1))
    first: int | None = field(default=None, validator=_positive_integer)
    every: int | None = field(default=None, validator=_positive_integer)
    times: int | None = field(default=None, validator=_positive_integer)
    executed: bool = field(default=False, validator=_boolean)
    reused: bool = field(default=False, validator=_boolean)
    status: int | None = field(default=None, validator=_positive_integer)
    code: int | str | None = field(default=None, validator=_code)
    message: str | None = field(default=None, validator=_text)
    retry_after: float | str | None = field(default=None, validator=_retry_after)
    retry_after_date: bool = field(default=False, validator=_boolean)
    seconds: float = field(default=5.0, validator=_number(0, 3600))
    size: int = field(default=64 * 1024 * 1024, validator=_positive_integer)

    def __attrs_post_init__(self) -> None:
        if self.route != "any" and self.route not in self.routes:
            raise ValueError(f"{self.kind} does not happen at {self.route}")

    @property
    def routes(self) -> frozenset[Route]:
        """Where it can happen."""
        possible = _POSSIBLE.get(self.kind, _EVERYWHERE)
        return possible if self.route == "any" else possible & {self.route}


def is_due(fault: Fault, *, matched: int, happened: int, chance: float) -> bool:
    """Decide whether a fault happens to a request that matches it.

    Args:
        fault: The fault.
        matched: How many requests have matched it, this one included.
        happened: How often it has happened.
        chance: A number drawn evenly from 0 to 1.
    """
    if fault.times is not None and happened >= fault.times:
        return False
    if fault.first is not None and matched > fault.first:
        return False
    if fault.every is not None and matched % fault.every != 0:
        return False
    return chance < fault.probability


FIELDS: Final = frozenset(attribute.name for attribute in fields(Fault))
"""The names of a fault's arguments."""
