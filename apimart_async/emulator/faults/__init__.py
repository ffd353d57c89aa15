"""Faults on purpose: scripted, seeded, and never hidden from the ledger."""

from __future__ import annotations

from .fault import KINDS, Fault, Kind, Place, is_due
from .loading import fault_as_json, load_faults, parse_faults
from .schedule import Faults

__all__ = [
    "KINDS",
    "Fault",
    "Faults",
    "Kind",
    "Place",
    "fault_as_json",
    "is_due",
    "load_faults",
    "parse_faults",
]
