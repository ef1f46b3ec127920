"""Batches: the selection and order of examples, and their tensors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from runner.emulator.engine.dataset import IGNORED, TokenizedExample, join_images

_POOL = 8
"""Number of batches that are drawn together and sorted by length, for little padding and still a random order."""
_COARSE = 8
"""Maximum difference of lengths that count as equal: examples of one length are often similar, and batches should be
mixed."""

MAX_TOKENS = 8192
"""Maximum number of padded tokens in one pass; a larger batch is split, and its gradients are summed to the same
result."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Tensors of one forward pass."""

    inputs: dict[str, Any]
    """Arguments of the model."""
    learned: tuple[torch.Tensor, torch.Tensor]
    """Row and column of each hidden state after which a token is learned."""
    labels: torch.Tensor
    """(learned): these tokens."""


def epoch_order(lengths: Sequence[int], batch_size: int, *, seed: int, epoch: int) -> list[list[int]]:
    """Return the batches of one epoch as lists of indices; the same arguments always give the same order."""
    generator = random.Random(seed * 1_000_003 + epoch)
    order = list(range(len(lengths)))
    generator.shuffle(order)
    batches = []
    for start in range(0, len(order), batch_size * _POOL):
        pool = sorted(order[start : start + batch_size * _POOL], key=lambda index: lengths[index] // _COARSE)
        batches += [pool[at : at + batch_size] for at in range(0, len(pool), batch_size)]
    generator.shuffle(batches)
    return batches


def split(examples: Sequence[TokenizedExample]) -> list[list[TokenizedExample]]:
    """Split a batch so that no part has more than `MAX_TOKENS` padded tokens, unless one example has more."""
    parts: list[list[TokenizedExample]] = []
    for example in sorted(examples, key=lambda item: len(item.tokens)):
        # Sorted by length, so this example's length is the padded length.
        if parts and (len(parts[-1]) + 1) * len(example.tokens) <= MAX_TOKENS:
            parts[-1].append(example)
        else:
            parts.append([example])
    return parts


def collate(examples: Sequence[TokenizedExample], padding: int, device: Any, dtype: torch.dtype) -> Batch:
    """Pad examples on the right to one length. Images are concatenated over the batch, in the order of the examples."""
    width = max(len(example.tokens) for example in examples)
    tokens = torch.full((len(examples), width), padding, dtype=torch.long)
    mask = torch.zeros((len(examples), width), dtype=torch.long)
    labels = torch.full((len(examples), width), IGNORED, dtype=torch.long)
    for row, example in enumerate(examples):
        length = len(example.tokens)
        tokens[row, :length] = torch.tensor(example.tokens)
        mask[row, :length] = 1
        labels[row, : length - 1] = torch.tensor(example.labels[1:])
    inputs: dict[str, Any] = {"input_ids": tokens.to(device)}
    if not bool(mask.all()):
        inputs["attention_mask"] = mask.to(device)
    for name, value in join_images([example.images for example in examples if example.images]).items():
        # Llama 4's processor returns bfloat16, regardless of the model's type.
        inputs[name] = value.to(device, dtype) if value.is_floating_point() else value.to(device)
    learned = (labels != IGNORED).nonzero(as_tuple=True)
    return Batch(inputs, (learned[0].to(device), learned[1].to(device)), labels[learned].to(device))
