"""The log of the package on stderr, for programs that do not log by themselves: ``APIMART_LOG``."""

from __future__ import annotations

import logging
import sys
from typing import Final

LOG_VARIABLE: Final = "APIMART_LOG"
LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

log: logging.Logger = logging.getLogger("apimart_async")


class _StderrHandler(logging.Handler):
    """Writes to the current ``sys.stderr``, unless the program has handlers of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        others = (each for each in logging.root.handlers if not isinstance(each, logging.NullHandler))
        if any(others) or sys.stderr is None:  # pyright: ignore[reportUnnecessaryComparison] pythonw.exe has none
            return
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # noqa: BLE001 as all handlers do
            self.handleError(record)


def log_to_stderr(level: str) -> None:
    """Log from a level on: to stderr, or to the handlers of the root logger once there are any.

    A second call changes the level.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``, in any case; any other logs a warning.
    """
    if not any(isinstance(each, _StderrHandler) for each in log.handlers):
        handler = _StderrHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        log.addHandler(handler)
    number = LEVELS.get(level.strip().lower())
    log.setLevel(logging.WARNING if number is None else number)
    if number is None:
        log.warning("%s must be one of %s, not %r.", LOG_VARIABLE, ", ".join(LEVELS), level)
