"""One process without an engine: run a shard, or hang in it until it is killed.

python shard_worker.py JOURNAL OUTPUT PHOTO JOBS
"""

from __future__ import annotations

import json
import sys

from apimart_async.fleet import Fleet

if __name__ == "__main__":
    journal, output, photo, jobs = sys.argv[1:]
    fleet = Fleet(journal=journal, output=output, lease=3.0)
    rows = [{"image": photo, "prompt": f"prompt {number}", "id": str(number)} for number in range(int(jobs))]
    sys.stdout.write(json.dumps(fleet.run_shard(rows)))
