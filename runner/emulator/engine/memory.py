"""The maximum memory of a model, the free memory of its device, and errors because of missing memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

_SAID = re.compile("can('t|not) allocate memory", re.IGNORECASE)
"""Messages of PyTorch and the system, which libraries forward in other errors."""

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: str) -> int:
    """Return the free bytes of a device, `cuda` or `cpu`; of the container if it has a limit."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return min(_of_machine(), _of_container())


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _of_container() -> int:
    """Return the free bytes under the limit of this process's control group; cached files count as free."""
    try:
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        cached = next(
            int(line.split()[1])
            for line in (_CGROUP / "memory.stat").read_text().splitlines()
            if line.startswith("file ")
        )
    except (OSError, StopIteration, ValueError):  # no limit, or no control groups of version 2
        return 1 << 62
    return max(0, limit - used + cached)


def lacking_memory(error: BaseException) -> str | None:
    """Return which memory an error reports as too small, for a sentence; None for other errors."""
    if isinstance(error, torch.OutOfMemoryError):
        try:
            free, total = torch.cuda.mem_get_info()
        except (RuntimeError, AssertionError):
            return "the GPU's memory"
        return f"the GPU's memory ({total / 2**30:.0f} GB, {free / 2**30:.1f} GB of it free)"
    if isinstance(error, MemoryError) or _SAID.search(str(error)):
        return "this machine's memory"
    return None
