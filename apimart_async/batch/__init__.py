"""Many edits that survive a crash: each is paid at most once, and none that is paid for is lost.

```python
async with edit_many(
    client,
    jobs,                       # any iterable or async iterable of Job, taken lazily
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
    drain=None,                 # a Drain, to end early: begin nothing more, finish what is in flight
) as outcomes:
    async for outcome in outcomes:
        ...
```
"""

from __future__ import annotations

from apimart_async.batch.drain import Drain
from apimart_async.batch.job import Job, Outcome, Status
from apimart_async.batch.journal import Journal, Tally
from apimart_async.batch.progress import Progress
from apimart_async.batch.record import Failure, Record, State
from apimart_async.batch.results import read_outcomes
from apimart_async.batch.runner import edit_many
from apimart_async.batch.sqlite import SqliteJournal

__all__ = [
    "Drain",
    "Failure",
    "Job",
    "Journal",
    "Outcome",
    "Progress",
    "Record",
    "SqliteJournal",
    "State",
    "Status",
    "Tally",
    "edit_many",
    "read_outcomes",
]
