"""CPU time and memory of `runner --help` and of read-only commands, compared with a bare interpreter.

    python -m benchmarks.cli_start

Prints one JSON object. CPU time is the user and system time of the process, as the median of several runs; memory is
its peak resident set. Read-only commands run twice: against the emulator's address, and with a service account key
against Google's own addresses, for which a proxy on this machine forwards TLS requests to the emulator.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import statistics
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

RUNS = 9
LOOKING_RUNS = 5
CPU_RATIO_LIMIT = 5.0
"""Limit for `runner --help`; click alone takes most of it."""
MEMORY_LIMIT_MB = 16.0
LOOKING_RATIO_LIMIT = 12.0
"""Limit for a read-only command against the emulator."""
GOOGLE_RATIO_LIMIT = 25.0
"""The same with Google credentials: a login, certificates, TLS."""


def measure(arguments: list[str], runs: int = RUNS, variables: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Return CPU milliseconds and peak megabytes of a process, as the medians of several runs.

    Its modules are already compiled, as after an installation or a first start, regardless of this process's settings.
    """
    environment = {**(os.environ if variables is None else variables), "PYTHONPYCACHEPREFIX": _bytecode()}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    nowhere = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_WRONLY, 0) for number in (1, 2)]
    times, peaks = [], []
    for _ in range(runs + 1):
        process = os.posix_spawn(arguments[0], arguments, environment, file_actions=nowhere)
        _, status, usage = os.wait4(process, 0)
        if os.waitstatus_to_exitcode(status):
            raise RuntimeError(f"{arguments} failed with status {status}")
        unit = 1024 if sys.platform == "darwin" else 1  # ru_maxrss: bytes on macOS, kilobytes elsewhere
        times.append((usage.ru_utime + usage.ru_stime) * 1000)
        peaks.append(usage.ru_maxrss / unit / 1024)
    return statistics.median(times[1:]), statistics.median(peaks[1:])


@functools.cache
def _bytecode() -> str:
    """Return a folder for compiled modules, which is deleted with this process."""
    folder = tempfile.mkdtemp(prefix="bytecode-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


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


def look(runs: int = LOOKING_RUNS) -> dict[str, object]:
    """Return the CPU time of each read-only command relative to a bare interpreter, and whether limits are met."""
    from runner.emulator.server import EmulatorServer
    from runner.emulator.settings import EmulatorSettings
    from tests.cli.google_addresses import google, without_addresses
    from tests.cli.looking import LINES, looked_at

    own = {name: value for name, value in os.environ.items() if not name.startswith(("RUNNER_", "GOOGLE_"))}
    own["NO_PROXY"] = "127.0.0.1,localhost"
    emulator: dict[str, float] = {}
    with_key: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="cli-start-") as name:
        folder = Path(name)
        settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny")
        with EmulatorServer(settings) as server:
            place = looked_at(server, folder / "state", "cli-start")
            with google(server.url, place.variables["RUNNER_PROJECT"], folder) as key:
                for ratios, variables in (
                    (emulator, {**own, **place.variables}),
                    (with_key, {**own, **without_addresses(place.variables), **key}),
                ):
                    bare, _ = measure([sys.executable, "-c", "pass"], runs)
                    for line in LINES:
                        words = [sys.executable, "-m", "runner", *place.words(line)]
                        ratios[line] = round(measure(words, runs, variables)[0] / bare, 1)
    within = max(emulator.values()) <= LOOKING_RATIO_LIMIT and max(with_key.values()) <= GOOGLE_RATIO_LIMIT
    limits = {"emulator": LOOKING_RATIO_LIMIT, "googleCredentials": GOOGLE_RATIO_LIMIT}
    return {"emulator": emulator, "googleCredentials": with_key, "limits": limits, "within": within}


if __name__ == "__main__":
    result = compare()
    result["looking"] = looking = look()
    result["within"] = result["within"] and looking["within"]
    print(json.dumps(result, indent=2))
    sys.exit(0 if result["within"] else 1)
