"""Log probabilities of the tokens of a prompt, as in vLLM's `prompt_logprobs`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

LOGITS_AT_ONCE = 2**24
"""Positions times vocabulary that are computed together: 64 MB of float32. All logits of a long prompt would take
gigabytes."""

Scored = tuple[int, float, int]
"""A token, its log probability and its rank, 1 for the most likely."""


@dataclass(frozen=True, slots=True)
class PromptToken:
    """One token of a prompt, given the previous ones."""

    own: Scored
    top: tuple[Scored, ...] = ()
    """The most likely tokens at its position, best first."""


class PromptScorer:
    """Stores the last hidden states of forward passes, and computes logits from them in parts.

    Args:
        model: a causal language model of transformers.
        at_once: positions times vocabulary for which logits are computed together.
    """

    def __init__(self, model: Any, at_once: int = LOGITS_AT_ONCE) -> None:
        self._at_once = at_once
        self._head = model.get_output_embeddings()
        self._cap: float | None = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
        self._keeping = False
        self._states: torch.Tensor | None = None
        self._head.register_forward_pre_hook(self._select_last)

    @contextlib.contextmanager
    def keeping(self) -> Iterator[None]:
        """Store the states of the forward pass in the context, which then computes only the last position's logits."""
        self._keeping = True
        try:
            yield
        finally:
            self._keeping = False

    def keep(self, states: torch.Tensor) -> None:
        """Store the states of another pass, shape (rows, width, hidden), padded on the left."""
        self._states = states

    def score(self, row: int, tokens: list[int], alternatives: int) -> tuple[PromptToken, ...]:
        """Return the tokens of a prompt except the first, which has no previous tokens.

        Args:
            row: row of the stored pass; its prompt ends at the last position.
            tokens: IDs of this prompt.
            alternatives: number of the most likely tokens for each position.
        """
        if self._states is None:
            raise RuntimeError("no forward pass was kept")
        states = self._states[row, self._states.shape[1] - len(tokens) :]
        found: list[PromptToken] = []
        step = max(1, self._at_once // int(self._head.weight.shape[0]))
        for start in range(0, len(tokens) - 1, step):
            following = tokens[start + 1 : start + 1 + step]
            logits = self._head(states[start : start + len(following)]).float()
            if self._cap is not None:
                logits = torch.tanh(logits / self._cap) * self._cap
            found += _scored(torch.log_softmax(logits, -1), following, alternatives)
        return tuple(found)

    def forget(self) -> None:
        """Free the memory of the states."""
        self._states = None

    def _select_last(self, _module: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if not self._keeping:
            return None
        self._states = arguments[0]
        return (arguments[0][:, -1:], *arguments[1:])


def _scored(logprobs: torch.Tensor, tokens: list[int], alternatives: int) -> list[PromptToken]:
    """Return the scores of each token from `logprobs`, shape (tokens, vocabulary)."""
    own = logprobs.gather(1, torch.tensor(tokens, device=logprobs.device).unsqueeze(1))
    ranks = (logprobs >= own).sum(1).tolist()
    values, indices = logprobs.topk(min(alternatives, logprobs.shape[1]), dim=1)
    return [
        PromptToken(
            (token, value, rank),
            tuple((other, logprob, place) for place, (other, logprob) in enumerate(zip(*best, strict=True), 1)),
        )
        for token, value, rank, *best in zip(
            tokens, own.squeeze(1).tolist(), ranks, indices.tolist(), values.tolist(), strict=True
        )
    ]
