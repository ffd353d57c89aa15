"""Tasks: fetch one, wait for one, watch many."""

from __future__ import annotations

import asyncio
import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

import attrs

from apimart_async import errors
from apimart_async.arguments import check_types, wrong_type
from apimart_async.models import DurationEstimate, Task
from apimart_async.polling.cadence import Cadence
from apimart_async.polling.duration_stats import kind_of
from apimart_async.polling.poller import PollQueue, SharedPolling
from apimart_async.polling.shared_requests import PollRequests
from apimart_async.polling.task_errors import result_error, task_error, timeout_error
from apimart_async.polling.wait import is_from_service
from apimart_async.polling.watch import Watch, naming, until_ended
from apimart_async.transport import json, observation, parsing
from apimart_async.transport.observation import counted
from apimart_async.transport.retry import Kind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Mapping
    from contextlib import AbstractAsyncContextManager

    from apimart_async.polling.shared_requests import TakeIds
    from apimart_async.polling.wait import Wait
    from apimart_async.polling.watch import Notification
    from apimart_async.transport.api import Api

log: logging.Logger = logging.getLogger("apimart_async.resources")

_IS_PLAIN: Final = re.compile("[A-Za-z0-9_-]+").fullmatch

# A poll that hangs is sent again; an answer takes milliseconds.
_POLL_TIMEOUT: Final = 10.0

# With notifications, a poll is of use only for the one in so many that is lost.
_NOTIFICATIONS_FOR_A_LOST_ONE: Final = 20.0

# A wait whose time is up still takes the last known status of the further tasks.
_LEAST_TIMEOUT: Final = 0.001

LANGUAGES: Final = frozenset({"en", "zh", "ja", "ko", "ru", "fr", "de", "id", "pt", "es"})


class AsyncTasks:
    """Tasks: the service's runs of its models. They go on without a client, and cannot be cancelled."""

    def __init__(self, api: Api, shared: SharedPolling) -> None:
        self._api = api
        settings = api.settings
        total = min(settings.timeout.total, _POLL_TIMEOUT)
        self._api_of_polls = api.revised(timeout=attrs.evolve(settings.timeout, total=total))
        # A batch that fails is halved instead of sent again.
        self._api_of_batches = self._api_of_polls.revised(max_retries=0)
        poll_one = partial(self._fetch, api=self._api_of_polls, home=None)
        self._queue = shared.queue(
            settings,
            lambda: PollQueue(
                poll_one, self._poll_many, settings.poll.requests_per_second, self._requests_of
            ),
        )
        # By the base URL of the submit.
        self._requests: dict[str | None, PollRequests] = {}
        self._cadence = Cadence(settings.poll, shared.stats)
        knob = settings.poll.delay_per_poll * _NOTIFICATIONS_FOR_A_LOST_ONE
        self._rare_cadence = Cadence(attrs.evolve(settings.poll, delay_per_poll=knob), shared.stats)

    async def get(
        self, task: Task | str | None, *, language: str = "en", timeout: float | None = None
    ) -> Task:
        """Fetch a task as it is now.

        Args:
            task: The task, or its id.
            language: Language of error messages: en (the default), zh, ja, ko, ru, fr, de, id, pt or es.
            timeout: Seconds for an attempt; the client's timeout by default.

        Returns:
            The task in its current status; a failed one raises no error here.

        Raises:
            InvalidArgumentError: There is no id, the language is not one of those, or the task was submitted
                to an address that ``base_url`` does not name, and no address in it knows the task.
            NotFoundError: The service does not know the task, or no longer: it keeps tasks for some days.
            APIError: The request failed after all retries; the error names the task.

        Cancellation leaves the task as it is.
        """
        check_types(language=language)
        if language not in LANGUAGES:
            known = ", ".join(sorted(LANGUAGES))
            raise errors.InvalidArgumentError(f"language must be one of {known}, not {language!r}.")
        if not isinstance(task, Task):
            return await self._fetch(_checked_id(task), language, timeout, home=None)
        ids = [_checked_id(task.id), *task.sibling_ids]
        found = [await self._fetch(task_id, language, timeout, home=task.base_url) for task_id in ids]
        return parsing.joined([parsing.with_submit(each, task) for each in found])

    async def wait(
        self,
        task: Task | str | None,
        *,
        timeout: float | None = None,
        on_update: Callable[[Task], object] | None = None,
        notified: Notification | None = None,
    ) -> Task:
        """Wait until a task has its images.

        Until the deadline, the wait survives rate limits, server errors, dropped connections and unknown
        statuses.

        Args:
            task: The task, or its id.
            timeout: Seconds, more than 0; ``Poll.timeout`` of the client (600) by default.
            on_update: Called with the task after every poll, for progress displays.
            notified: Event that is set when a webhook says that the task has ended: of ``asyncio``, anyio or
                ``threading``. The task is polled at once then; before, it is polled rarely, in case the
                notification is lost.

        Returns:
            The completed task.

        Raises:
            TaskFailedError: The task failed; failed tasks are free.
            TaskCancelledError: The service cancelled the task.
            TaskExpiredError: The service does not know the task, or no longer.
            TaskTimeoutError: The deadline passed. The task goes on: wait for ``error.task_id`` again.
            APIError: An error that a later poll would meet again, such as ``AuthenticationError``; it names
                the task.
            TaskResultError: The task has completed, but no image was found in its result, in a second answer
                either; ``error.task.raw`` is the answer.
            InvalidArgumentError: There is no id, the timeout is not more than 0, or the task was submitted to
                an address that ``base_url`` does not name, and no address in it knows the task.

        Cancellation leaves the task as it is; ``interrupted(error)`` returns its id, and the log names it.
        """
        submitted = _as_task(task)
        timeout = check_wait_timeout(timeout) or self._cadence.settings.timeout
        check_types(on_update=on_update, notified=notified)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            cadence = self._cadence if notified is None else self._rare_cadence
            seen = await until_ended(
                self._queue,
                cadence,
                submitted,
                timeout,
                on_update,
                notified=notified,
                on_end=self._report_end,
            )
            if seen.sibling_ids and seen.is_finished and not submitted.is_finished:
                seen = await self._with_siblings(seen, max(deadline - loop.time(), _LEAST_TIMEOUT))
        except errors.APIError as error:
            if submitted.sibling_ids:
                names = errors.visible(", ".join((submitted.id or "", *submitted.sibling_ids)))
                error.add_note(f"The submit has started several tasks, which go on: {names}.")
            raise
        if not seen.is_completed:
            raise task_error(seen) or timeout_error(seen)
        if not seen.images:
            raise result_error(seen)
        return seen

    async def _with_siblings(self, task: Task, timeout: float) -> Task:
        """Return a task together with the further tasks of its submit, once these have ended."""
        siblings = [
            attrs.evolve(task, id=task_id, status="submitted", images=()) for task_id in task.sibling_ids
        ]
        with naming(task):
            async with self.watch(siblings, timeout=timeout) as finished:
                ended = {sibling.id: sibling async for sibling in finished}
        return parsing.joined([task, *(ended[task_id] for task_id in task.sibling_ids)])

    def watch(
        self, tasks: Iterable[Task | str | None], *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[Task]]:
        """Wait for many tasks at once, and take each as soon as it ends.

        Every task comes exactly once: completed, failed, cancelled or expired, or, at the deadline, as last
        seen (``task.is_finished`` is then false).

        Args:
            tasks: Tasks, or their ids.
            timeout: Seconds for all together, more than 0; ``Poll.timeout`` of the client (600) by default.

        Returns:
            A context manager whose value is an asynchronous iterator of tasks.

        Raises:
            APIError: From the iterator: an error that a later poll would meet again; it names the task.
            InvalidArgumentError: An id is missing, or the timeout is not more than 0.

        Leaving the block early, and cancellation, leave the tasks as they are.
        """
        check_types(tasks=tasks)
        return Watch(
            self._queue,
            self._cadence,
            [_as_task(task) for task in tasks],
            check_wait_timeout(timeout),
            on_end=self._report_end,
        )

    def _report_end(self, wait: Wait) -> None:
        """Log an ended task, without the words of the service, and call the hooks."""
        task = wait.task
        seconds = asyncio.get_running_loop().time() - wait.submitted_at if wait.is_age_known else None
        if log.isEnabledFor(logging.INFO):
            age = "" if seconds is None else f" after {seconds:.1f} s"
            images = f", {counted(len(task.images), 'image')}" if task.is_completed else ""
            reason = None if task.error is None else observation.as_name(task.error.code)
            code = f", {reason}" if reason else ""
            cost = "" if task.cost is None else f", {task.cost:g} USD"
            line = f"Task {task.id} {task.status}{age}: {counted(wait.polls, 'poll')}{images}{cost}{code}"
            log.info("%s.", errors.visible(line))
        if self._api.session.hooks:
            observation.notify(self._api.session.hooks, "ended", lambda each: each.ended(task, seconds))

    def duration_stats(self) -> dict[str, Any]:
        """Return the duration statistics of each model, resolution and number of images.

        They are plain data that JSON can hold, some KB each. Batches keep them in their journal; other
        programs may keep them anywhere, and start the next run with ``load_duration_stats``.
        """
        return self._cadence.stats.to_dict()

    def load_duration_stats(self, data: Mapping[str, Any]) -> None:
        """Load the value of ``duration_stats``, from this run or another.

        Args:
            data: The value. Malformed entries, other versions, and models with statistics are skipped.
        """
        self._cadence.stats.load(data)

    async def hint(self, task: Task | str | None) -> None:
        """Poll a task at once, because there is a sign that it has ended, such as a webhook.

        The wait for the task, if this client has one, fetches it with a request of its own and decides by the
        answer; the hint itself is not trusted. Without such a wait nothing happens, and repeated hints are
        merged. The call returns before the poll.

        Args:
            task: The task, or its id.

        Raises:
            InvalidArgumentError: The id is empty.

        Cancellation leaves the waits as they are.
        """
        self._queue.hint(_as_task(task).id or "")

    def estimate(
        self, model: str, *, resolution: str | None = None, n: int | None = None
    ) -> DurationEstimate | None:
        """Estimate how long tasks take, from those that this client has waited for.

        Args:
            model: Name of the model.
            resolution: Resolution that is asked for, for models that have one.
            n: Number of images that are asked for; 1 by default.

        Returns:
            The estimate; ``None`` until three such tasks have ended.
        """
        check_types(model=model, resolution=resolution, n=n)
        return self._cadence.stats.summary(kind_of(model, resolution, n))

    def _requests_of(self, task: Task) -> PollRequests:
        """Return the requests for the tasks that were submitted to the same base URL."""
        home = task.base_url
        if home is None and not self._api.settings.mirrors:
            home = self._api.settings.base_url
        requests = self._requests.get(home)
        if requests is None:
            poll_one = partial(self._fetch, api=self._api_of_polls, home=home)
            poll_many = partial(self._poll_many, home=home)
            requests = self._requests[home] = PollRequests(poll_one, poll_many)
        return requests

    async def _poll_many(self, take_ids: TakeIds, home: str | None = None) -> dict[str, Task]:
        answer = await self._api_of_batches.request(
            "POST",
            "/v1/tasks/batch",
            kind=Kind.READ,
            make_body=lambda: json.dumps({"task_ids": take_ids()}),
            matches=lambda payload: parsing.is_about_tasks(payload, task_ids=frozenset(take_ids())),
            shares_limits=False,
            home=home,
        )
        found = parsing.read_tasks(answer.payload)
        return {task_id: parsing.resolved(task, answer.base_url) for task_id, task in found.items()}

    async def _fetch(
        self,
        task_id: str,
        language: str = "en",
        timeout: float | None = None,
        *,
        api: Api | None = None,
        home: str | None,
    ) -> Task:
        api = api or self._api
        quoted = task_id if _IS_PLAIN(task_id) else quote(task_id, safe="")
        path = f"/v1/tasks/{quoted}?language={language}"
        try:
            matches = partial(parsing.is_about_task, task_id=task_id)
            answer = await api.request(
                "GET", path, kind=Kind.READ, timeout=timeout, matches=matches, has_images=True, home=home
            )
            found = parsing.read_task(answer.payload, task_id=task_id)
            return parsing.resolved(found, answer.base_url)
        except errors.APIError as error:
            error.task_id = task_id
            if home is None or home in self._api.session.origins.base_urls or not _is_unknown(error):
                raise
            raise errors.InvalidArgumentError(
                f"Task {task_id} was submitted to {home}, which base_url does not name, and no address in it "
                "knows the task. It is paid for: name that address in base_url too.",
                task_id=task_id,
            ) from error


def _is_unknown(error: errors.APIError) -> bool:
    return isinstance(error, errors.NotFoundError) and is_from_service(error)


def _as_task(task: Task | str | None) -> Task:
    if not isinstance(task, Task):
        return Task(id=_checked_id(task), status="submitted")
    if not task.is_finished:
        _checked_id(task.id)
    return task


def _checked_id(task_id: str | None) -> str:
    if task_id is None:
        raise errors.InvalidArgumentError(
            "This task has no id: the service answered the submit with the result itself and keeps no task."
        )
    if not isinstance(cast("object", task_id), str):
        raise wrong_type("task", "a Task or the id of one", task_id)
    stripped = task_id.strip()
    if not stripped:
        raise errors.InvalidArgumentError("The task id is empty.")
    try:
        stripped.encode()
    except UnicodeEncodeError:
        # In a request for many tasks, it would fail all of them.
        raise errors.InvalidArgumentError("The task id holds half a surrogate pair.") from None
    return stripped


def check_wait_timeout(timeout: float | None) -> float | None:
    """Return the timeout of a wait.

    Raises:
        InvalidArgumentError: The timeout is not more than 0.
    """
    check_types(timeout=timeout)
    if timeout is not None and not timeout > 0:
        raise errors.InvalidArgumentError(f"timeout must be more than 0 seconds, not {timeout!r}.")
    return timeout
