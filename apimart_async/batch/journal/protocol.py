"""The journal of a batch, independent of its storage.

The journal makes a batch safe to kill: ``record.py`` defines the states of a job and how each is continued
after a restart. Rows hold no API key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from apimart_async.batch.journal.record import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from apimart_async.batch.journal.record import Record
    from apimart_async.models import Upload


@attrs.frozen
class Tally:
    """Sums over the rows of a journal.

    Attributes:
        jobs: Number of jobs in each state; states without any may be missing.
        spent: USD of the costs that are known.
        outstanding: Images of each model that may have been billed at an unknown cost.
    """

    jobs: Mapping[State, int]
    spent: float
    outstanding: Mapping[str, int]


class ClaimedError(Exception):
    """Another living process works on the job.

    Attributes:
        record: The row of the job.
    """

    def __init__(self, record: Record) -> None:
        super().__init__(record.id)
        self.record: Record = record


class Journal(Protocol):
    """Rows that survive a crash.

    Enter it before use. Every method that writes returns when the row is durable, and raises
    ``JournalError`` when it cannot be. Reads see all earlier writes.
    """

    async def __aenter__(self) -> Self:
        """Open it, and check that it can be written.

        Rows of jobs that failed before their paid request are dropped: these jobs are started anew.

        Raises:
            JournalInUseError: Another process is using it.
            JournalError: The journal is damaged, of a newer version, or cannot be written.
        """
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it; its rows stay."""
        ...

    async def get(self, job_id: str) -> Record | None:
        """Return a job's row, if there is one."""
        ...

    async def claim(self, job_id: str) -> Record | None:
        """Return a job's row, if there is one, and keep other processes from the job from now on.

        Raises:
            ClaimedError: Another living process works on it.
        """
        ...

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        """Write the intent of a paid request: the last chance to refuse before money is spent.

        Args:
            intent: The row to write.
            previous: The row it replaces, ``None`` when there is none.

        Returns:
            Whether it was written; ``False`` when the job's row is no longer ``previous``.

        Raises:
            JournalError: The row, or the next one, cannot be written: nothing may be paid.
        """
        ...

    async def put(self, record: Record) -> None:
        """Write a job's row over any earlier one."""
        ...

    async def undo(self, intent: Record, previous: Record | None) -> None:
        """Undo ``begin``: the paid request was certainly not executed. A row that has changed since stays.

        Args:
            intent: The row that ``begin`` wrote.
            previous: The row it replaced; ``None`` removes the row.
        """
        ...

    async def drop(self, job_id: str) -> None:
        """Remove a job's row: a later run starts the job anew."""
        ...

    async def tally(self) -> Tally:
        """Return the sums over all rows."""
        ...

    def records(self) -> AsyncIterator[Record]:
        """Return all rows in the order in which their jobs were started, in bounded memory."""
        ...

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that was kept, expired or not."""
        ...

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload."""
        ...

    async def get_state(self, name: str) -> bytes | None:
        """Return the data kept under a name, such as learnt task durations."""
        ...

    async def put_state(self, name: str, data: bytes) -> None:
        """Keep data under a name for the next run."""
        ...
