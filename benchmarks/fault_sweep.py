"""Break every request of every command that costs or ends something, in some 70 ways, and check the result.

    python -m benchmarks.fault_sweep [--cases all|N] [--flow submit] [--workers 2] [--seed 1]

A proxy between command and emulator breaks the n-th request, or this and all later ones like it, before or after it
takes effect: with status codes with and without Retry-After, pages, truncated, endless and malformed bodies, wrong
lengths, invalid gzip, redirects, silence, resets. Then the command runs once more without faults. There must be no
second job, no lost job, no reported success without its result, no billed resource that `leaks` does not list, no exit
code 70 and no long silence, and the next run must succeed. With --crossed, the broken run is also killed at this
request, or has a full disk or a wrong clock, and the next run is on another machine, has a wrong clock, or gets lists
that lag.

Prints one JSON object; the exit code is 1 if there are violations.
"""

from __future__ import annotations

import argparse
import gc
import json
import multiprocessing
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.breaking import crossed as cross
from tests.breaking import sweep
from tests.breaking.flows import FLOWS
from tests.breaking.kinds import KINDS
from tests.breaking.world import opened


def main() -> int:
    """Sweep and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", default="all", help="all, or so many, chosen at random; begun at --skip")
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--flow", choices=[flow.name for flow in FLOWS], action="append")
    parser.add_argument("--kind", action="append", help="only these kinds")
    parser.add_argument("--request", default="", help="only requests in which this regular expression is found")
    parser.add_argument("--seconds", type=float, help="stop after so many seconds")
    parser.add_argument(
        "--crossed", type=int, default=0, help="so many, each crossed with a kill, a full disk, a clock"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    start = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with context.Pool(given.workers) as pool:
        parts = pool.starmap(_sweep, [(given, number) for number in range(given.workers)])
    requests: dict[str, int] = parts[0]["requests"]
    codes: Counter[int] = sum((Counter(part["codes"]) for part in parts), Counter())
    wrong = [line for part in parts for line in part["wrong"]]
    total: dict[str, Any] = {
        "kinds": len(KINDS),
        "requests": sum(requests.values()),
        "requestsOfEach": requests,
        "of": parts[0]["of"],
        "cases": sum(part["cases"] for part in parts),
        "struck": sum(part["struck"] for part in parts),
        "exitCodes": dict(sorted(codes.items())),
        "longestSilence": round(max(part["silence"] for part in parts), 1),
        "wrong": len(wrong),
        "seconds": round(time.monotonic() - start),
    }
    print(json.dumps({**total, "what": wrong}, indent=2))
    return 1 if wrong else 0


def _sweep(given: argparse.Namespace, worker: int) -> dict[str, Any]:
    flows = [flow for flow in FLOWS if not given.flow or flow.name in given.flow]
    found = sweep.Found()
    deadline = time.monotonic() + (given.seconds or 10**9)
    with tempfile.TemporaryDirectory(prefix="fault-sweep-") as folder, opened(Path(folder)) as world:
        traces = {flow: sweep.traced(world, flow) for flow in flows}
        gc.freeze()  # all modules are loaded, and their objects need not be scanned after each case
        every = [case for case in sweep.cases(traces.items()) if not given.kind or case.kind.name in given.kind]
        every = [case for case in every if re.search(given.request, case.request)]
        random.Random(given.seed).shuffle(every)
        chosen = every[given.skip :]
        chosen = chosen if given.cases == "all" else chosen[: int(given.cases)]
        crossed = cross.chosen(every, given.crossed, given.seed)
        for case, crossing in crossed[worker :: given.workers]:
            if time.monotonic() > deadline:
                break
            before = len(found.wrong)
            cross.run(world, case, crossing, found)
            for line in found.wrong[before:]:
                print(f"WRONG {line}", file=sys.stderr, flush=True)
        for case in chosen[worker :: given.workers] if not crossed else ():
            if time.monotonic() > deadline:
                break
            before = len(found.wrong)
            sweep.run(world, case, found)
            for line in found.wrong[before:]:
                print(f"WRONG {line}", file=sys.stderr, flush=True)
            if found.cases % 100 == 0:
                print(f"worker {worker}: {found.cases} cases, codes {dict(found.codes)}", file=sys.stderr, flush=True)
    return {
        "requests": {flow.name: len(requests) for flow, requests in traces.items()},
        "of": len(every),
        "cases": found.cases,
        "struck": found.struck,
        "codes": dict(found.codes),
        "wrong": found.wrong,
        "silence": found.longest_silence,
    }


if __name__ == "__main__":
    sys.exit(main())
