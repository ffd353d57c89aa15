"""What to say of jobs that have ended, one by one and all together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import attrs

from apimart_async.cli.display.text import dollars, seconds
from apimart_async.cli.job import Job, Stage
from apimart_async.cli.resume_hint import ResumeHint


@attrs.frozen
class Wording:
    """What the command calls its work, for example 3 ``images`` ``edited``.

    Attributes:
        noun: One thing that is worked on.
        done: What it is afterwards.
    """

    noun: str
    done: str

    def count(self, number: int) -> str:
        """Return the number and the noun."""
        return f"{number} {self.noun}" if number == 1 else f"{number} {self.noun}s"


def facts(job: Job) -> str:
    """Return how long a job took and what it cost."""
    took = f"in {seconds(job.seconds)}" if job.seconds is not None else ""
    return took + _cost([job])


def sum_up(jobs: Sequence[Job], wording: Wording, duration: float) -> str:
    """Return the sentence about all jobs of a command that was not interrupted."""
    stages = Counter(job.stage for job in jobs)
    everything = wording.count(len(jobs))
    done, failed, left = stages[Stage.DONE], stages[Stage.FAILED], stages[Stage.NOT_STARTED]
    said = [f"{everything if done == len(jobs) else f'{done} of {everything}'} {wording.done}"]
    if failed:
        said.append(f"{failed} failed")
    if left:
        said.append(f"{left} not started")
    return f"{', '.join(said)} in {seconds(duration)}{_cost(jobs)}."


def interruption(jobs: Sequence[Job], wording: Wording, resume_hint: ResumeHint) -> list[str]:
    """Return what to say when the command was interrupted: what is paid for, and how to get it."""
    done = sum(job.stage is Stage.DONE for job in jobs)
    lines = [f"Interrupted: {done} of {wording.count(len(jobs))} {wording.done}{_cost(jobs)}."]
    cut_off = [job for job in jobs if job.stage is Stage.INTERRUPTED]
    tasks = [job.task.id for job in cut_off if job.task is not None]
    command = resume_hint.command(tasks)
    if command is not None:
        whose = "1 task is" if len(tasks) == 1 else f"{len(tasks)} tasks are"
        lines += [f"{whose} paid for and not lost; go on with:", f"  {command}"]
    lines += [
        f"{job.label}: {job.doubt} Look at the account before doing it again."
        for job in cut_off
        if job.doubt is not None and resume_hint.is_possible
    ]
    return lines


def _cost(jobs: Sequence[Job]) -> str:
    costs = [job.task.cost for job in jobs if job.task is not None and job.task.cost is not None]
    return f" for {dollars(sum(costs))}" if costs else ""
