"""What the processor could do at most: operations and bytes a second, measured, and what a token takes of them."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

PARAMETERS = 134_515_008
EMBEDDING = 49_152 * 576
"""Of SmolLM2-135M; the output layer is the same weights."""


@dataclass(frozen=True, slots=True)
class Roof:
    """Rates of this machine."""

    threads: int
    operations: float
    """A second, in the better of float32 and bfloat16, in a large product."""
    bytes: float
    """A second, read from memory."""

    def tokens_a_second(self, clients: int, tokens: int, prompt: float) -> float:
        """Return the bound for so many clients at once, each with a prompt and an answer of so many tokens."""
        body = 2 * (PARAMETERS - EMBEDDING)
        reading = prompt * body / self.operations
        step = max(2 * PARAMETERS * clients / self.operations, 2 * PARAMETERS / self.bytes)
        return clients * tokens / (clients * reading + tokens * step)

    def explain(self, clients: int, tokens: int, prompt: float, bound: float) -> str:
        """Return the calculation as a sentence."""
        operations, size = 2 * PARAMETERS / 1e9, 2 * PARAMETERS / 1e6
        body = 2 * (PARAMETERS - EMBEDDING) / 1e9
        return (
            f"The limit: {self.threads} threads reach {self.operations / 1e9:.0f} billion operations and read "
            f"{self.bytes / 1e9:.0f} GB a second here. A token takes {operations:.2f} billion operations (a prompt's, "
            f"without the output layer, {body:.2f}), and a step reads {size:.0f} MB of weights for any number of "
            f"clients. With {clients} clients, prompts of {prompt:.0f} tokens and answers of {tokens} that is "
            f"{bound:.0f} tokens a second, if all products ran at the rate of large ones; with one client reading "
            f"the weights is the limit, {self.bytes / (2 * PARAMETERS):.0f} tokens a second."
        )


def measure_roof(threads: int) -> Roof:
    """Measure, in this process."""
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
