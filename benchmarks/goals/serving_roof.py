"""The maximum rates of the processor, measured, and the operations and bytes that a token needs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PARAMETERS = 134_515_008
EMBEDDING = 49_152 * 576
"""Parameters of the embedding of SmolLM2-135M; the output layer uses the same weights."""


@dataclass(frozen=True, slots=True)
class Roof:
    """The maximum rates of this machine."""

    threads: int
    operations: float
    """Operations per second in a large matrix product, in the faster of float32 and bfloat16."""
    bytes: float
    """Bytes per second, read from memory."""

    def tokens_a_second(self, clients: int, tokens: int, prompt: float) -> float:
        """Return the maximum rate for concurrent clients whose answers and prompts have the given numbers of tokens."""
        body = 2 * (PARAMETERS - EMBEDDING)
        reading = prompt * body / self.operations
        step = max(2 * PARAMETERS * clients / self.operations, 2 * PARAMETERS / self.bytes)
        return clients * tokens / (clients * reading + tokens * step)

    def explain(self, clients: int, tokens: int, prompt: float, bound: float) -> str:
        """Return the calculation in words."""
        operations, size = 2 * PARAMETERS / 1e9, 2 * PARAMETERS / 1e6
        body = 2 * (PARAMETERS - EMBEDDING) / 1e9
        return (
            f"The processor's maximum throughput: with {self.threads} threads, this machine computes "
            f"{self.operations / 1e9:.0f} billion operations per second and reads {self.bytes / 1e9:.0f} GB per second "
            f"from memory. A generated token needs {operations:.2f} billion operations; a prompt token needs "
            f"{body:.2f} billion, because it skips the output layer. Each step reads {size:.0f} MB of weights, "
            f"regardless of the number of clients. {clients} clients with prompts of {prompt:.0f} tokens and answers "
            f"of {tokens} tokens could get {bound:.0f} tokens per second if all matrix products ran at the rate of "
            f"large ones. For one client, reading the weights limits the rate to "
            f"{self.bytes / (2 * PARAMETERS):.0f} tokens per second."
        )


def measure_roof(threads: int) -> Roof:
    """Measure the rates in this process."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rates = []
        for dtype in (torch.float32, torch.bfloat16):
            square = torch.ones((1024, 1024), dtype=dtype)
            rates.append(2 * 1024**3 / _least(functools.partial(torch.mm, square, square)))
        large = torch.ones(2**26, dtype=torch.float32)
        return Roof(threads, max(rates), large.numel() * 4 / _least(large.sum))
    finally:
        torch.set_num_threads(before)


def _least(work: Callable[[], Any]) -> float:
    spent = []
    for _ in range(12):
        start = time.perf_counter()
        work()
        spent.append(time.perf_counter() - start)
    return min(spent)
