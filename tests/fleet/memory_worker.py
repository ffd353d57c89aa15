"""Run shards one after another, and print the memory of the process in kilobytes after each.

python memory_worker.py JOURNAL OUTPUT PHOTO JOBS SHARDS
"""

from __future__ import annotations

import sys
from pathlib import Path

from apimart_async.fleet import Fleet


def main(journal: str, output: str, photo: str, jobs: int, shards: int) -> None:
    """Run the shards."""
    fleet = Fleet(journal=journal, output=output)
    for shard in range(shards):
        numbers = range(shard * jobs, (shard + 1) * jobs)
        rows = [{"image": photo, "prompt": f"prompt {number}", "id": str(number)} for number in numbers]
        assert {result["status"] for result in fleet.run_shard(rows)} == {"saved"}
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        sys.stdout.write(f"{fields['VmRSS'].split()[0]}\n")


if __name__ == "__main__":
    journal, output, photo, jobs, shards = sys.argv[1:]
    main(journal, output, photo, int(jobs), int(shards))
