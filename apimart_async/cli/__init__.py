"""The ``apimart`` command: edit photos, upload them, manage tasks, run the emulator."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

from apimart_async.cli.display.output import complain
from apimart_async.cli.signals import SIGNALS, Exit

_NEEDED: Final = ("cyclopts", "rich")


def main() -> None:
    """Run the command of the process and end the process with its exit code.

    Raises:
        SystemExit: Always: 0 all done, 1 some failed, 2 usage (nothing was sent), 130 interrupted.
    """
    missing = " and ".join(name for name in _NEEDED if find_spec(name) is None)
    if missing:
        complain(f"The command needs {missing}: pip install '.[cli]' in the clone")
        sys.exit(Exit.USAGE)
    SIGNALS.handle()
    from apimart_async.cli.app import prepare_process, run

    prepare_process()
    sys.exit(run(sys.argv[1:]))
