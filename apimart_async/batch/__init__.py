"""Many jobs that survive a crash: each is paid at most once, and no paid result is lost.

```python
async with run_many(
    client,
    jobs,                       # any iterable or async iterable of Job, of every operation, taken lazily
    output="out/",              # results, results.jsonl and the journal
    journal=None,               # in .batch/ of the output by default; a path, or any Journal
    max_in_flight=256,
    max_uploads=32,
    max_downloads=32,
    max_cost=None,              # USD
    in_doubt="report",          # or "resubmit"
    retry_failed=False,
    timeout=None,               # seconds for each task
    on_progress=None,           # called with a Progress
    shutdown=None,              # a Shutdown, to end early: start no further jobs, finish those in flight
) as outcomes:
    async for outcome in outcomes:
        ...
```
"""

from __future__ import annotations

from apimart_async.batch.context import BatchOptions
from apimart_async.batch.edit_many import edit_many, read_outcomes, run_many
from apimart_async.batch.estimate import Estimate, estimate
from apimart_async.batch.job import Job, Outcome, Status
from apimart_async.batch.journal.postgres import PostgresJournal
from apimart_async.batch.journal.protocol import Journal, Tally
from apimart_async.batch.journal.record import Failure, Record, State
from apimart_async.batch.journal.sqlite import SqliteJournal
from apimart_async.batch.progress import JobProgress, Progress
from apimart_async.batch.runner import Runner
from apimart_async.batch.shutdown import Shutdown

__all__ = [
    "BatchOptions",
    "Estimate",
    "Failure",
    "Job",
    "JobProgress",
    "Journal",
    "Outcome",
    "PostgresJournal",
    "Progress",
    "Record",
    "Runner",
    "Shutdown",
    "SqliteJournal",
    "State",
    "Status",
    "Tally",
    "edit_many",
    "estimate",
    "read_outcomes",
    "run_many",
]
