"""Train fifty manifests of three teams with two priorities under a quota of two, and check the order of their ends.

    python -m benchmarks.queue_order [--manifests 50] [--quota 2]

Prints one JSON object; the exit code is 1 if a job ended out of order, ran twice, or did not run. The duration is that
of all these small trainings; `tests/jobs/following/test_queue_order.py` is the same without training, in compressed
time.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from tests.jobs.following.queue_order import put_through
from tests.provisioning import provision


def main() -> int:
    """Run the queue and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--manifests", type=int, default=50)
    parser.add_argument("--quota", type=int, default=2)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="queue-order-") as folder:
        place = Path(folder) / "jobs"
        place.mkdir()
        settings = EmulatorSettings(directory=Path(folder) / "emulator", stand_in="tiny", time_scale=60)
        with EmulatorServer(settings) as server:
            project = provision(server.url, "queue-order")
            outcome = put_through(project, place, manifests=given.manifests, quota=given.quota, patience=3600)
    body = {
        "manifests": given.manifests,
        "quota": given.quota,
        "jobs": len(outcome.jobs),
        "states": Counter(job.state for job in outcome.jobs),
        "problems": outcome.problems,
        "seconds": round(outcome.seconds, 1),
    }
    print(json.dumps(body, indent=2))
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
