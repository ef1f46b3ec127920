"""Kill `jobs submit`, `data upload`, a resumed submission, `apply` and `jobs cancel` at their system calls.

    python -m benchmarks.kill_sweep [--points 300] [--flow submit]

Each command is killed by SIGKILL before a system call that affects a file or a socket, and run again; then the results
are counted. Prints one JSON object; the exit code is 1 if anything exists twice, is lost, or cannot be run again. Jobs
wait for quota, so none is trained. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.jobs.submitting import ptrace
from tests.jobs.submitting.kill_flows import FLOWS, sweeping


def main() -> int:
    """Sweep and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=300, help="of all flows together")
    parser.add_argument("--flow", choices=FLOWS, action="append")
    given = parser.parse_args()
    if not ptrace.available():
        print("processes cannot be traced here", file=sys.stderr)
        return 1
    flows = given.flow or list(FLOWS)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kill-sweep-") as folder, sweeping(Path(folder)) as sweep:
        found = []
        for flow in flows:
            found.append(sweep.flow(flow, given.points // len(flows)))
            print(f"{flow}: {found[-1].kills} kills, {time.monotonic() - start:.0f} s", file=sys.stderr)
    total = {
        "kills": sum(item.kills for item in found),
        "duplicates": sum(len(item.duplicates) for item in found),
        "lost": sum(len(item.lost) for item in found),
        "failed": sum(len(item.failed) for item in found),
        "seconds": round(time.monotonic() - start),
    }
    print(json.dumps({**total, "flows": [item.to_json() for item in found]}, indent=2))
    return 1 if total["duplicates"] or total["lost"] or total["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
