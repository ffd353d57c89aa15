"""A driver: runs the jobs of a table on a Ray cluster.

python driver.py JOBS OUTCOMES FLEET, with the fields of the fleet as JSON
"""

from __future__ import annotations

import json
import sys

import ray

from apimart_async.fleet import Fleet

if __name__ == "__main__":
    jobs, outcomes, fleet = sys.argv[1:]
    ray.init(log_to_driver=False)
    done = Fleet(**json.loads(fleet)).ray(ray.data.read_parquet(jobs), actors=6, shard=64)
    done.write_parquet(outcomes)
