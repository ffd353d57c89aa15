"""Edit the images of a Parquet table on a Ray cluster; the same command again continues.

    python ray_batch.py jobs.parquet out outcomes

The table has the columns image, prompt and id. APIMART_JOURNAL names the database and RAY_ADDRESS the
cluster; the nodes have the key in APIMART_API_KEY.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import ray

from apimart_async.fleet import Fleet


def main(jobs: str, output: str, outcomes: str) -> None:
    """Run the jobs, write a table of their outcomes, and print the sums."""
    fleet = Fleet(
        journal=os.environ["APIMART_JOURNAL"],
        output=Path(output).resolve(),
        requests_per_second=50,
        max_cost=500.0,
    )
    done = fleet.ray(ray.data.read_parquet(jobs), actors=4, shard=256)
    done.write_parquet(outcomes)
    print(fleet.tally())


if __name__ == "__main__":
    main(*sys.argv[1:])
