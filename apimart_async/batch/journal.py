"""What a batch needs of a journal, whatever keeps it.

The journal is what makes a batch safe to kill: ``record.py`` says what each state of a job means and what
becomes of it on restart. Rows hold no API key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from apimart_async.batch.record import State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from apimart_async.batch.record import Record
    from apimart_async.models import Upload


@attrs.frozen
class Tally:
    """What a journal adds up to.

    Attributes:
        jobs: How many jobs are in each state; states without any may be missing.
        spent: USD of the costs that are known.
        outstanding: How many images of each model may have been billed without the cost being known.
    """

    jobs: Mapping[State, int]
    spent: float
    outstanding: Mapping[str, int]


class Journal(Protocol):
    """Rows that survive a crash.

    Enter it before use. Every method that writes returns when what it wrote is durable, and raises
    ``JournalError`` when it cannot be. Writes that were made before are seen by every read after.
    """

    async def __aenter__(self) -> Self:
        """Make it ready, and find out whether it can be written.

        Rows of jobs that failed before their paid request are dropped: they are begun anew.

        Raises:
            JournalInUseError: Another process is using it.
            JournalError: It is damaged, of a newer version, or cannot be written.
        """
        ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of it; what was written stays."""
        ...

    async def get(self, job_id: str) -> Record | None:
        """Return a job's row, if there is one."""
        ...

    async def begin(self, intent: Record, previous: Record | None) -> bool:
        """Write the intent of a paid request: the last moment to refuse before money is spent.

        Args:
            intent: The row to write.
            previous: The row it replaces, ``None`` when there is none.

        Returns:
            Whether it was written; not, when the job's row is no longer ``previous``.

        Raises:
            JournalError: It cannot be written, or what follows it could not be: nothing may be paid.
        """
        ...

    async def put(self, record: Record) -> None:
        """Write a job's row, whatever it was before."""
        ...

    async def drop(self, job_id: str) -> None:
        """Remove a job's row: its paid request was certainly not executed, and may be made another day."""
        ...

    async def tally(self) -> Tally:
        """Add the rows up."""
        ...

    def records(self) -> AsyncIterator[Record]:
        """Return all rows in the order their jobs were begun, a bounded number in memory at a time."""
        ...

    async def get_upload(self, key: str) -> Upload | None:
        """Return an upload that was kept, if there is one, expired or not."""
        ...

    async def put_upload(self, key: str, upload: Upload) -> None:
        """Keep an upload."""
        ...

    async def get_state(self, name: str) -> bytes | None:
        """Return what was kept under a name, such as what polling has learnt."""
        ...

    async def put_state(self, name: str, data: bytes) -> None:
        """Keep something under a name for the next run."""
        ...
