"""Webhooks: the service's notifications that a task has ended.

The service posts them to the address of ``generations.create(webhook=…)``, with ``/callback`` appended, up to
four times, and without a signature: anybody can send one. So a notification is only a reason to ask the
service, with ``confirm`` or ``tasks.hint``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from apimart_async.arguments import is_whole, wrong_type
from apimart_async.errors import APIResponseValidationError, InvalidArgumentError
from apimart_async.models import Task
from apimart_async.transport import json, parsing

if TYPE_CHECKING:
    from apimart_async.client import AsyncApimart

_BODIES: Final = (bytes, bytearray, str, Mapping, list, int, float, type(None))
_LARGEST: Final = 1_048_576
_LONGEST_ID: Final = 1000

# The service gives a receiver about 10 seconds to answer.
_CONFIRM_TIMEOUT: Final = 8.0


def parse(body: bytes | bytearray | str | Mapping[str, Any]) -> Task:
    """Read the body of a notification.

    Args:
        body: The body as it arrived, or as decoded JSON; at most 1 MiB.

    Returns:
        The task as the sender describes it: a claim to ``confirm``, not a result.

    Raises:
        APIResponseValidationError: The body is not JSON, is too large, or holds no task id, or one of more
            than 1,000 characters. Answer 400.
        InvalidArgumentError: ``body`` has another type, which is a mistake of the receiver. Do not answer
            400, which would end the delivery.
    """
    if not isinstance(cast("object", body), _BODIES):
        # Not an error of the notification: 400 would end its delivery.
        raise wrong_type("body", "the bytes, the text or the decoded JSON of a notification", body)
    if isinstance(body, bytes | bytearray | str):
        data = body.encode("utf-8", "replace") if isinstance(body, str) else bytes(body)
        if len(data) > _LARGEST:
            raise APIResponseValidationError(
                f"The notification has {len(data)} bytes; at most {_LARGEST} are read."
            )
        body = json.loads(data)
    if json.is_mapping(body) and "error" in body and "status" not in body:
        body = {**body, "status": "failed"}
    task = parsing.read_task(body)
    if task.id is not None and len(task.id) > _LONGEST_ID:
        # It would be sent to the service, three times as long.
        raise APIResponseValidationError(
            f"The notification has a task id of {len(task.id)} characters; at most {_LONGEST_ID} are read."
        )
    return task


async def confirm(client: AsyncApimart, task: Task, *, timeout: float = _CONFIRM_TIMEOUT) -> Task:
    """Fetch the task of a notification from the service.

    Args:
        client: Client of the account that has submitted the task.
        task: The task that ``parse`` has returned; only its id is used.
        timeout: Seconds for one attempt, more than 0; 8 by default, because the service waits about 10 for
            the answer.

    Returns:
        The task as the service knows it, which may still run: answer 503 then, and it notifies again.

    Raises:
        InvalidArgumentError: The notification has no task id, or ``task`` is not a ``Task``.
        NotFoundError: The service knows no such task: the notification is not genuine. If ``error.is_page``
            is true, it is the answer of a gateway and says nothing: answer 503.
        APIError: The request failed after all retries, or its answer cannot be read. Answer 503.

    Cancellation leaves the task as it is.
    """
    _check_task(task)
    if task.id is None:
        raise InvalidArgumentError("The notification has no task id, so there is no task to fetch.")
    return await client.tasks.get(task.id, timeout=timeout)


class Deliveries:
    """Ids of the tasks whose notifications have been dealt with, because the service may repeat them.

    Add a task after it has been dealt with: a notification whose handling failed must count as new.

    Args:
        limit: Number of ids that are kept, at least 1; 10,000 by default. The oldest are forgotten first.

    Raises:
        InvalidArgumentError: The limit is less than 1.
    """

    def __init__(self, limit: int = 10_000) -> None:
        if not is_whole(limit) or limit < 1:
            raise InvalidArgumentError(f"limit must be at least 1, not {limit!r}.")
        self._limit = limit
        self._ids: OrderedDict[str | None, None] = OrderedDict()

    def __contains__(self, task: Task) -> bool:
        """Tell whether the notification of a task has been dealt with: ``notified in deliveries``."""
        _check_task(task)
        return task.id in self._ids

    def __len__(self) -> int:
        """Return the number of ids that are kept."""
        return len(self._ids)

    def add(self, task: Task) -> None:
        """Remember that the notification of a task has been dealt with."""
        _check_task(task)
        self._ids[task.id] = None
        self._ids.move_to_end(task.id)
        if len(self._ids) > self._limit:
            self._ids.popitem(last=False)


def _check_task(task: object) -> None:
    if not isinstance(task, Task):
        raise wrong_type("task", "the Task that parse or confirm has returned", task)
