"""A batch on many machines: shards of jobs, whatever engine moves them, and a journal that all share."""

from __future__ import annotations

from apimart_async.fleet.fleet import Fleet

__all__ = ["Fleet"]
