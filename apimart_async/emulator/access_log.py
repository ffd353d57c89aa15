"""The access log: a line for each request, without its query."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aiohttp.abc import AbstractAccessLogger

from apimart_async.errors import visible

if TYPE_CHECKING:
    from aiohttp import web

LOGGER: Final = logging.getLogger("apimart_async.emulator.access")


class AccessLogger(AbstractAccessLogger):
    """Logs method, path, status, bytes of the answer and seconds of each request at INFO."""

    @property
    def enabled(self) -> bool:
        """Return whether INFO is logged."""
        return self.logger.isEnabledFor(logging.INFO)

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Log a request that was answered."""
        line = f"{request.remote} {request.method} {request.path}: {response.status}"
        self.logger.info("%s", visible(f"{line}, {response.body_length} bytes, {time:.3f} s"))
