"""A batch on many machines: shards of jobs, distributed by any engine, and a shared journal."""

from __future__ import annotations

from apimart_async.fleet.fleet import Fleet

__all__ = ["Fleet"]
