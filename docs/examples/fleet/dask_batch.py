"""Edit the images of a file of JSON lines with Dask; the same command again continues.

    python dask_batch.py jobs.jsonl 'outcomes/*.jsonl'

APIMART_JOURNAL, APIMART_API_KEY and OUTPUT are in the environment of the workers.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from apimart_async.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterable


def edit(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run a partition as a shard."""
    fleet = Fleet(
        journal=os.environ["APIMART_JOURNAL"],
        output=os.environ["OUTPUT"],  # a folder that all of them reach
        requests_per_second=50,
        max_cost=500.0,
    )
    return fleet.run_shard(rows)


def main(jobs: str, outcomes: str) -> None:
    """Run the jobs, and write their outcomes."""
    from dask import bag

    rows = bag.read_text(jobs, blocksize=64 * 1024).map(json.loads)
    rows.map_partitions(edit).map(json.dumps).to_textfiles(outcomes)


if __name__ == "__main__":
    main(*sys.argv[1:])
