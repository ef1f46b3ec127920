"""Break inputs at random and look for crashes and hangs: `python -m benchmarks.fuzz [TARGET…] --seconds 60`.

The targets share the seconds: dataset files, bodies of HTTP requests, job manifests, stack configurations and models'
folders. The exit code is 1 if something was found; the inputs are then in `benchmarks/fuzz/corpus/`.
"""

from __future__ import annotations

import argparse
import sys
import time

from benchmarks.fuzz import driver
from benchmarks.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz; print a line for each target."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)} [all]")
    parser.add_argument("--seconds", type=float, default=60, help="for all of them together [60]")
    parser.add_argument("--seed", type=int, default=None, help="of the random choices [the time]")
    parser.add_argument("--keep", action="store_true", help="write inputs with new answers into the corpus")
    options = parser.parse_args()
    names = options.targets or list(TARGETS)
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"no target is named {', '.join(unknown)}")
    seed = int(time.time()) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    found = 0
    for name in names:
        share = options.seconds / len(names)
        outcome = driver.fuzz(TARGETS[name](), seconds=share, seed=seed, keep=options.keep)
        print(outcome, flush=True)
        found += len(outcome.findings)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
