"""Edit the images of a Parquet table with Spark; the same command again continues.

    spark-submit spark_batch.py jobs.parquet outcomes

APIMART_JOURNAL, APIMART_API_KEY and OUTPUT are in the environment of the executors.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pandas as pd

from apimart_async.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator


def edit(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Run each frame as a shard."""
    fleet = Fleet(
        journal=os.environ["APIMART_JOURNAL"],
        output=os.environ["OUTPUT"],  # a folder that all of them reach
        requests_per_second=50,
        max_cost=500.0,
    )
    for frame in frames:
        results = fleet.run_shard(frame.to_dict("records"))
        rows = [(result["id"], result["status"], json.dumps(result)) for result in results]
        yield pd.DataFrame(rows, columns=["id", "status", "result"])


def main(jobs: str, outcomes: str) -> None:
    """Run the jobs, and write a table of their outcomes."""
    from pyspark.sql import SparkSession

    spark = SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 256).getOrCreate()
    table = spark.read.parquet(jobs).repartition(16)
    table.mapInPandas(edit, "id string, status string, result string").write.parquet(outcomes)


if __name__ == "__main__":
    main(*sys.argv[1:])
