"""The paid work behind an exception: the task and the key, for calls that were cancelled or failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

from apimart_async.errors import ApimartError, SubmissionIndeterminateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_NAMES: Final = frozenset({"task_id", "sibling_ids", "idempotency_key"})
_MOST: Final = 1000


@attrs.frozen
class Interrupted:
    """The paid work that goes on, or may go on, after a call was interrupted.

    A request to AppleRouter has neither a task nor a key: all attributes are empty, and it may be billed.

    Attributes:
        task_id: Id of the task, for ``tasks.wait``; ``None`` while the service had not named it.
        idempotency_key: Key of the paid request, for the account of the service, and for
            ``edits.create(idempotency_key=…)`` where the service executes a key once; ``None`` if another
            process submitted the task.
        sibling_ids: Ids of further tasks that the same submit has started.
    """

    task_id: str | None = None
    idempotency_key: str | None = None
    sibling_ids: tuple[str, ...] = ()


def interrupted(error: BaseException) -> Interrupted | None:
    """Return the paid work behind an exception: a cancellation, a Ctrl-C, a timeout or an ``ApimartError``.

    A cancelled call leaves its ids on the exception that passes through it, as attributes with the names of
    those of ``ApimartError``. This function also finds them where another exception replaced that one: as
    ``asyncio.timeout`` and ``asyncio.wait_for`` raise ``TimeoutError``, ``asyncio.run`` raises
    ``KeyboardInterrupt``, and task groups raise exception groups. ``anyio.move_on_after`` and
    ``anyio.fail_after`` discard the exception: catch it inside of them.

    Args:
        error: The exception.

    Returns:
        The work; ``None`` if nothing was paid for, or nothing is known.

    .. versionadded:: 0.1
    """
    nameless: Interrupted | None = None
    for each in _related(error):
        found = _work_of(each)
        if found != Interrupted() and found is not None:
            return found
        nameless = nameless or found
    return nameless


def _work_of(error: BaseException) -> Interrupted | None:
    """Return the work that an exception itself names; other packages have a ``task_id`` too."""
    if isinstance(error, ApimartError):
        found = Interrupted(error.task_id, error.idempotency_key)
        is_paid = isinstance(error, SubmissionIndeterminateError) or found != Interrupted()
        return found if is_paid else None
    values = vars(error)
    return Interrupted(**{name: values[name] for name in _NAMES}) if values.keys() >= _NAMES else None


def mark(
    raised: BaseException,
    *,
    task_id: str | None = None,
    idempotency_key: str | None = None,
    sibling_ids: tuple[str, ...] = (),
) -> None:
    """Set the ids of paid work as attributes of the exception that interrupts it."""
    vars(raised).update(task_id=task_id, idempotency_key=idempotency_key, sibling_ids=sibling_ids)


def carry_over(source: BaseException, target: BaseException) -> None:
    """Copy the notes and the ids of an exception to the one that replaces it."""
    for note in getattr(source, "__notes__", ()):
        target.add_note(note)
    work = _work_of(source)
    if work is not None:
        mark(target, **attrs.asdict(work))


def _related(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception, those of its group, and those that it replaced, nearest first, each once."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left and len(seen) < _MOST:
        each = left.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        left += [None if each.__suppress_context__ else each.__context__, each.__cause__]
        members: Sequence[BaseException] = getattr(each, "exceptions", ())
        if isinstance(each, BaseExceptionGroup):
            left += reversed(members)
