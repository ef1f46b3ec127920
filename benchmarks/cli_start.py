"""How much a command line costs before it does anything: CPU and memory of `runner --help` against a bare interpreter.

    python -m benchmarks.cli_start

Prints one JSON object. CPU is user and system time of the process, the best of several runs; memory is its peak
resident set.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

RUNS = 9
CPU_RATIO_LIMIT = 5.0
"""Of `runner --help`; click alone takes most of it."""
MEMORY_LIMIT_MB = 16.0


def measure(arguments: list[str], runs: int = RUNS) -> tuple[float, float]:
    """Return CPU milliseconds and peak megabytes of a process, the best of several runs."""
    nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    best_cpu, best_memory = float("inf"), float("inf")
    for _ in range(runs):
        process = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=nowhere)
        _, status, usage = os.wait4(process, 0)
        if os.waitstatus_to_exitcode(status):
            raise RuntimeError(f"{arguments} failed with status {status}")
        unit = 1024 if sys.platform == "darwin" else 1  # ru_maxrss: bytes there, kilobytes elsewhere
        best_cpu = min(best_cpu, (usage.ru_utime + usage.ru_stime) * 1000)
        best_memory = min(best_memory, usage.ru_maxrss / unit / 1024)
    return best_cpu, best_memory


def compare(runs: int = RUNS) -> dict[str, object]:
    """Return the measurements and whether they are within the limits."""
    runner = str(Path(sys.executable).with_name("runner"))
    bare_cpu, bare_memory = measure([sys.executable, "-c", "pass"], runs)
    commands: dict[str, object] = {}
    within = True
    for line in ("--help", "--version", "jobs --help", "jobs submit --help"):
        cpu, memory = measure([runner, *line.split()], runs)
        if line == "--help":
            within = cpu <= CPU_RATIO_LIMIT * bare_cpu and memory - bare_memory <= MEMORY_LIMIT_MB
        commands[f"runner {line}"] = {
            "cpuMilliseconds": round(cpu, 1),
            "cpuRatio": round(cpu / bare_cpu, 2),
            "memoryMegabytesMore": round(memory - bare_memory, 1),
        }
    return {
        "bare": {"cpuMilliseconds": round(bare_cpu, 1), "memoryMegabytes": round(bare_memory, 1)},
        "commands": commands,
        "limits": {"cpuRatio": CPU_RATIO_LIMIT, "memoryMegabytesMore": MEMORY_LIMIT_MB},
        "within": within,
    }


if __name__ == "__main__":
    result = compare()
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["within"] else 1)
