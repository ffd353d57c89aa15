"""Async-first SDK for the APIMart image services: edit thousands of photos without paying twice.

```python
async with AsyncApimart() as client:
    task = await client.edits.run("photo.jpg", "Change the background to a starry sky")
    paths = await client.images.save(task, "out/")
```
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, Final

from apimart_async.config import Limits, Media, Poll, Retry, Timeout
from apimart_async.errors import (
    APIConnectionError,
    APIError,
    ApimartError,
    APIResponseValidationError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BudgetExceededError,
    ConflictError,
    DownloadError,
    ImageError,
    ImageTooLargeError,
    InsufficientBalanceError,
    InternalServerError,
    InvalidArgumentError,
    JournalError,
    JournalInUseError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    SubmissionIndeterminateError,
    TaskCancelledError,
    TaskError,
    TaskExpiredError,
    TaskFailedError,
    TaskResultError,
    TaskTimeoutError,
    UnprocessableEntityError,
    UnsupportedImageError,
)
from apimart_async.hooks import EventHooks, RequestEvent, ResponseEvent
from apimart_async.interruption import Interrupted, interrupted
from apimart_async.models import (
    AccountUsage,
    Balance,
    CompletedImageEvent,
    DayUsage,
    DurationEstimate,
    Idempotency,
    Image,
    ImageEvent,
    ImageSet,
    Model,
    ModelSchema,
    Parameter,
    PartialImageEvent,
    Quote,
    Task,
    TaskFailure,
    TokenDetails,
    Upload,
    Usage,
)
from apimart_async.recording import Response, record_responses

if TYPE_CHECKING:
    from apimart_async.applerouter import AsyncAppleRouter
    from apimart_async.batch.edit_many import edit_many, run_many
    from apimart_async.batch.estimate import Estimate, estimate
    from apimart_async.batch.job import Job, Outcome
    from apimart_async.client import AsyncApimart
    from apimart_async.sync import Apimart, AppleRouter
    from apimart_async.transport.media.forms import ImageInput
    from apimart_async.transport.media.png import prepare_png
    from apimart_async.transport.object_storage import ObjectPath

__version__: Final = "0.1.0"

# Without a handler of the program, Python writes warnings to stderr: those about money have to be seen.
if _log_level := os.environ.get("APIMART_LOG"):
    from apimart_async.logs import log_to_stderr

    log_to_stderr(_log_level)

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseValidationError",
    "APIStatusError",
    "APITimeoutError",
    "AccountUsage",
    "Apimart",
    "ApimartError",
    "AppleRouter",
    "AsyncApimart",
    "AsyncAppleRouter",
    "AuthenticationError",
    "BadRequestError",
    "Balance",
    "BudgetExceededError",
    "CompletedImageEvent",
    "ConflictError",
    "DayUsage",
    "DownloadError",
    "DurationEstimate",
    "Estimate",
    "EventHooks",
    "Idempotency",
    "Image",
    "ImageError",
    "ImageEvent",
    "ImageInput",
    "ImageSet",
    "ImageTooLargeError",
    "InsufficientBalanceError",
    "InternalServerError",
    "Interrupted",
    "InvalidArgumentError",
    "Job",
    "JournalError",
    "JournalInUseError",
    "Limits",
    "Media",
    "Model",
    "ModelSchema",
    "NotFoundError",
    "ObjectPath",
    "Outcome",
    "Parameter",
    "PartialImageEvent",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Poll",
    "Quote",
    "RateLimitError",
    "RequestEvent",
    "Response",
    "ResponseEvent",
    "Retry",
    "SubmissionIndeterminateError",
    "Task",
    "TaskCancelledError",
    "TaskError",
    "TaskExpiredError",
    "TaskFailedError",
    "TaskFailure",
    "TaskResultError",
    "TaskTimeoutError",
    "Timeout",
    "TokenDetails",
    "UnprocessableEntityError",
    "UnsupportedImageError",
    "Upload",
    "Usage",
    "__version__",
    "edit_many",
    "estimate",
    "interrupted",
    "prepare_png",
    "record_responses",
    "run_many",
]

# Imported at the first use: aiohttp, which clients import, takes three times as long as all the rest.
_LAZY: Final = {
    "Apimart": "apimart_async.sync",
    "AppleRouter": "apimart_async.sync",
    "AsyncApimart": "apimart_async.client",
    "AsyncAppleRouter": "apimart_async.applerouter",
    "Estimate": "apimart_async.batch.estimate",
    "ImageInput": "apimart_async.transport.media.forms",
    "Job": "apimart_async.batch.job",
    "ObjectPath": "apimart_async.transport.object_storage",
    "Outcome": "apimart_async.batch.job",
    "edit_many": "apimart_async.batch.edit_many",
    "estimate": "apimart_async.batch.estimate",
    "prepare_png": "apimart_async.transport.media.png",
    "run_many": "apimart_async.batch.edit_many",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 the type depends on the name
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
