"""The machine: a description, and whether other programs use it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

QUIET_CORES = 0.15
"""Cores that other programs may use while the machine counts as quiet; an idle system needs about this much."""

_LOOK_SECONDS = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """The use of the processors during a second in which the benchmark is idle."""

    busy_cores: float
    stolen_cores: float
    """Cores used by other virtual machines on the same hardware."""
    load: float
    busiest: tuple[str, ...]
    """Names of the processes that used the most CPU time."""

    @property
    def quiet(self) -> bool:
        """Return whether the machine is idle enough for reliable figures."""
        return self.busy_cores + self.stolen_cores <= QUIET_CORES

    def __str__(self) -> str:
        return f"{self.busy_cores:.2f} cores busy, {self.stolen_cores:.2f} stolen, load {self.load:.1f}" + (
            f" ({', '.join(self.busiest)})" if self.busiest else ""
        )


def look() -> Look:
    """Observe the machine for a second."""
    before, processes = _totals(), _processes()
    time.sleep(_LOOK_SECONDS)
    after = _totals()
    used = {name: spent - processes.get((pid, name), spent) for (pid, name), spent in _processes().items()}
    busiest = sorted((name for name in used if used[name] > 2), key=lambda name: -used[name])[:4]
    busy, stolen = ((late - early) / _TICKS / _LOOK_SECONDS for early, late in zip(before, after, strict=True))
    return Look(round(busy, 2), round(stolen, 2), os.getloadavg()[0], tuple(busiest))


def description() -> dict[str, str | int]:
    """Return a description of the machine."""
    words = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in words.splitlines() if line.startswith("model name")), "")
    flags = next((line for line in words.splitlines() if line.startswith("flags")), "").split()
    wide = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return {
        "processor": model or platform.processor(),
        "instructions": " ".join(wide),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memoryGigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "python": platform.python_version(),
    }


def _totals() -> tuple[float, float]:
    """Return the ticks since boot in which the processors were busy, and in which they were stolen."""
    try:
        fields = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    except OSError:
        return 0.0, 0.0
    user, nice, system, _idle, _wait, interrupt, soft, stolen = fields[:8]
    return float(user + nice + system + interrupt + soft), float(stolen)


def _processes() -> dict[tuple[str, str], int]:
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (folder / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        words = rest.split()
        found[folder.name, name] = int(words[11]) + int(words[12])
    return found


def memory(process: int) -> tuple[float, float]:
    """Return the current and the peak resident memory of a process in megabytes."""
    words = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line)
    return tuple(int(words[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
