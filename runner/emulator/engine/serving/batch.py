"""The running batch: key-value cache, attention mask and the forward passes that extend them.

Sequences share one cache whose rows are padded on the left to the longest, so that all of them grow at the same
position. Positions are explicit, and a row's padding is masked, so that its tokens do not depend on other rows.
"""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

import torch
import torch.nn.functional as functional
from transformers import DynamicCache

from runner.emulator.engine.serving.scores import PromptScorer

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of each layer, shape (rows, heads, width, head size)."""


class Batch:
    """Rows in the order in which they joined. Used by one thread.

    Args:
        model: a causal language model of transformers, or an image-text one.
        pad_token: ID that fills the padding; it is masked, so any ID works.
    """

    def __init__(self, model: Any, pad_token: int) -> None:
        self._model = model
        self._pad_token = pad_token
        self._device = model.device
        # transformers 5.24 renamed the argument.
        arguments = inspect.signature(type(model).forward).parameters
        self._cache_argument = "cache" if "cache" in arguments else "past_key_values"
        self._cache: Any = None
        self._mask = torch.zeros((0, 0), dtype=torch.long)

    @property
    def rows(self) -> int:
        """Return the number of sequences in the cache."""
        return 0 if self._cache is None else int(self._mask.shape[0])

    @property
    def width(self) -> int:
        """Return the number of positions in each row, including padding."""
        return 0 if self._cache is None else int(self._mask.shape[1])

    reused = 0
    """Prompt positions that were copied instead of computed."""

    def unread(self, ids: list[int]) -> int:
        """Return how many of a prompt's tokens a pass would have to compute."""
        return len(ids)

    def join(
        self,
        prompts: list[list[int]],
        image_inputs: dict[str, torch.Tensor] | None = None,
        scorer: PromptScorer | None = None,
    ) -> torch.Tensor:
        """Read prompts, append their rows and return the logits after each, shape (prompts, vocabulary).

        The batch is unchanged if the model fails.

        Args:
            prompts: token IDs.
            image_inputs: the processor's outputs besides the IDs; only with a single prompt.
            scorer: stores what it needs to score these prompts.
        """
        width = max(map(len, prompts))
        ids = torch.tensor([[self._pad_token] * (width - len(one)) + one for one in prompts], device=self._device)
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in prompts], device=self._device)
        # Created without the model's configuration, so that sliding and chunked layers keep every position and are
        # limited by their masks. All layers can therefore be padded and joined in the same way.
        cache = DynamicCache()
        with contextlib.nullcontext() if scorer is None else scorer.keeping():
            output = self._model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
                use_cache=True,
                logits_to_keep=1 if scorer is None else 0,
                **{self._cache_argument: cache},
                **self._extended(image_inputs or {}, width),
            )
        self._append(_layers(cache), mask)
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def step(self, tokens: list[int]) -> torch.Tensor:
        """Append one token to every row and return the logits after it, shape (rows, vocabulary)."""
        mask = functional.pad(self._mask, (0, 1), value=1)
        output = self._model(
            input_ids=torch.tensor(tokens, device=self._device).unsqueeze(1),
            attention_mask=mask,
            position_ids=mask.sum(1, keepdim=True) - 1,
            use_cache=True,
            **{self._cache_argument: self._cache},
        )
        self._mask = mask
        logits: torch.Tensor = output.logits[:, -1]
        return logits

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows, and the padding that no remaining row needs."""
        if len(rows) == self.rows:
            return
        if not rows:
            self.clear()
            return
        index = torch.tensor(rows, device=self._device)
        mask = self._mask[index]
        padding = int((mask.cumsum(1) == 0).sum(1).min())
        self._mask = mask[:, padding:]
        self._cache = _cache(
            [(keys[index][:, :, padding:], values[index][:, :, padding:]) for keys, values in _layers(self._cache)]
        )

    def clear(self) -> None:
        """Drop every row."""
        self._cache = None
        self._mask = torch.zeros((0, 0), dtype=torch.long)

    def _append(self, layers: Layers, mask: torch.Tensor) -> None:
        if self._cache is None:
            self._cache, self._mask = _cache(layers), mask
            return
        width = max(self.width, int(mask.shape[1]))
        self._cache = _cache(
            [
                (_stack(old_keys, new_keys, width), _stack(old_values, new_values, width))
                for (old_keys, old_values), (new_keys, new_values) in zip(_layers(self._cache), layers, strict=True)
            ]
        )
        masks = [functional.pad(one, (width - one.shape[1], 0)) for one in (self._mask, mask)]
        self._mask = torch.cat(masks)

    def _extended(self, image_inputs: dict[str, torch.Tensor], width: int) -> dict[str, torch.Tensor]:
        """Move the inputs to the device, and extend those with one value per token for previously generated tokens."""
        inputs = {}
        for name, value in image_inputs.items():
            if name.endswith("token_type_ids"):
                value = functional.pad(value, (0, width - value.shape[1]))
            inputs[name] = value.to(self._device, self._model.dtype if value.is_floating_point() else None)
        return inputs


def _layers(cache: Any) -> Layers:
    return [(layer.keys, layer.values) for layer in cache.layers]


def _cache(layers: Layers) -> Any:
    cache = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        cache.update(keys, values, index)
    return cache


def _stack(old: torch.Tensor, new: torch.Tensor, width: int) -> torch.Tensor:
    return torch.cat([functional.pad(one, (0, 0, width - one.shape[2], 0)) for one in (old, new)])
