"""Ctrl-C, exit and fork with blocking clients, in processes of their own, against the emulator."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Self

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from apimart_async.emulator import Emulator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals and forks are those of POSIX")

BEGIN = """
import os, sys, threading, time
from apimart_async import Poll
from apimart_async.sync import Apimart

poll = Poll(first=0.02, shortest=0.02, longest=0.05)
client = Apimart(poll=poll)
"""
GIF = "b'GIF89a' + bytes([1, 0, 1, 0, 0, 0, 0, 0x3B])"
SUBMIT = f"task = client.edits.create({GIF}, 'snow')\n"


class Script:
    """A Python process that uses the blocking client as a user's script would."""

    def __init__(self, code: str, service: Emulator, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", BEGIN + code],
            cwd=directory,
            env=os.environ | {"APIMART_API_KEY": service.api_key, "APIMART_BASE_URL": service.base_url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process:
            self.process.kill()

    def line(self) -> str:
        """Wait for one line of output."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def interrupt(self) -> None:
        """Send SIGINT and wait for the end of the process, whose call would take an hour."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(120)

    def end(self) -> tuple[int, str, str]:
        """Wait for the end and return the exit code, the rest of the output and the errors."""
        output, errors = self.process.communicate(timeout=120)
        return self.process.returncode, output.strip(), errors.strip()


class TestCtrlC:
    def test_during_a_wait(self, slow_service: Emulator, tmp_path: Path) -> None:
        code = """
print(task.id, flush=True)
try:
    client.tasks.wait(task, on_update=lambda task: print("looked", flush=True))
except KeyboardInterrupt as interruption:
    print("interrupted", *interruption.__notes__, flush=True)
    print(client.tasks.get(task).status, flush=True)
    raise
"""
        with Script(SUBMIT + code, slow_service, tmp_path) as script:
            task_id = script.line()
            assert script.line() == "looked"
            script.interrupt()
            returncode, output, errors = script.end()
        note = f"The wait was cut off; task {task_id} goes on and can be waited for again."
        interrupted, status = [line for line in output.splitlines() if line != "looked"]
        assert interrupted == f"interrupted {note}"
        assert status in {"submitted", "processing"}
        assert returncode == -signal.SIGINT
        assert errors.endswith(f"KeyboardInterrupt\n{note}")
        assert "During handling" not in errors

    def test_during_a_wait_lets_cleanup_finish(self, service: Emulator, tmp_path: Path) -> None:
        code = """
import anyio
from apimart_async.sync.portal import Portal

async def close():
    print("closed", flush=True)

async def work():
    try:
        print("working", flush=True)
        await anyio.sleep_forever()
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
            print("cleaned up", flush=True)

portal = Portal(close)
try:
    portal.call(work)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""
        with Script(code, service, tmp_path) as script:
            assert script.line() == "working"
            script.interrupt()
            returncode, output, errors = script.end()
        assert output.splitlines() == ["cleaned up", "interrupted", "closed"]
        assert returncode == -signal.SIGINT
        assert errors.endswith("KeyboardInterrupt")

    def test_twice_does_not_wait_for_cleanup(self, service: Emulator, tmp_path: Path) -> None:
        code = """
import anyio
from apimart_async.sync.portal import Portal

async def close():
    pass

async def work():
    try:
        print("working", flush=True)
        await anyio.sleep_forever()
    finally:
        print("cleaning up", flush=True)
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

Portal(close).call(work)
"""
        with Script(code, service, tmp_path) as script:
            assert script.line() == "working"
            script.process.send_signal(signal.SIGINT)
            assert script.line() == "cleaning up"
            script.interrupt()
            returncode, _, errors = script.end()
        assert returncode == -signal.SIGINT
        assert errors.endswith("KeyboardInterrupt")

    def test_while_iterating(self, slow_service: Emulator, tmp_path: Path) -> None:
        code = """
with client:
    with client.tasks.watch([task]) as finished:
        print("watching", flush=True)
        next(finished)
"""
        with Script(SUBMIT + code, slow_service, tmp_path) as script:
            assert script.line() == "watching"
            script.interrupt()
            returncode, _, errors = script.end()
        assert returncode == -signal.SIGINT
        assert errors.endswith("KeyboardInterrupt")

    def test_names_the_result_of_a_call_that_had_ended(self, service: Emulator, tmp_path: Path) -> None:
        code = """
import anyio, asyncio, signal
from apimart_async.sync.portal import Portal

async def close():
    pass

async def submit():
    os.kill(os.getpid(), signal.SIGINT)
    try:
        await anyio.sleep_forever()
    except asyncio.CancelledError:
        return "task_01"

Portal(close).call(submit)
"""
        with Script(code, service, tmp_path) as script:
            returncode, _, errors = script.end()
        assert returncode == -signal.SIGINT
        assert errors.endswith("KeyboardInterrupt\nThe interrupted call had already ended: 'task_01'")

    def test_at_any_moment_loses_no_paid_task(self, slow_service: Emulator, tmp_path: Path) -> None:
        """Python runs signal handlers when a Python function starts and when a function in C returns."""
        code = f"""
import signal
from apimart_async import interrupted

def interrupt_at(moment):
    def profile(frame, event, _):
        nonlocal moment
        if event in ("call", "c_return") and frame.f_globals["__name__"] != "__main__":
            moment -= 1
            if not moment:
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)
    sys.setprofile(profile)

upload = client.uploads.create({GIF})
moment, is_interrupted = 0, True
while is_interrupted:
    moment += 1
    try:
        interrupt_at(moment)
        work = client.edits.create(upload, str(moment))
        is_interrupted = False
    except KeyboardInterrupt as interruption:
        work = interrupted(interruption)
    sys.setprofile(None)
    if work is not None:
        print(work.idempotency_key, flush=True)
print(moment > 20, flush=True)
"""
        before = len(slow_service.ledger.entries)
        with Script(code, slow_service, tmp_path) as script:
            returncode, output, errors = script.end()
        assert returncode == 0, errors
        *known, is_thorough = output.splitlines()
        assert is_thorough == "True"
        paid = {entry.idempotency_key for entry in slow_service.ledger.entries[before:]}
        assert paid
        assert paid <= set(known)


class TestExit:
    """The client was not closed."""

    def test_after_the_last_line(self, service: Emulator, tmp_path: Path) -> None:
        code = (
            "print(client.tasks.wait(task).status, client.images.read(client.tasks.get(task).images[0])[:3])"
        )
        with Script(SUBMIT + code, service, tmp_path) as script:
            returncode, output, errors = script.end()
        assert (returncode, output, errors) == (0, r"completed b'\xff\xd8\xff'", "")

    def test_by_an_exception(self, service: Emulator, tmp_path: Path) -> None:
        with Script(SUBMIT + "sys.exit(7)", service, tmp_path) as script:
            assert script.end() == (7, "", "")

    def test_inside_a_block(self, slow_service: Emulator, tmp_path: Path) -> None:
        code = """
block = client.tasks.watch([task])
finished = block.__enter__()
print("in", flush=True)
"""
        with Script(SUBMIT + code, slow_service, tmp_path) as script:
            assert script.end() == (0, "in", "")

    def test_while_a_daemon_thread_waits(self, slow_service: Emulator, tmp_path: Path) -> None:
        code = """
looked = threading.Event()
wait = lambda: client.tasks.wait(task, on_update=lambda task: looked.set())
threading.Thread(target=wait, daemon=True).start()
print(looked.wait(120), flush=True)
"""
        with Script(SUBMIT + code, slow_service, tmp_path) as script:
            assert script.end() == (0, "True", "")

    def test_other_threads_finish_their_work(self, service: Emulator, tmp_path: Path) -> None:
        code = f"""
def work():
    threading.main_thread().join()
    host = os.environ["APIMART_BASE_URL"].replace("127.0.0.1", "localhost")
    with Apimart(base_url=host, poll=poll) as client:
        print(client.edits.run({GIF}, "snow").status, flush=True)

threading.Thread(target=work).start()
client.tasks.get(task)
"""
        with Script(SUBMIT + code, service, tmp_path) as script:
            assert script.end() == (0, "completed", "")


def test_many_threads_use_one_client(service: Emulator, tmp_path: Path) -> None:
    code = f"""
from concurrent.futures import ThreadPoolExecutor

with client, ThreadPoolExecutor(8) as threads:
    tasks = list(threads.map(lambda _: client.edits.run({GIF}, "snow"), range(16)))
print(len({{task.id for task in tasks}}), {{task.status for task in tasks}})
print([thread.name for thread in threading.enumerate() if thread.name == "apimart-async"])
"""
    with Script(code, service, tmp_path) as script:
        assert script.end() == (0, "16 {'completed'}\n[]", "")


def test_a_loop_runs_in_the_thread_that_calls(service: Emulator, tmp_path: Path) -> None:
    code = f"""
import asyncio

async def cell():
    with client, client.tasks.watch([client.edits.create({GIF}, "snow")]) as finished:
        return [task.status for task in finished]

print(asyncio.run(cell()))
"""
    with Script(code, service, tmp_path) as script:
        assert script.end() == (0, "['completed']", "")


class TestFork:
    def test_a_client_in_use_says_so_in_the_child(self, service: Emulator, tmp_path: Path) -> None:
        code = """
with client, client.images.stream(client.tasks.wait(task).images[0]) as pieces:
    child = os.fork()
    if child == 0:
        watch = client.tasks.watch([task])
        for use in (lambda: client.tasks.get(task), lambda: next(pieces), watch.__enter__):
            try:
                use()
            except RuntimeError as error:
                print(error, flush=True)
        with Apimart() as other:
            print(other.tasks.get(task).status, flush=True)
        sys.exit(3)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    print(client.tasks.get(task).status, len(b"".join(pieces)) > 0, flush=True)
"""
        with Script(SUBMIT + code, service, tmp_path) as script:
            returncode, output, errors = script.end()
        refusal = (
            "This client was in use before os.fork(), and its connections stayed in the parent process. "
            "Create a new client in the child."
        )
        assert output.splitlines() == [refusal, refusal, refusal, "completed", "3", "completed True"]
        assert (returncode, errors) == (0, "")

    def test_a_client_not_used_yet_works_in_both(self, service: Emulator, tmp_path: Path) -> None:
        code = f"""
child = os.fork()
os.write(1, client.edits.run({GIF}, "snow").status.encode() + b"\\n")
if child:
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
        with Script(code, service, tmp_path) as script:
            assert script.end() == (0, "completed\ncompleted\n0", "")
