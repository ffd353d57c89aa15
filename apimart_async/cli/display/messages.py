"""Sentences for people: errors with the next step, summaries, and commands that continue paid tasks."""

from __future__ import annotations

import shlex
import traceback
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs

from apimart_async import errors
from apimart_async.cli.display.item import Item, total_cost
from apimart_async.cli.display.output import (
    DEBUG,
    command_line,
    debugging,
    dollars,
    say,
    seconds,
    sentence,
    unknown_costs,
)

if TYPE_CHECKING:
    from apimart_async.batch import Progress

Steps: TypeAlias = tuple[tuple[type[errors.ApimartError], str], ...]

_TOP_UP: Final = "Top up the account, then run it again."
_NEXT_STEPS: Final[Steps] = (
    (errors.InsufficientBalanceError, _TOP_UP),
    (errors.BudgetExceededError, "Edit the pictures that are left with a command of their own."),
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


@attrs.frozen
class ResumeHint:
    """How to continue paid tasks with another command.

    Attributes:
        directory: Directory for their images; ``None`` when they were only waited for.
        base_url: The option.
        is_possible: Whether the service outlives the command.
        key: Name of the variable with the key.
    """

    directory: Path | None = None
    base_url: Sequence[str] | None = None
    is_possible: bool = True
    key: str = "APIMART_API_KEY"

    def command(self, tasks: Sequence[tuple[str, Item | None]]) -> str | None:
        """Return the command that continues tasks, or ``None`` when there is none.

        Args:
            tasks: The id of each, and its item.
        """
        if not tasks or not self.is_possible:
            return None
        command = ["apimart", "task", "wait" if self.directory is None else "save"]
        ids = [
            f"{task_id}={item.name}" if item is not None and item.name else task_id for task_id, item in tasks
        ]
        options: list[str] = []
        if self.directory is not None:
            options += ["-o", str(self.directory)]
        if self.base_url is not None:
            options += ["--base-url", ",".join(self.base_url)]
        if any(task_id.startswith("-") for task_id in ids):  # an id of the service is no option
            return command_line([*command, *options, "--", *ids])
        return command_line([*command, *ids, *options])


NO_RESUME: Final = ResumeHint(is_possible=False)


# --- errors -----------------------------------------------------------------------------------------------


def explain(error: Exception, resume_hint: ResumeHint = NO_RESUME, item: Item | None = None) -> str:
    """Return the cause of an error and the next step in one line.

    Args:
        error: The error.
        resume_hint: How to continue a paid task.
        item: The argument that failed.
    """
    task_id = error.task_id if isinstance(error, errors.ApimartError) else None
    if task_id is None and item is not None and item.task is not None:
        task_id = item.task.id
    command = None if task_id is None else resume_hint.command([(task_id, item)])
    step = _next_step(error, task_id, command, resume_hint.key)
    return " ".join(filter(None, [sentence(_reason(error)), step]))


def _reason(error: Exception) -> str:
    if isinstance(error, errors.ApimartError):
        context = _context(error)
        return f"{error.message.rstrip('.')} ({context})" if context else _message(error)
    if isinstance(error, OSError):
        return str(error)
    unexpected = f"Unexpected {type(error).__name__}: {error}".rstrip(": .")
    return unexpected if debugging() else f"{unexpected}; run it with {DEBUG}=1 for the traceback."


def _context(error: errors.ApimartError) -> str:
    """Return the facts for the support of the service."""
    is_unknown = bool(error.request_id) and str(error.request_id) not in error.message
    facts = [
        f"HTTP {error.status}" if error.status else None,
        f"at {error.url}" if isinstance(error, errors.APIConnectionError) and error.url else None,
        f"request id {error.request_id}" if is_unknown else None,
    ]
    return ", ".join(filter(None, facts))


def _next_step(error: Exception, task_id: str | None, command: str | None, key: str) -> str | None:
    key_step = f"Check the key in {key} and the service it is for."
    if task_id is not None:
        known = _first(error, _TASK_STEPS)
        if known is not None or command is None:
            return known
        first = f"{key_step} " if isinstance(error, errors.AuthenticationError) else ""
        return f"{first}The task is not lost; go on with: {command}"
    if isinstance(error, errors.AuthenticationError):
        return key_step
    if isinstance(error, errors.RateLimitError) and error.stops_batch:
        return _TOP_UP
    if isinstance(error, errors.RateLimitError) and error.retry_after:
        return f"Nothing was billed; run it again in {error.retry_after:,.0f} s."
    # The message of a SubmissionIndeterminateError says how to continue.
    return None if isinstance(error, errors.SubmissionIndeterminateError) else _first(error, _NEXT_STEPS)


def _first(error: Exception, steps: Steps) -> str | None:
    return next((step for kind, step in steps if isinstance(error, kind)), None)


def trace(error: BaseException) -> None:
    """Print the traceback when debugging."""
    if debugging():
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line, always=True)


# --- the items of a command -------------------------------------------------------------------------------


@attrs.frozen
class Wording:
    """The words of a summary, for example 3 ``images`` ``edited``.

    Attributes:
        noun: Name of one item.
        done: Participle of the work.
    """

    noun: str
    done: str

    def count(self, number: int) -> str:
        """Return the number and the noun."""
        return f"{number} {self.noun}" if number == 1 else f"{number} {self.noun}s"


def sum_up(items: Sequence[Item], wording: Wording, duration: float) -> str:
    """Return the sentence about all items of a command that was not interrupted."""
    stages = Counter(item.stage for item in items)
    everything, done = wording.count(len(items)), stages["done"]
    parts = [f"{everything if done == len(items) else f'{done} of {everything}'} {wording.done}"]
    doubtful = sum(isinstance(item.error, errors.SubmissionIndeterminateError) for item in items)
    if stages["failed"] > doubtful:
        parts.append(f"{stages['failed'] - doubtful} failed")
    if doubtful:
        parts.append(f"{doubtful} in doubt")
    if stages["not_started"]:
        parts.append(f"{stages['not_started']} not started")
    return f"{', '.join(parts)} in {seconds(duration)}{total_cost(items)}."


def interruption(items: Sequence[Item], wording: Wording, resume_hint: ResumeHint) -> list[str]:
    """Return the lines about an interrupted command: paid tasks, how to continue them, and doubts."""
    done = sum(item.stage == "done" for item in items)
    lines = [f"Interrupted: {done} of {wording.count(len(items))} {wording.done}{total_cost(items)}."]
    cut_off = [item for item in items if item.stage == "interrupted"]
    tasks = [(item.task.id, item) for item in cut_off if item.task is not None and item.task.id is not None]
    command = resume_hint.command(tasks)
    if command is not None:
        subject = "1 task is" if len(tasks) == 1 else f"{len(tasks)} tasks are"
        lines += [f"{subject} paid for and not lost; go on with:", f"  {command}"]
    if resume_hint.is_possible:
        lines += [
            f"{item.label}: {item.doubt} Look at the account before doing it again."
            for item in cut_off
            if item.doubt is not None
        ]
    return lines


# --- batches ----------------------------------------------------------------------------------------------


def batch_counts(progress: Progress) -> list[str]:
    """Return the numbers of jobs that ended without being saved."""
    numbers = (progress.failed, progress.in_doubt, progress.unfinished)
    words = ("failed", "in doubt", "unfinished")
    return [f"{number:,} {word}" for number, word in zip(numbers, words, strict=True) if number]


def rate_limited(progress: Progress) -> str:
    """Return whether a batch waits for the rate limit of the service, and the limit if it is known."""
    if not progress.is_rate_limited:
        return ""
    return "rate limited" if progress.rate_limit is None else f"rate limited, {progress.rate_limit:.3g}/s"


def batch_facts(progress: Progress) -> list[str]:
    """Return the facts about a running batch: in flight, rate, cost, time left."""
    eta = progress.eta
    left = "finishing" if progress.is_shutting_down else f"{seconds(eta)} left" if eta is not None else ""
    facts = [
        f"{progress.in_flight:,} in flight",
        *batch_counts(progress),
        f"{progress.rate:.1f}/s" if progress.rate < 10 else f"{progress.rate:,.0f}/s",  # noqa: PLR2004 digits enough
        _cost(progress),
        rate_limited(progress),
        left,
    ]
    return [fact for fact in facts if fact]


def _cost(progress: Progress) -> str:
    """Return the known costs, and the number of those that are not known."""
    unknown = progress.unknown_costs
    known = dollars(progress.spent) if progress.spent or not unknown else ""
    return " and ".join(filter(None, (known, unknown_costs(unknown) if unknown else "")))


def batch_summary(
    progress: Progress, total: int, output: Path, *, is_interrupted: bool, is_partial: bool = False
) -> Sequence[str]:
    """Return the sentence about a batch that has ended, and one about jobs that this run has not ended.

    Args:
        progress: Last progress of the batch.
        total: Number of jobs.
        output: Directory of the results.
        is_interrupted: Whether a signal ended it.
        is_partial: Whether the journal may have facts about jobs that this run has not ended.
    """
    rest = total - progress.done
    jobs = "job" if total == 1 else "jobs"
    parts = [f"{progress.saved:,} of {total:,} {jobs} saved in {output}", *batch_counts(progress)]
    if rest > 0:
        parts.append(f"{rest:,} not ended in this run" if is_partial else f"{rest:,} not done yet")
    beginning = "Interrupted: " if is_interrupted else ""
    spent = f", {_cost(progress)} in all" if progress.spent or progress.unknown_costs else ""
    lines = [f"{beginning}{', '.join(parts)}; {seconds(progress.elapsed)}{spent}."]
    if rest > 0 and is_partial:
        lines.append("`apimart batch status` counts all jobs that are saved, paid for or in doubt.")
    return lines


def batch_hints(
    progress: Progress,
    output: Path,
    *,
    missing: int,
    elsewhere: int,
    invalid: int,
    doubtful_edits: int,
    retried: bool,
    is_local: bool,
) -> Sequence[str]:
    """Return how to continue with the jobs that were not saved, a line each.

    Args:
        progress: Last progress of a batch that has ended.
        output: Directory of the results.
        missing: Number of unfinished jobs with a task that the service does not know.
        elsewhere: Number of unfinished jobs that another process with the same journal works on.
        invalid: Number of failed jobs that cannot be submitted as they are.
        doubtful_edits: Number of jobs in doubt that are edits, for which the service promises nothing.
        retried: Whether failed jobs were started anew.
        is_local: Whether its service ended with it.
    """
    lines: list[str] = []
    if progress.in_doubt:
        beginning = f"{progress.in_doubt:,} may have been paid for or not: look at the account"
        lines.append(
            f"{beginning}, then use --resubmit-unsafe. The service promises to bill once for no edit, so "
            "--resubmit-in-doubt submits none."
            if doubtful_edits == progress.in_doubt
            else f"{beginning}. With --resubmit-in-doubt, those are submitted again that the service "
            f"promises to bill once{', no edits' if doubtful_edits else ''}; with --resubmit-unsafe, all."
        )
    if elsewhere:
        lines.append(f"{elsewhere:,} are with other processes that share the journal.")
    unfinished = progress.unfinished - elsewhere
    if unfinished and not is_local:
        lines.append(f"{unfinished:,} are paid for and not lost: run the same command again.")
    if missing and not is_local:
        lines.append(
            f"The service does not know the task of {missing:,} of these: look at the account. "
            "They are submitted again only with --retry-missing."
        )
    failed = progress.failed - invalid
    if failed and not retried:
        lines.append(f"{failed:,} failed: run it again with --retry-failed to try them once more.")
    if lines and (failed or progress.in_doubt):
        lines.append(f"The reasons are in {shlex.quote(str(output / 'results.jsonl'))}.")
    if invalid:
        # One whose id belongs to other work is not in results.jsonl: the other work is.
        lines.append(f"{invalid:,} cannot be submitted as they are: change them. --check lists the reasons.")
    return lines


def ending(error: errors.ApimartError) -> str:
    """Return the reason why a batch has stopped, with the options of the command."""
    return sentence(_message(error))


def _message(error: errors.ApimartError) -> str:
    """Return the message of an error, with the option of the command in place of the argument."""
    is_budget = isinstance(error, errors.BudgetExceededError)
    return error.message.replace("max_cost", "--max-cost") if is_budget else error.message
