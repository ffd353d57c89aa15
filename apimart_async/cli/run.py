"""Run the items of one command: handle signals, show progress, write the results and a summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

import anyio

from apimart_async.cli.display import messages
from apimart_async.cli.display.item import Item
from apimart_async.cli.display.messages import ResumeHint, Wording
from apimart_async.cli.display.output import may_reach_terminal, printable, say
from apimart_async.cli.display.results import Render, Results
from apimart_async.cli.signals import SIGNALS, Exit
from apimart_async.errors import ApimartError

if TYPE_CHECKING:
    from apimart_async.batch import Runner

IN_FLIGHT: Final = 32
"""Maximum number of items in progress."""

GRACE: Final = 3.0
"""Seconds that a paid request in flight has for its answer after the first signal."""

IMAGE_GRACE: Final = 600.0
"""The same where the answer is the images, which take up to minutes and are lost without it."""


class Run:
    """The run of one command.

    Args:
        items: In the order of the arguments.
        wording: The noun and the verb of the summary.
        render: Returns the lines for stdout of an item that has ended.
        resume_hint: How to continue paid tasks.
        hold: Whether results are written at the end only.

    Attributes:
        items: In the order of the arguments.
        runner: Runs the paid jobs, if there are any.
        grace: Seconds that their requests have for their answers after the first signal.
    """

    def __init__(
        self,
        items: Sequence[Item],
        wording: Wording,
        render: Render,
        resume_hint: ResumeHint = messages.NO_RESUME,
        *,
        hold: bool = False,
    ) -> None:
        from apimart_async.cli.display.progress import Display, draw_items

        self.items = items
        self.runner: Runner | None = None
        self.grace = GRACE
        self._wording = wording
        self._resume_hint = resume_hint
        self._display = Display(partial(draw_items, items))
        self._results = Results(
            items, render, hold=hold or (self._display.draws and may_reach_terminal(sys.stdout))
        )
        self._scope: anyio.CancelScope
        self._is_interrupted = False

    def execute(self, work: Callable[[], Awaitable[None]]) -> Exit:
        """Process the items, show their progress and write their results.

        Args:
            work: Processes all items, and calls ``end`` for each.

        Returns:
            The exit code. The first SIGINT or SIGTERM cancels the work and leaves paid requests in flight
            ``grace`` seconds for their answer; the second cancels those too. The command lists the paid tasks
            and the requests without an answer.
        """
        started = time.monotonic()
        try:
            anyio.run(self._run, work)
        except Exception:
            self._results.write()
            raise
        if self._is_interrupted:
            for line in messages.interruption(self.items, self._wording, self._resume_hint):
                say(line, always=True)
        elif len(self.items) > 1:
            say(messages.sum_up(self.items, self._wording, time.monotonic() - started))
        self._results.write()
        if self._is_interrupted:
            return Exit.INTERRUPTED
        all_done = all(item.stage == "done" for item in self.items)
        return Exit.ALL_DONE if all_done and self._results.are_whole else Exit.SOME_FAILED

    async def _run(self, work: Callable[[], Awaitable[None]]) -> None:
        self._scope = anyio.CancelScope()
        with SIGNALS.calling(self._stop, self._end_grace), self._display.shown:
            try:
                with self._scope:
                    await work()
            finally:
                for item in self.items:
                    if not item.has_ended:
                        is_started = self._is_interrupted and item.stage != "queued"
                        item.enter("interrupted" if is_started else "not_started")

    def _stop(self) -> None:
        self._is_interrupted = not all(item.has_ended for item in self.items)
        self._scope.cancel()
        if any(item.is_answer_due for item in self.items):
            wait = f"Waiting up to {self.grace:g} s for the answers to paid requests"
            say(f"{wait}; Ctrl-C again stops at once.")

    def _end_grace(self) -> None:
        if self.runner is not None:
            self.runner.end_grace()

    # --- called by the work -----------------------------------------------------------------------------

    def submitted(self, item: Item) -> None:
        """Log the id of a new paid task."""
        if item.task is not None and item.task.id is not None and not self._display.draws:
            say(f"{item.label}: submitted as {printable(item.task.id)}")

    def end(self, item: Item, stage: Literal["done", "failed"], error: Exception | None = None) -> None:
        """Report the end of an item, and write the results that can be written by now."""
        item.error = error
        item.enter(stage)
        if error is not None:
            messages.trace(error)
            self._display.failed(item.label, messages.explain(error, self._resume_hint, item))
        else:
            width = max(len(other.label) for other in self.items)
            self._display.done(item.label, item.facts, width)
        if not self._results.hold:
            self._results.write()

    async def each(self, work: Callable[[Item], Awaitable[object]]) -> None:
        """Process every item with free requests, at most 32 concurrently.

        An error of one item becomes its ``error``. After an error that every other item would meet too, the
        others are cancelled.

        Args:
            work: Processes one item.

        Cancellation leaves items that have not ended in their current stage.
        """
        limiter = anyio.CapacityLimiter(IN_FLIGHT)

        async def process(item: Item) -> None:
            async with limiter:
                try:
                    await work(item)
                except Exception as error:  # noqa: BLE001 it is reported, and the other items continue
                    self.end(item, "failed", error)
                    if isinstance(error, ApimartError) and error.stops_batch:
                        group.cancel_scope.cancel()
                else:
                    self.end(item, "done")

        async with anyio.create_task_group() as group:
            for item in self.items:
                group.start_soon(process, item)
