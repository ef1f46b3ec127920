"""The speed of data types on the processor, from its features; a measurement could differ between two runs."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import torch


def preferred_dtype(device: str) -> torch.dtype:
    """Return the type of weights in memory: bfloat16 if the hardware computes with it, otherwise float32."""
    if device == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _features() & {"avx512_bf16", "amx_bf16"} else torch.float32


def multiplies_faster_in_bfloat16() -> bool:
    """Return whether products of many rows on the CPU are faster in bfloat16 than in float32.

    With a matrix unit (AMX) or AMD's AVX-512 BF16, they are. Intel's AVX-512 BF16 alone reaches half the rate of
    float32; bfloat16 then only saves memory.
    """
    return has_matrix_unit() or ("avx512_bf16" in _features() and "GenuineIntel" not in _features())


def has_matrix_unit() -> bool:
    """Return whether the CPU multiplies bfloat16 tiles (AMX), which is fast for any number of rows."""
    return "amx_bf16" in _features()


@functools.cache
def _features() -> frozenset[str]:
    """Return the first processor's features and its vendor."""
    if sys.platform != "linux":
        return frozenset()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    words: list[str] = []
    for name in ("flags", "vendor_id"):
        words += next((line.partition(":")[2].split() for line in lines if line.startswith(name)), [])
    return frozenset(words)
