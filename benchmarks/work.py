"""The work that every client does: what, how often, and what the server must have seen of it."""

from __future__ import annotations

from typing import Final

import attrs

from benchmarks.server import POLLS_PER_JOB

KB: Final = 1_000
MB: Final = 1_000_000


@attrs.frozen
class Work:
    """One kind of work.

    Attributes:
        name: As in the tables.
        kind: ``poll``, ``upload``, ``download`` or ``job``.
        size: Bytes of the image; of a job, of the one uploaded.
        often: How often it is done in one measurement, about half a second's worth of plain aiohttp.
    """

    name: str
    kind: str
    size: int
    often: int

    def requests(self, times: int) -> dict[str, int]:
        """Return what the server must have been asked for."""
        if self.kind == "job":
            return {"upload": times, "submit": times, "poll": times * POLLS_PER_JOB, "download": times}
        return {self.kind: times}

    def times(self, at_once: int, effort: float) -> int:
        """Return how often it is done: a whole number of rounds for all that work at once."""
        return max(1, round(self.often * effort / at_once)) * at_once


ALL: Final = (
    Work("poll", "poll", 0, 6000),
    Work("upload 200 KB", "upload", 200 * KB, 1500),
    Work("upload 5 MB", "upload", 5 * MB, 192),
    Work("upload 20 MB", "upload", 20 * MB, 48),
    Work("download 200 KB", "download", 200 * KB, 1500),
    Work("download 3 MB", "download", 3 * MB, 300),
    Work("job", "job", 200 * KB, 256),
)
NAMED: Final = {work.name: work for work in ALL}
