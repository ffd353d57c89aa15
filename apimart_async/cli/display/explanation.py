"""Errors as sentences: what happened, what it means for the money, and what to do next."""

from __future__ import annotations

import os
import sys
import traceback
from typing import Final, TypeAlias

from apimart_async import errors
from apimart_async.cli.display.text import sentence
from apimart_async.cli.job import Job
from apimart_async.cli.resume_hint import ResumeHint

_DEBUG: Final = "APIMART_DEBUG"

Steps: TypeAlias = tuple[tuple[type[errors.ApimartError], str], ...]

_QUOTA: Final = "insufficient_quota"
_TOP_UP: Final = "Top up the account, then run it again."
_NEXT_STEPS: Final[Steps] = (
    (errors.InsufficientBalanceError, _TOP_UP),
    (errors.PermissionDeniedError, "This key may not do it: check the model and the account."),
    (errors.RateLimitError, "Nothing was billed; run it again in a while."),
    (errors.NotFoundError, "Check the model and the base URL."),
    (errors.APIConnectionError, "Nothing was billed; check the connection and run it again."),
    (errors.InternalServerError, "Nothing was billed; run it again in a while."),
    (errors.APIResponseValidationError, "Nothing was billed; check the base URL."),
    (errors.APIStatusError, "Nothing was billed; correct it and run it again."),
)
_TASK_STEPS: Final[Steps] = (
    (errors.TaskFailedError, "Failed tasks are free; change the prompt or the picture and try again."),
    (errors.TaskCancelledError, "Run it again."),
    (errors.TaskExpiredError, "Check the id; the service keeps tasks for some days only."),
    (errors.NotFoundError, "Check the id; the service keeps tasks for some days only."),
)


def explain(error: Exception, job: Job | None, resume_hint: ResumeHint) -> str:
    """Say in one line what went wrong and what to do next.

    Args:
        error: What was raised.
        job: What it was raised for, if anything.
        resume_hint: How to go on with a paid task.
    """
    task_id = _task_id(error, job)
    reason = sentence(_reason(error))
    command = resume_hint.command([task_id] if task_id else [])
    key_step = f"Check the key in {resume_hint.key} and the service it is for."
    step = _next_step(error, task_id, command, key_step)
    return f"{reason} {step}" if step else reason


def _task_id(error: Exception, job: Job | None) -> str | None:
    known = error.task_id if isinstance(error, errors.ApimartError) else None
    return known or (job.task.id if job is not None and job.task is not None else None)


def _reason(error: Exception) -> str:
    if isinstance(error, errors.ApimartError):
        context = _context(error)
        message = error.message
        if isinstance(error, errors.APIError):  # the service's words, often without a capital
            message = message[:1].upper() + message[1:]
        return f"{message.rstrip('.')} ({context})" if context else message
    if isinstance(error, OSError):
        return str(error)
    unexpected = f"Unexpected {type(error).__name__}: {error}".rstrip(": .")
    return unexpected if debugging() else f"{unexpected}; run it with {_DEBUG}=1 for the traceback."


def _context(error: errors.ApimartError) -> str:
    """Return what support, or whoever looks for the cause, will ask for."""
    facts = [
        f"HTTP {error.status}" if error.status else None,
        f"at {error.url}" if isinstance(error, errors.APIConnectionError) and error.url else None,
        f"request id {error.request_id}"
        if error.request_id and error.request_id not in error.message
        else None,
    ]
    return ", ".join(fact for fact in facts if fact)


def _next_step(error: Exception, task_id: str | None, command: str | None, key_step: str) -> str | None:
    if task_id is not None:
        known = _first(error, _TASK_STEPS)
        if known is not None or command is None:
            return known
        first = f"{key_step} " if isinstance(error, errors.AuthenticationError) else ""
        return f"{first}The task is not lost; go on with: {command}"
    if isinstance(error, errors.SubmissionIndeterminateError):
        return None  # its message says all of it
    if isinstance(error, errors.AuthenticationError):
        return key_step
    return _TOP_UP if _is_used_up(error) else _first(error, _NEXT_STEPS)


def ends_all(error: Exception) -> bool:
    """Tell whether all that follow would meet it too: the key is not accepted, the balance is used up."""
    return isinstance(error, errors.AuthenticationError) or _is_used_up(error)


def _is_used_up(error: Exception) -> bool:
    if isinstance(error, errors.RateLimitError):
        return error.code == _QUOTA
    return isinstance(error, errors.InsufficientBalanceError)


def _first(error: Exception, steps: Steps) -> str | None:
    return next((step for kind, step in steps if isinstance(error, kind)), None)


def debugging() -> bool:
    """Tell whether tracebacks are wanted."""
    return os.environ.get(_DEBUG, "") not in {"", "0"}


def trace(error: BaseException) -> None:
    """Print the traceback where one is wanted."""
    if debugging():
        traceback.print_exception(error, file=sys.stderr)
