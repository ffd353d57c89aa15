"""Tasks: fetch one, wait for one, watch many."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs

from apimart_async import errors
from apimart_async.models import Task
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.ending import about, ending_error
from apimart_async.polling.lookout import Lookout
from apimart_async.polling.poller import Poller
from apimart_async.transport import json, parsing
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from apimart_async.polling.sharing import Sharing
    from apimart_async.transport.api import Service

_IS_PLAIN: Final = re.compile("[A-Za-z0-9_-]+").fullmatch

LANGUAGES: Final = frozenset({"en", "zh", "ja", "ko", "ru", "fr", "de", "id", "pt", "es"})


class AsyncTasks:
    """The service's runs of its models. They go on whether anybody looks or not, and cannot be cancelled."""

    def __init__(self, service: Service, sharing: Sharing) -> None:
        self._service = service
        settings = service.settings
        self._poller = Poller(
            sharing.lookout(
                settings,
                lambda: Lookout(self._look, self._look_at_many, settings.poll.requests_per_second),
            ),
            Cadence(settings.poll, sharing.experience),
        )

    async def get(self, task: Task | str, *, language: str = "en", timeout: float | None = None) -> Task:
        """Fetch a task as it is now.

        Args:
            task: The task, or its id.
            language: Of error messages: en, zh, ja, ko, ru, fr, de, id, pt or es.
            timeout: Seconds for one try; the client's by default.

        Returns:
            The task, whatever its status; a failed one is no error here.

        Raises:
            InvalidArgumentError: The id is empty, or the language is not one of those.
            NotFoundError: The service does not know it, or no longer; tasks are kept for some days.
            APIError: The request failed after all retries; it names the task.

        Cancelling it leaves the task as it is.
        """
        if language not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES))
            raise errors.InvalidArgumentError(f"language must be one of {known}, not {language!r}.")
        task_id, key = (task, None) if isinstance(task, str) else (task.id, task.idempotency_key)
        found = await self._fetch(_checked_id(task_id), language, timeout)
        return found if key is None else attrs.evolve(found, idempotency_key=key)

    async def wait(
        self,
        task: Task | str,
        *,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
    ) -> Task:
        """Wait until a task has its images.

        It outlives rate limits, server errors, dropped connections and statuses it has never heard of until
        the deadline.

        Args:
            task: The task, or its id.
            timeout: Seconds; ``Poll.timeout`` of the client (600) by default.
            on_update: Called with the task after every look, for progress displays.

        Returns:
            The completed task.

        Raises:
            TaskFailedError: The service could not do it; failed tasks are free.
            TaskCancelledError: The service cancelled it.
            TaskExpiredError: The service does not know it, or no longer.
            TaskTimeoutError: The deadline came first. The task goes on: wait for ``error.task_id`` again.
            APIError: A trouble that time does not heal, such as ``AuthenticationError``; it names the task.
            InvalidArgumentError: The id is empty, or the timeout is not more than 0.

        Cancelling it leaves the task as it is; its id is in the exception's notes and in the log.
        """
        seen = await self._poller.wait(_as_task(task), _checked(timeout), on_update)
        if seen.is_completed:
            return seen
        going_on = f"is still {seen.status}; it goes on and can be waited for again."
        raise ending_error(seen) or about(seen, errors.TaskTimeoutError, going_on)

    def watch(
        self, tasks: Iterable[Task | str], *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Task]]:
        """Wait for many tasks at once and take them as they end.

        Every task comes out exactly once: completed, failed, cancelled or expired, or, at the deadline, as it
        was last seen (``task.is_finished`` is then false).

        Args:
            tasks: Tasks, or their ids.
            timeout: Seconds for all together; ``Poll.timeout`` of the client (600) by default.

        Returns:
            A context manager whose value is an asynchronous iterator of tasks.

        Raises:
            APIError: A trouble that time does not heal, from the iterator; it names the task.
            InvalidArgumentError: An id is empty, or the timeout is not more than 0.

        Leaving it early, or cancelling it, stops looking and leaves the tasks as they are.
        """
        return self._poller.watch([_as_task(task) for task in tasks], _checked(timeout))

    def duration_stats(self) -> dict[str, Any]:
        """Return what was learnt of how long tasks take: plain data that JSON can hold, some KB a model.

        Batches keep it in their journal; other programs may keep it where they like, and begin the next run
        with ``load_duration_stats``.
        """
        return self._poller.cadence.experience.to_dict()

    def load_duration_stats(self, data: Mapping[str, Any]) -> None:
        """Take up the value of ``duration_stats``, in this run or another.

        Args:
            data: What is not understood in it, or known better by now, is left out.
        """
        self._poller.cadence.experience.restore(data)

    async def _look(self, task_id: str) -> Task:
        return await self._fetch(task_id, "en", None)

    async def _look_at_many(self, task_ids: list[str]) -> dict[str, Task]:
        body = json.dumps({"task_ids": task_ids})
        answer = await self._service.request("POST", "/v1/tasks/batch", kind=Kind.READ, body=body)
        return parsing.read_tasks(answer.payload)

    async def _fetch(self, task_id: str, language: str, timeout: float | None) -> Task:
        quoted = task_id if _IS_PLAIN(task_id) else quote(task_id, safe="")
        path = f"/v1/tasks/{quoted}?language={language}"
        try:
            answer = await self._service.request("GET", path, kind=Kind.READ, timeout=timeout)
            return parsing.read_task(answer.payload, task_id=task_id)
        except errors.APIError as error:
            error.task_id = task_id
            raise


def _as_task(task: Task | str) -> Task:
    if isinstance(task, str):
        return Task(id=_checked_id(task), status="submitted")
    _checked_id(task.id)
    return task


def _checked_id(task_id: str) -> str:
    stripped = task_id.strip()
    if not stripped:
        raise errors.InvalidArgumentError("The task id is empty.")
    return stripped


def _checked(timeout: float | None) -> float | None:
    if timeout is not None and not timeout > 0:
        raise errors.InvalidArgumentError(f"timeout must be more than 0 seconds, not {timeout!r}.")
    return timeout
