"""Faults: data about failures to inject, read strictly from files and JSON, and scheduled by a seed."""

from __future__ import annotations

import json
import math
import random
import tomllib
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from attrs import Attribute, asdict, define, field, fields, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from .routing import Route

Kind = Literal[
    "status",
    "error-in-200",
    "html",
    "idempotency-in-progress",
    "idempotency-key-reused",
    "idempotency-result-indeterminate",
    "idempotency-unavailable",
    "get-channel-failed",
    "model-not-found",
    "not-enough-balance",
    "disconnect",
    "hang",
    "truncated",
    "stalled",
    "slow",
    "close-after",
    "stray-byte",
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
    "gzip",
    "deflate",
    "empty-error",
    "not-a-number",
    "many-images",
    "large-images",
    "stream-cut",
    "stream-error",
    "error-as-stream",
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
    "catalogue",
    "files",
]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
PLACES: Final[tuple[Place, ...]] = get_args(Place)

_ALL_ROUTES: Final[frozenset[Route]] = frozenset(
    (
        "uploads",
        "edits",
        "generations",
        "applerouter",
        "tasks",
        "tasks/batch",
        "account",
        "catalogue",
        "files",
    )
)
_CATALOGUE: Final[frozenset[Route]] = frozenset(("catalogue",))
_MOST_FAULTS: Final = 1000
_MOST_BYTES: Final = 1024**3
_SUBMITS: Final[frozenset[Route]] = frozenset(("edits", "generations"))
_ROUTES: Final[dict[Kind, frozenset[Route]]] = {
    **dict.fromkeys(("error-in-200", "broken-json", "gigantic"), _ALL_ROUTES - {"files"}),
    **{kind: _SUBMITS for kind in KINDS if kind == "no-id" or kind.startswith(("idempotency-", "task-"))},
    **dict.fromkeys(("get-channel-failed", "model-not-found", "not-enough-balance"), _SUBMITS),
    **dict.fromkeys(("wrong-bytes", "cut-image"), frozenset({"files"})),
    **dict.fromkeys(("unknown-status", "many-images"), frozenset({"tasks", "tasks/batch"})),
    "empty-error": _ALL_ROUTES - {"files"},
    "not-a-number": _ALL_ROUTES - {"files"},
    **dict.fromkeys(
        ("large-images", "stream-cut", "stream-error", "error-as-stream"), frozenset({"applerouter"})
    ),
}
"""The routes of the kinds that do not apply to all."""


def _check(attribute: Attribute[Any], value: object, *, valid: bool, expected: str) -> None:
    if not valid:
        raise ValueError(f"{attribute.name} must be {expected}, not {value!r}")


def _one_of(names: Iterable[str]) -> Callable[[object, Attribute[Any], object], None]:
    allowed = sorted(names)

    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        _check(attribute, value, valid=value in allowed, expected=f"one of {', '.join(allowed)}")

    return check


def _positive_integer(_: object, attribute: Attribute[Any], value: object) -> None:
    valid = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    valid |= value is None and attribute.default is None
    _check(attribute, value, valid=valid, expected="a whole number of at least 1")


def _text(_: object, attribute: Attribute[Any], value: object) -> None:
    _check(attribute, value, valid=isinstance(value, str | None), expected="text")


def _code(_: object, attribute: Attribute[Any], value: object) -> None:
    _check(attribute, value, valid=isinstance(value, int | str | None), expected="a number or text")


def _boolean(_: object, attribute: Attribute[bool], value: object) -> None:
    _check(attribute, value, valid=isinstance(value, bool), expected="true or false")


def _number(low: float, high: float) -> Callable[[object, Attribute[Any], object], None]:
    def check(_: object, attribute: Attribute[Any], value: object) -> None:
        valid = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        _check(attribute, value, valid=valid, expected=f"a number from {low:g} to {high:g}")

    return check


def _retry_after(_: object, attribute: Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, str):
        _number(0, math.inf)(_, attribute, value)


@frozen(kw_only=True)
class Fault:
    """A failure to inject into some of the requests to some routes.

    Among the requests that match `route` (and `reused`), it is injected into those that pass each of `first`,
    `every`, `probability` and `times`; without these, into all. When several faults are due for a request,
    only the first is injected. The ledger records every execution whatever the fault.

    The kinds, and whether the request is executed ("either": before or after execution, by `executed`):

    - `status`: an error with `status`, `code` and `message`; with `retry_after` in seconds, or as a date when
      `retry_after_date`. Either.
    - `error-in-200`: a 200 that carries an error, or `success: false` for the balance. Either.
    - `html`: a gateway's HTML page with `status`. Either.
    - `idempotency-in-progress`, `idempotency-key-reused`, `idempotency-unavailable`,
      `idempotency-result-indeterminate`: the documented errors. Either.
    - `get-channel-failed`: 400, to be sent again. `model-not-found`: 503. `not-enough-balance`: `status`, 200
      by default, with the code 605. Either.
    - `disconnect`: the connection is dropped before the first byte of a response. Either.
    - `hang`: no response for `seconds`, then the connection is dropped. Either.
    - `truncated`: half of the body, then the connection is closed. `stalled`: half of the body, then a pause
      of `seconds`, then the connection is closed. `slow`: the body in small chunks over `seconds`. Executed.
    - `close-after`: a correct response, then the connection is closed without notice. `stray-byte`: a correct
      response in two parts, with one byte more behind the second. Executed.
    - `empty`: no body. `broken-json`: half of the JSON as the whole body. `gigantic`: JSON of `size` bytes.
      `no-id`: accepted, but without an identifier. Executed.
    - `redirect`: 307 (or `status`) to the same origin; for edits, to the path with or without its trailing
      slash. `redirect-elsewhere`: to another origin, which accepts every request. Either.
    - `task-stuck`, `task-failed`, `task-cancelled`, `task-expired`, `task-partial`: decides the end of the
      submitted task. Only stuck and partial tasks are billed, partial ones by the images delivered.
    - `unknown-status`: a task status that the contract does not list.
    - `wrong-bytes`: an HTML page with the content type of the image. `cut-image`: the first half of an image
      as the whole body.
    - `gzip`, `deflate`: a correct response, compressed although no client asks for it. Executed.
    - `empty-error`: a correct response with an `error` object whose fields are empty. `not-a-number`: a
      correct response, in which each cost, progress and duration is `NaN` or `Infinity`. Executed.
    - `many-images`: a completed task has 20,000 images. `large-images`: each image inside a response of
      AppleRouter has `size` bytes. Executed.
    - `stream-cut`: the connection is dropped behind the first event of a stream. `stream-error`: the first
      image of a stream ends in an error event, behind its previews. Executed.
    - `error-as-stream`: a JSON error with `status`, sent as `text/event-stream`. Either.

    Args:
        kind: The kind of failure.
        route: The route; "any" is every route the kind applies to but the catalogue.
        probability: Share of the matching requests, 0 to 1, drawn from the emulator's seed.
        first: Only this many matching requests, from the first.
        every: Only every n-th matching request, starting with the n-th.
        times: At most this many times.
        executed: Whether the request is executed before the failure, for the kinds that allow either.
        reused: Whether only on connections that have served a request before.
        status: The HTTP status, for the kinds that have one; default 500, 502 for `html`, 307 for redirects,
            422 for `error-as-stream`.
        code: `error.code` of the body.
        message: `error.message` of the body.
        retry_after: Seconds in `Retry-After`, or the header's text; None for no such header.
        retry_after_date: Whether the seconds are sent as an HTTP date.
        seconds: The duration, for the kinds that have one; 0 to 3600.
        size: Bytes, for the kinds that have a size; at most 1 GiB, except for `gigantic`.

    Raises:
        ValueError: An argument is out of its range, or the kind does not happen at that route.
    """

    kind: Kind = field(validator=_one_of(KINDS))
    route: Place = field(default="any", validator=_one_of(PLACES))
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
        if self.kind != "gigantic" and self.size > _MOST_BYTES:  # that one is sent in blocks
            raise ValueError(f"size may be at most {_MOST_BYTES:,} bytes")

    @property
    def routes(self) -> frozenset[Route]:
        """The routes it can be injected into."""
        possible = _ROUTES.get(self.kind, _ALL_ROUTES)
        return possible - _CATALOGUE if self.route == "any" else possible & {self.route}


def is_due(fault: Fault, *, matched: int, happened: int, chance: float) -> bool:
    """Decide whether a fault is injected into a request that matches it.

    Args:
        fault: The fault.
        matched: How many requests have matched it, this one included.
        happened: How often it has been injected.
        chance: A number drawn uniformly from 0 to 1.
    """
    if fault.times is not None and happened >= fault.times:
        return False
    if fault.first is not None and matched > fault.first:
        return False
    if fault.every is not None and matched % fault.every != 0:
        return False
    return chance < fault.probability


@define
class _Scheduled:
    fault: Fault
    matched: int = 0
    happened: int = 0


@define
class Faults:
    """The faults of an emulator, in order; they may be changed while it runs."""

    _seed: int = 0
    _entries: list[_Scheduled] = field(factory=list[_Scheduled], init=False)
    _random: random.Random = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._random = random.Random(f"faults {self._seed}")

    def __iter__(self) -> Iterator[Fault]:
        return iter([entry.fault for entry in self._entries])

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, *faults: Fault) -> None:
        """Append faults.

        Raises:
            ValueError: There would be more than 1,000.
        """
        if len(self._entries) + len(faults) > _MOST_FAULTS:
            raise ValueError(f"there may be at most {_MOST_FAULTS:,} faults")
        self._entries.extend(_Scheduled(fault) for fault in faults)

    def clear(self) -> None:
        """Remove all faults."""
        self._entries.clear()

    @property
    def happened(self) -> list[tuple[Fault, int]]:
        """Each fault with how often it has been injected."""
        return [(entry.fault, entry.happened) for entry in self._entries]

    def decide(self, route: Route, *, reused: bool) -> Fault | None:
        """Return the fault to inject into a request, or None.

        Args:
            route: The route of the request.
            reused: Whether its connection has served a request before.
        """
        for entry in self._entries:
            fault = entry.fault
            if route not in fault.routes or (fault.reused and not reused):
                continue
            entry.matched += 1
            chance = self._random.random() if fault.probability < 1 else 0.0
            if is_due(fault, matched=entry.matched, happened=entry.happened, chance=chance):
                entry.happened += 1
                return fault
        return None


def load_faults(path: Path) -> tuple[Fault, ...]:
    """Read faults from a file: `.toml` with one `[[faults]]` table each, otherwise JSON.

    Args:
        path: The file. JSON is a list of objects, one such object, or `{"faults": [...]}`.

    Raises:
        ValueError: The file is malformed; the message names the entry and the field.
        OSError: The file cannot be read.
    """
    text = path.read_text(encoding="utf-8")
    try:
        return parse_faults(tomllib.loads(text) if path.suffix == ".toml" else json.loads(text))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def parse_faults(value: object) -> tuple[Fault, ...]:
    """Read faults from decoded JSON or TOML.

    Args:
        value: A list of objects with the fields of `Fault`, one such object, or `{"faults": [...]}`.

    Raises:
        ValueError: `value` is malformed; the message names the entry and the field.
    """
    if isinstance(value, dict):
        single = cast("dict[str, object]", value)
        value = single["faults"] if set(single) == {"faults"} else [single]
    if not isinstance(value, list):
        raise ValueError("faults must be a list of objects")  # noqa: TRY004 - one kind of error for callers
    return tuple(_parse(entry, index) for index, entry in enumerate(cast("list[object]", value), 1))


def fault_as_json(fault: Fault) -> dict[str, Any]:
    """Return a fault as JSON, without the arguments that have their default."""
    default = Fault(kind=fault.kind)
    return asdict(fault, filter=lambda attribute, value: value != getattr(default, attribute.name)) | {
        "kind": fault.kind
    }


def _parse(entry: object, index: int) -> Fault:
    if not isinstance(entry, dict):
        raise ValueError(f"fault {index} must be an object")  # noqa: TRY004 - one kind of error for callers
    options = cast("dict[str, Any]", entry)
    if "kind" not in options:
        raise ValueError(f"fault {index}: kind is required")
    known = {attribute.name for attribute in fields(Fault)}
    if unknown := sorted(set(options) - known):
        raise ValueError(
            f"fault {index}: unknown field {', '.join(unknown)}; known: {', '.join(sorted(known))}"
        )
    try:
        return Fault(**options)
    except (TypeError, ValueError) as error:
        raise ValueError(f"fault {index}: {error.args[0]}") from error
