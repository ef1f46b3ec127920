"""Passes without padding that compute shared prefixes of a batch's examples once.

The hidden states of a token depend only on the tokens before it. Therefore, the examples become one list that contains
each token after equal prefixes once. Everything except attention runs on that list. Attention gets the examples as rows
that are gathered from the list; tokens never see the filling after the end of a row. Losses and gradients equal those
of a padded pass, except for rounding.

With several CPU threads, each computes the complete pass for a share of the examples. If they shared every operation
instead, they would wait for each other ten thousand times per step, which takes longer than the rest on a busy machine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import AttentionInterface

from runner.emulator.engine.batches import Batch, collate
from runner.emulator.engine.dataset import IGNORED, TokenizedExample

_ATTENTION = "packed_examples"
_MODEL_TYPES = ("llama", "qwen3", "gemma3_text", "llama4_text")
"""Model types whose layers, except attention, process every token separately and accept its position as an argument."""

_LEAST_SHARE = 64
"""Minimum number of tokens in a thread's share, which must read all weights."""

_T = TypeVar("_T")


class TrainingPass:
    """Forward and backward passes of a model.

    Args:
        model: a transformers model, with or without adapters.
        padding: the token that fills rows, if the model needs padded examples.
        autocast: whether to compute in bfloat16.
        threads: number of CPU threads that share the examples. None lets threads share each operation.
    """

    def __init__(self, model: Any, padding: int, *, autocast: bool, threads: int | None = None) -> None:
        self._model = model
        self._padding = padding
        self._autocast = autocast
        self._trained = [one for one in model.parameters() if one.requires_grad]
        self._threads = threads or 1
        self._pool = ThreadPoolExecutor(self._threads)
        text = model.config.get_text_config()
        self._configs = {
            id(one.config): one.config
            for one in model.modules()
            if getattr(getattr(one, "config", None), "model_type", None) == text.model_type
        }.values()
        self._packs = (
            text.model_type in _MODEL_TYPES
            and text._attn_implementation == "sdpa"
            and not getattr(text, "use_bidirectional_attention", False)
        )
        # In longer examples, some layers only see the nearest tokens.
        windows = (getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size"))
        self._longest = min((one for one in windows if one), default=1 << 62)
        # From here on, Llama 4 scales by a position that it counts itself.
        self._most: int = getattr(text, "floor_scale", None) or 1 << 62
        self._computed = threading.local()
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    def loss(self, examples: Sequence[TokenizedExample]) -> float:
        """Return the sum of the losses of all learned tokens."""

        def run(batch: Batch) -> float:
            with torch.inference_mode():
                return float(self._summed_loss(batch))

        return sum(self._run(examples, run))

    def backward(self, examples: Sequence[TokenizedExample], divisor: int) -> float:
        """Return the sum of the losses, and add its gradients, divided by `divisor`, to the trained parameters."""

        def run(batch: Batch) -> tuple[float, tuple[torch.Tensor | None, ...]]:
            loss = self._summed_loss(batch)
            if self._threads == 1:
                torch.autograd.backward(loss / divisor)
                return float(loss.detach()), ()
            return float(loss.detach()), torch.autograd.grad(loss / divisor, self._trained, allow_unused=True)

        total = 0.0
        for loss, gradients in self._run(examples, run):  # in the order of the shares, so that sums are always equal
            total += loss
            for parameter, gradient in zip(self._trained, gradients, strict=False):
                if gradient is not None:  # optimizers expect the same memory layout as the parameter's
                    parameter.grad = gradient.contiguous() if parameter.grad is None else parameter.grad.add_(gradient)
        return total

    def _run(self, examples: Sequence[TokenizedExample], run: Callable[[Batch], _T]) -> list[_T]:
        """Call a function with the examples in one batch, or concurrently with several batches on threads."""
        packed = [self._pack(share) for share in _shares(examples, self._threads)]
        batches = [one for one in packed if one is not None]
        if len(batches) < len(packed):
            return [run(collate(examples, self._padding, self._model.device, self._model.dtype))]
        before = [(one, one._attn_implementation) for one in self._configs]
        try:
            for one, _ in before:
                one._attn_implementation = _ATTENTION
            if len(batches) == 1:
                return [run(batches[0])]

            def run_share(batch: Batch) -> _T:
                torch.set_num_threads(self._threads // len(batches))
                return run(batch)

            return list(self._pool.map(run_share, batches))
        finally:
            for one, name in before:
                one._attn_implementation = name

    def _summed_loss(self, batch: Batch) -> torch.Tensor:
        model = self._model
        self._computed.places = batch.learned
        try:
            with torch.autocast(model.device.type, torch.bfloat16, enabled=self._autocast):
                logits = model(**batch.inputs, use_cache=False).logits
        finally:
            del self._computed.places
        return torch.nn.functional.cross_entropy(logits.float(), batch.labels, reduction="sum")

    def _select(self, _module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Give the output layer only the states that need logits, which are a fifth of the work of a small model."""
        return (arguments[0][self._computed.places], *arguments[1:])

    def _pack(self, examples: Sequence[TokenizedExample]) -> Batch | None:
        """Return a batch whose tokens are one list; None if the model needs padding for these examples."""
        if not self._packs or any(example.images for example in examples):
            return None
        device = self._model.device
        known: dict[tuple[int, int], int] = {}
        tokens: list[int] = []
        positions: list[int] = []
        rows: list[list[int]] = []
        learned: list[int] = []
        labels: list[int] = []
        for example in examples:
            place, row = -1, []
            for position, token in enumerate(example.tokens[: example.end]):
                place = known.setdefault((place, token), len(tokens))
                if place == len(tokens):
                    tokens.append(token)
                    positions.append(position)
                row.append(place)
                if example.labels[position + 1] != IGNORED:
                    learned.append(place)
                    labels.append(example.labels[position + 1])
            rows.append(row)
        if max(map(len, rows)) > self._longest or len(tokens) >= self._most:
            return None

        def tensor(numbers: Sequence[int]) -> torch.Tensor:
            return torch.tensor(numbers, device=device)

        inputs = {
            "input_ids": tensor(tokens).unsqueeze(0),
            "position_ids": tensor(positions).unsqueeze(0),
            "rows": _Rows.of(rows, tensor),
        }
        places = tensor(learned)
        return Batch(inputs, (torch.zeros_like(places), places), tensor(labels))


def _shares(examples: Sequence[TokenizedExample], threads: int) -> list[list[TokenizedExample]]:
    """Distribute examples to several threads with similar numbers of tokens, if there are enough tokens."""
    count = min(threads, len(examples), max(1, sum(example.end for example in examples) // _LEAST_SHARE))
    shares: list[list[TokenizedExample]] = [[] for _ in range(count)]
    loads = [0] * count
    for example in sorted(examples, key=lambda one: -one.end):
        least = loads.index(min(loads))
        shares[least].append(example)
        loads[least] += example.end
    return shares


@dataclass(frozen=True, slots=True)
class _Rows:
    """The positions of the list's tokens in the rows for attention, and the inverse."""

    count: int
    tokens: torch.Tensor
    """(rows * width): the token of each position; any token after a row's end."""
    places: torch.Tensor
    """(tokens): the first position of each token."""
    copies: list[tuple[torch.Tensor, torch.Tensor]]
    """For each row with tokens of earlier rows: these tokens, and their positions in this row."""

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], tensor: Callable[[Sequence[int]], torch.Tensor]) -> _Rows:
        """Return it for rows of tokens, which are numbered in order of appearance."""
        width = max(map(len, rows))
        places: list[int] = []
        copies = []
        for number, row in enumerate(rows):
            # A row shares a prefix with one earlier row.
            shared = next((at for at, token in enumerate(row) if token >= len(places)), len(row))
            start = number * width
            places += range(start + shared, start + len(row))
            if shared:
                copies.append((tensor(row[:shared]), tensor(range(start, start + shared))))
        filled = [token for row in rows for token in (*row, *[0] * (width - len(row)))]
        return cls(len(rows), tensor(filled), tensor(places), copies)


class _Gather(torch.autograd.Function):
    """From the list of tokens to rows."""

    @staticmethod
    def forward(context: Any, states: torch.Tensor, rows: _Rows) -> torch.Tensor:
        context.rows = rows
        return states.index_select(0, rows.tokens)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        rows = context.rows
        summed = gradient.index_select(0, rows.places)
        for tokens, places in rows.copies:  # one row at a time, so that the order of the sums is always the same
            summed.index_add_(0, tokens, gradient.index_select(0, places))
        return summed, None


def _attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    rows: _Rows,
    scaling: float,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Compute attention as in transformers: queries, keys and values have the shape (1, heads, tokens, head size)."""
    # Rows are filled only after their end, so a causal mask suffices.
    queries, keys, values = (
        _Gather.apply(one[0].transpose(0, 1), rows).unflatten(0, (rows.count, -1)).transpose(1, 2)
        for one in (query, key, value)
    )
    read = torch.nn.functional.scaled_dot_product_attention(
        queries,
        keys,
        values,
        dropout_p=dropout,
        is_causal=True,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return read.transpose(1, 2).flatten(0, 1).index_select(0, rows.places).unsqueeze(0), None


AttentionInterface.register(_ATTENTION, _attend)
