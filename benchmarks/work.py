"""The workloads: their operations, their size, and the requests that the server must have received."""

from __future__ import annotations

from typing import Final

import attrs

from benchmarks.server import POLLS_PER_JOB

KB: Final = 1_000
MB: Final = 1_000_000


@attrs.frozen
class Workload:
    """Operations of one kind.

    Attributes:
        name: Name in the tables.
        kind: ``poll``, ``upload``, ``download`` or ``job``.
        size: Bytes of the image; for a job, of the image that is uploaded.
        operations: Number of operations of one measurement: about half a second of plain aiohttp.
    """

    name: str
    kind: str
    size: int
    operations: int

    def requests(self, count: int) -> dict[str, int]:
        """Return the number of requests of each kind that operations send."""
        if self.kind == "job":
            return {"upload": count, "submit": count, "poll": count * POLLS_PER_JOB, "download": count}
        return {self.kind: count}

    def count(self, at_once: int, effort: float) -> int:
        """Return the number of operations: a multiple of the number of concurrent operations."""
        return max(1, round(self.operations * effort / at_once)) * at_once


ALL: Final = (
    Workload("poll", "poll", 0, 6000),
    Workload("upload 200 KB", "upload", 200 * KB, 1500),
    Workload("upload 5 MB", "upload", 5 * MB, 192),
    Workload("upload 20 MB", "upload", 20 * MB, 48),
    Workload("download 200 KB", "download", 200 * KB, 1500),
    Workload("download 3 MB", "download", 3 * MB, 300),
    Workload("job", "job", 200 * KB, 256),
)
NAMED: Final = {work.name: work for work in ALL}
