"""The process that works in a folder: `worker.json` contains its ID and start time, which together are unique."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

WORKER_FILE = "worker.json"


@dataclass(frozen=True, slots=True)
class Worker:
    """A process, distinguished from later ones with the same ID."""

    pid: int
    started: str
    """Boot ID and clock ticks since boot on Linux; on other systems, the start time from `ps`."""


def write_worker(directory: Path) -> None:
    """Record this process as the worker of `directory`."""
    worker = Worker(os.getpid(), start_time(os.getpid()) or "")
    temporary = directory / f".{WORKER_FILE}.{worker.pid}"
    temporary.write_text(json.dumps(asdict(worker)))
    temporary.replace(directory / WORKER_FILE)


def read_worker(directory: Path) -> Worker | None:
    """Return the recorded worker of `directory`; None if there is none or the file is damaged."""
    try:
        return Worker(**json.loads((directory / WORKER_FILE).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_running(worker: Worker) -> bool:
    """Return whether this process is still running; a zombie is not."""
    return bool(worker.started) and start_time(worker.pid) == worker.started


def start_time(pid: int) -> str | None:
    """Return a process's start time in a form that can only be compared; None if it is not running."""
    if sys.platform != "linux":
        listing = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return listing.stdout.strip() or None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    # proc(5): the name in parentheses can contain anything; fields 3 (state) and 22 (start time) follow it.
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else f"{boot}/{fields[19]}"
