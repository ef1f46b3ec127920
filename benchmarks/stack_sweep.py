"""Break the application of whole stacks at every request, kill it at many, and check that the next one succeeds.

    python -m benchmarks.stack_sweep [--stack local|prod] [--every 1] [--kills 30] [--seconds N]
    python -m benchmarks.stack_sweep --settings [NAME ...]

An application without the engine sends requests to an emulator through a server that loses one of the changing
requests, before or after it is carried out; or its process is killed by SIGKILL after some of them. Then it runs again
without faults: it must succeed, the one after it must change nothing, and the resources must be those of an
uninterrupted application. `prod` has two regions and every part of a stack except keys. With --settings, for each
setting, a stack with every part is applied, applied again with another value of the setting, and destroyed: nothing may
be left.

Prints one JSON object; the exit code is 1 if a stack is stuck or has other resources.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.errors import RunnerError
from tests.infra import setting_sweep
from tests.infra.cutting import Cutting
from tests.infra.setting_changes import CHANGES
from tests.infra.stack_sweep import CONFIGURATIONS, StackSweep


def main() -> int:
    """Sweep and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stack", choices=list(CONFIGURATIONS), action="append")
    parser.add_argument("--every", type=int, default=1, help="cut at each such point only")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin nothing after so many seconds of a stack")
    parser.add_argument("--settings", nargs="*", choices=CHANGES, help="change each setting, or these, then destroy")
    given = parser.parse_args()
    found: dict[str, Any] = {}
    if given.settings is not None:
        found = _settings(given.settings or list(CHANGES))
        print(json.dumps(found, indent=2))
        return 1 if found["wrong"] else 0
    for name in given.stack or CONFIGURATIONS:
        found[name] = _sweep(name, given)
    print(json.dumps(found, indent=2))
    return 1 if any(item["stuck"] for item in found.values()) else 0


def _sweep(name: str, given: argparse.Namespace) -> dict[str, Any]:
    start, told = time.monotonic(), 0
    with (
        tempfile.TemporaryDirectory(prefix="stack-sweep-") as folder,
        EmulatorServer(EmulatorSettings(directory=Path(folder, "emulator"), stand_in="tiny")) as server,
        Cutting(server.url) as cutting,
    ):
        sweep = StackSweep(server.url, cutting, Path(folder), name).measure()
        for at, when in sweep.points(given.every):
            if time.monotonic() - start > given.seconds:
                break
            sweep.cut(at, when)
            for line in sweep.stuck[told:]:
                print(f"STUCK {name}: {line}", file=sys.stderr, flush=True)
            told = len(sweep.stuck)
            if sweep.cases % 25 == 0:
                print(f"{name}: {sweep.cases} cases", file=sys.stderr, flush=True)
        cuts, kills = sweep.cases, 0
        for number in range(given.kills):
            if time.monotonic() - start < given.seconds:
                sweep.kill((number + 0.5) / given.kills)
                kills += 1
                if kills % 10 == 0:
                    print(f"{name}: {kills} kills", file=sys.stderr, flush=True)
    return {
        "requests": len(sweep.requests),
        "cuts": cuts,
        "kills": kills,
        "stuck": len(sweep.stuck),
        "what": sweep.stuck,
        "seconds": round(time.monotonic() - start),
    }


def _settings(names: list[str]) -> dict[str, Any]:
    start = time.monotonic()
    wrong: dict[str, str] = {}
    refused: dict[str, str] = {}
    with (
        tempfile.TemporaryDirectory(prefix="stack-sweep-") as folder,
        EmulatorServer(EmulatorSettings(directory=Path(folder, "emulator"), stand_in="tiny")) as server,
    ):
        nothing = setting_sweep.left_after(server.url, Path(folder), "nothing", {})[0]
        for setting in names:
            try:
                left, refusal = setting_sweep.left_after(server.url, Path(folder), setting, CHANGES[setting])
            except RunnerError as error:
                wrong[setting] = error.message
            else:
                if refusal:
                    refused[setting] = refusal
                if left != nothing:
                    wrong[setting] = f"left: {left}"
            print(f"{setting}: {wrong.get(setting, 'gone')}", file=sys.stderr, flush=True)
    seconds = round(time.monotonic() - start)
    return {"settings": len(names), "refused": refused, "wrong": wrong, "seconds": seconds}


if __name__ == "__main__":
    sys.exit(main())
