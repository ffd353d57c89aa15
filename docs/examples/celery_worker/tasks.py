"""A Celery worker that edits photos, and pays once for a task that is delivered twice.

Run it with ``celery -A tasks worker``. ``BROKER`` is the URL of the broker, ``EDITS`` a
folder that all workers share.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from celery import Celery

from apimart_async import (
    ApimartError,
    DownloadError,
    Job,
    JournalInUseError,
    TaskTimeoutError,
)
from apimart_async.sync import Apimart, edit_many

if TYPE_CHECKING:
    from celery.app.task import Task

FOLDER = Path(os.environ.get("EDITS", "edits"))
MAX_WAIT = (
    240.0  # seconds for a task of the service, before the worker is free for another
)
RETRY_DELAY = 60  # seconds

app = Celery("tasks", broker=os.environ.get("BROKER", "redis://localhost"))
# A worker that is killed leaves its task to another worker.
app.conf.update(
    task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1
)


@app.task(bind=True, max_retries=30)
def edit(self: Task[[str, str], list[str]], photo: str, prompt: str) -> list[str]:
    """Edit a photo, and return the paths of the images."""
    key = str(self.request.id)
    # By the id of the Celery task, the journal of the batch of one job has its state.
    job = Job(photo, prompt, id=key, name=key)
    try:
        with (
            Apimart() as client,
            edit_many(client, [job], output=FOLDER / key, timeout=MAX_WAIT) as outcomes,
        ):
            (outcome,) = list(outcomes)
        if outcome.error is not None:
            raise outcome.error
    except ApimartError as error:
        if goes_on(error):
            raise self.retry(exc=error, countdown=RETRY_DELAY) from error
        raise  # also SubmissionIndeterminateError: look at the account
    return [str(path) for path in outcome.paths]


def goes_on(error: ApimartError) -> bool:
    """Tell whether a retry may help: nothing was executed, or the paid task is late."""
    return error.is_transient or isinstance(
        error, DownloadError | JournalInUseError | TaskTimeoutError
    )
