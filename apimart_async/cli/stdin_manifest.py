"""A manifest on stdin: kept in a file while the batch runs, because it is read twice."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, cast

from apimart_async.cli.display.item import STDIN
from apimart_async.cli.display.output import is_terminal, printable
from apimart_async.cli.signals import UsageError

if TYPE_CHECKING:
    from collections.abc import Generator

_TABLES: Final = {b"PAR1": ".parquet", b"ARROW1": ".arrow"}
_HEAD: Final = 4096


@contextmanager
def on_disk(manifest: Path) -> Generator[tuple[Path, Path | None]]:
    """Yield the path of a manifest, and for one on stdin the folder that its images start from.

    Args:
        manifest: The argument; ``-`` is stdin.

    Raises:
        UsageError: The argument is an option that the command does not have, or stdin is empty.
    """
    name = str(manifest)
    if name != STDIN:
        if name.startswith("-") and not os.path.lexists(name):
            raise UsageError(f"Unknown option: {printable(name)}. --help lists the options.")
        yield manifest, None
        return
    stdin = cast("TextIO | None", sys.stdin)
    if stdin is None or is_terminal(stdin):
        raise UsageError("- is the manifest on stdin, but there is none: redirect it, as in < jobs.csv")
    with tempfile.TemporaryDirectory(prefix="apimart-") as folder:
        written = Path(folder, "stdin")
        with written.open("wb") as file:
            shutil.copyfileobj(stdin.buffer, file)
        with written.open("rb") as file:
            head = file.read(_HEAD)
        if not head:
            raise UsageError("The manifest on stdin is empty.")
        yield written.rename(written.with_suffix(_suffix(head))), Path()


def _suffix(head: bytes) -> str:
    """Return the suffix of the format of a manifest that begins like this."""
    table = next((suffix for magic, suffix in _TABLES.items() if head.startswith(magic)), None)
    text = head.replace(b"\0", b"").removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").lstrip()
    return table or (".jsonl" if text.startswith(b"{") else ".csv")
