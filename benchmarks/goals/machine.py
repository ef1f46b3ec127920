"""The machine: what it is, and whether anybody else uses it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

QUIET_CORES = 0.15
"""Cores that others may use: what a system does by itself."""

_LOOK_SECONDS = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Look:
    """What the processors did in a second in which the benchmark did nothing."""

    busy_cores: float
    stolen_cores: float
    """Taken by other machines on the same hardware."""
    load: float
    busiest: tuple[str, ...]
    """Names of the processes that used most."""

    @property
    def quiet(self) -> bool:
        """Tell whether figures taken now mean something."""
        return self.busy_cores + self.stolen_cores <= QUIET_CORES

    def __str__(self) -> str:
        return f"{self.busy_cores:.2f} cores busy, {self.stolen_cores:.2f} stolen, load {self.load:.1f}" + (
            f" ({', '.join(self.busiest)})" if self.busiest else ""
        )


def look() -> Look:
    """Watch for a second."""
    before, processes = _totals(), _processes()
    time.sleep(_LOOK_SECONDS)
    after = _totals()
    used = {name: spent - processes.get((pid, name), spent) for (pid, name), spent in _processes().items()}
    busiest = sorted((name for name in used if used[name] > 2), key=lambda name: -used[name])[:4]
    busy, stolen = ((late - early) / _TICKS / _LOOK_SECONDS for early, late in zip(before, after, strict=True))
    return Look(round(busy, 2), round(stolen, 2), os.getloadavg()[0], tuple(busiest))


def description() -> dict[str, str | int]:
    """Return what the machine is."""
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
    """Return ticks in which a processor worked, and in which it was stolen, since the machine started."""
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
    """Return resident megabytes of a process, now and at most since it started."""
    words = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines() if ":" in line)
    return tuple(int(words[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[return-value]
