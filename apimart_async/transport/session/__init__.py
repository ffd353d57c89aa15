"""The only importer of aiohttp's client: connections, one exchange at a time, and what went wrong with it.

Nothing here decides whether to try again; ``api.py`` does, with ``retry.py``.
"""

from __future__ import annotations

from apimart_async.transport.session.connections import Session
from apimart_async.transport.session.downloads import Download
from apimart_async.transport.session.failures import NoAnswerError
from apimart_async.transport.session.receiver import Take

__all__ = ["Download", "NoAnswerError", "Session", "Take"]
