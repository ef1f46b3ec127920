"""Whether a failure is a want of memory, and of which."""

from __future__ import annotations

import torch


def lacking_memory(error: BaseException) -> str | None:
    """Return which memory an error says is too small, for a sentence; None if it says something else."""
    if isinstance(error, torch.OutOfMemoryError):
        try:
            free, total = torch.cuda.mem_get_info()
        except (RuntimeError, AssertionError):
            return "the GPU's memory"
        return f"the GPU's memory ({total / 2**30:.0f} GB, {free / 2**30:.1f} GB of it free)"
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return "this machine's memory"
    return None
