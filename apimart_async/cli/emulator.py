"""``apimart emulator``: both services on this machine, until a signal ends it."""

from __future__ import annotations

import logging
import shlex
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import anyio
from cyclopts import Parameter

from apimart_async.cli.connection import emulator_class
from apimart_async.cli.display.output import dollars, say, sentence, write_line
from apimart_async.cli.display.results import json_line
from apimart_async.cli.options import flag
from apimart_async.cli.signals import SIGNALS, Exit, UsageError
from apimart_async.logs import log, log_to_stderr
from apimart_async.urls import is_loopback

if TYPE_CHECKING:
    from apimart_async.emulator import Emulator

_EDIT = (
    '{"model": "grok-imagine-1.0-edit-apimart", "prompt": "Change the background to a starry sky", '
    '"image_urls": ["UPLOAD_URL"], "n": 1}'
)


def emulator(
    *,
    host: Annotated[str, Parameter(name="--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, Parameter(name="--port", help="Port to listen on; 0 for any free one.")] = 0,
    api_key: Annotated[str, Parameter(name="--api-key", help="The key that is accepted.")] = "sk-emulator",
    seed: Annotated[int, Parameter(name="--seed", help="Of everything random.")] = 0,
    task_seconds: Annotated[
        float, Parameter(name="--task-seconds", help="Seconds a task takes, in the median.")
    ] = 3.0,
    balance: Annotated[float, Parameter(name="--balance", help="USD on the account.")] = 10_000.0,
    rate_limit: Annotated[
        float | None,
        Parameter(name="--rate-limit", help="Requests allowed per second; any number by default."),
    ] = None,
    variants: Annotated[
        bool, flag("--variants", "Answer in each shape the service is known to use, in turn.")
    ] = False,
    compat: Annotated[
        bool, flag("--compat", "Answer as the oldest documents say: a top-level id, and their polling path.")
    ] = False,
    faults: Annotated[
        Path | None,
        Parameter(name="--faults", help="TOML or JSON file of faults, with the fields of `Fault`."),
    ] = None,
    access_log: Annotated[bool, flag("--access-log", "Log each request to stderr, as -v does.")] = False,
    json: Annotated[bool, flag("--json", "Print the address and the key as one JSON object.")] = False,
) -> Exit:
    """Serve both image services on this machine, for play money.

    It edits pictures with Pillow, bills nothing real, and runs until Ctrl-C. It
    prints its base URL, its key, the form of the URLs of uploads and results, and
    examples of requests. With the two variables set that it prints, the other
    commands use it.

    Try these:

      apimart emulator --port 8080
      apimart emulator --task-seconds 30 --rate-limit 5 --faults faults.toml
    """
    kind = emulator_class()
    if access_log and not log.isEnabledFor(logging.INFO):
        log_to_stderr("info")
    from apimart_async.emulator.faults import load_faults

    try:
        running = kind(
            host=host,
            port=port,
            api_key=api_key,
            seed=seed,
            task_seconds=task_seconds,
            balance=balance,
            rate_limit=rate_limit,
            variants=variants,
            compat=compat,
            access_log=log.isEnabledFor(logging.INFO),
            faults=() if faults is None else load_faults(faults),
        )
    except OSError as error:
        raise UsageError(f"The faults in {faults} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise UsageError(sentence(f"The emulator cannot be started so: {error}")) from error
    anyio.run(partial(_serve, running, host, json=json))
    ledger = running.ledger
    say(f"Stopped. Billed {len(ledger.billed)} of {len(ledger.entries)} submits: {dollars(ledger.total)}.")
    return Exit.ALL_DONE


async def _serve(running: Emulator, host: str, *, json: bool) -> None:
    scope = anyio.CancelScope()
    async with AsyncExitStack() as stack:
        stack.enter_context(SIGNALS.calling(scope.cancel))
        stack.enter_context(scope)
        try:
            await stack.enter_async_context(running)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"It cannot listen there: {reason}. Choose another --host or --port.") from error
        if not is_loopback(host):
            say(
                f"Warning: other machines can reach {host}, without encryption. The key protects all but the "
                "images, whose addresses nobody can guess. Choose an --api-key.",
                always=True,
            )
        address = {"base_url": running.base_url, "api_key": running.api_key}
        for line in [json_line(address)] if json else _introduction(running).split("\n"):
            write_line(line)
        say("Running until Ctrl-C.")
        await anyio.sleep_forever()


def _introduction(running: Emulator) -> str:
    """Return the variables to set and some requests, as lines for a shell."""
    from apimart_async.emulator.file_host import RESULTS_PATH, UPLOADS_PATH

    url, key = running.base_url, running.api_key
    bearer = shlex.quote(f"Authorization: Bearer {key}")
    return f"""export APIMART_BASE_URL={shlex.quote(url)}
export APIMART_API_KEY={shlex.quote(key)}

# Upload a picture. The answer has its URL, {url}{UPLOADS_PATH}NAME, which needs no key:
curl {url}/v1/uploads/images -H {bearer} -F file=@photo.jpg

# Submit an edit, with the URL of an upload in place of UPLOAD_URL. The answer has the id of a task:
curl {url}/v1/images/edits -H {bearer} -H 'Content-Type: application/json' -d {shlex.quote(_EDIT)}

# Look at the task. Completed, it has the URLs of its images, {url}{RESULTS_PATH}TASK_ID/NAME:
curl {url}/v1/tasks/TASK_ID -H {bearer}
"""
