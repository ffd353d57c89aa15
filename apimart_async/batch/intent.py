"""The intent of a paid request: on disk right before each attempt, and undone when none was executed."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import attrs

from apimart_async.batch.journal.protocol import Journal
from apimart_async.batch.journal.record import Record
from apimart_async.batch.journal.shared_rate import SharedRate, Slot
from apimart_async.batch.shutdown import ShutdownState
from apimart_async.errors import JournalError


class NotSentError(Exception):
    """A paid request was not sent: the batch shuts down, or another process has started the job."""


@attrs.define(eq=False)
class Intent:
    """Hooks of a paid request that keep its row in the journal; see ``SendHooks``.

    Args:
        journal: Of the batch.
        shutdown: Of the batch.
        record: The row of the request; the base URL of each attempt is added to it.
        previous: The row that it replaces.
        scope: Cancelled by a shutdown as long as the request is not sent.
        on_write: Called when the row is on disk.
        on_undo: Called when the previous row is back.
        rate: Gives each attempt its slot, if processes share a limit.
        home: Base URL at which an earlier run may have had it executed.
        first_sent_at: Time of an earlier request with the same key, in unix seconds.
        needs_promise: Whether to send it only if the service promises to execute its key once.

    Attributes:
        record: The row as it was written last.
        is_written: Whether the row is on disk: the request may have been sent.
    """

    _journal: Journal
    _shutdown: ShutdownState
    record: Record
    _previous: Record | None
    _scope: anyio.CancelScope
    _on_write: Callable[[], object]
    _on_undo: Callable[[], object]
    _rate: SharedRate | None
    home: str | None
    first_sent_at: float | None = None
    needs_promise: bool = False
    is_written: bool = attrs.field(default=False, init=False)
    _slot: Slot | None = attrs.field(default=None, init=False)

    async def wait(self) -> None:
        """Wait for the slot of the first attempt, before the client's own limits count it.

        Raises:
            JournalError: The database has been away for long.
        """
        if self._rate is not None:
            self._slot = await self._rate.wait()

    async def before_send(self, base_url: str) -> None:
        """Write the row.

        Raises:
            NotSentError: Nothing may be sent.
            JournalError: It cannot be written; nothing may be sent.
        """
        if self.is_written:
            return
        while not self.is_written:
            if self._shutdown.is_requested:
                raise NotSentError
            if self._slot is None:
                await self.wait()
            self.record = attrs.evolve(self.record, base_url=base_url)
            # A write that is cancelled is carried out all the same.
            with anyio.CancelScope(shield=True):
                if not await self._journal.begin(self.record, self._previous):
                    raise NotSentError
                self.is_written = True
            if self._rate is not None and self._slot is not None:
                await self._reach(self._rate, self._slot)
                self._slot = None
        self._shutdown.protect(self._scope)
        self._on_write()

    async def _reach(self, rate: SharedRate, slot: Slot) -> None:
        """Wait for the moment of the slot; put the previous row back if nothing may be sent then."""
        is_reached = False
        try:
            is_reached = await rate.reach(slot)
        finally:
            if not is_reached:
                self._on_write()
                await self.not_executed()

    async def not_executed(self) -> None:
        """Put the previous row back."""
        if not self.is_written:
            return
        with anyio.CancelScope(shield=True):
            try:
                await self._journal.undo(self.record, self._previous)
                self._on_undo()
            except JournalError as error:
                # The row stays, and the next run reports the job as in doubt.
                self._shutdown.fail(error)
            self.is_written = False
