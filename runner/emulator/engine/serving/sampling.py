"""Selects the next token of one sequence from its logits."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy
import numpy.typing
import torch

from runner.emulator.engine.serving.constraints import Constraint
from runner.emulator.engine.serving.parameters import SamplingParameters

_NUCLEUS_BOUNDS = (1e-3, 1e-5, 0.0)
"""Minimum likelihood of a token to be sorted for `top_p`, if the rest suffices: sorting a whole vocabulary takes
milliseconds per token."""

Floats = numpy.typing.NDArray[numpy.float32]
Places = numpy.typing.NDArray[numpy.int64]


@dataclass(frozen=True, slots=True)
class Choice:
    """One generated token. Log probabilities are the model's own, before penalties and temperature, as in vLLM."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
    """The most likely tokens and their log probabilities, best first."""


class Sampler:
    """Selects the tokens of one sequence.

    With a seed, the selection depends only on the logits: each token uses exactly one random number, and no other
    sequence of the batch shares the generator.

    Args:
        parameters: the parameters of the sequence.
        prompt: token IDs of the prompt, to which `repetition_penalty` also applies.
        end_tokens: IDs that end the sequence, which `min_tokens` delays.
        index: number of this sequence among the `n` of its request; offsets the seed.
        constraint: the constraint of the text.
    """

    def __init__(
        self,
        parameters: SamplingParameters,
        prompt: list[int],
        end_tokens: frozenset[int],
        index: int = 0,
        constraint: Constraint | None = None,
    ) -> None:
        self._parameters = parameters
        self._constraint = constraint
        self._random = random.Random(None if parameters.seed is None else parameters.seed + index)
        self._end_tokens = sorted(end_tokens)
        self._counts: dict[int, int] = {}
        self._seen = set(prompt) if parameters.repetition_penalty != 1 else set()
        self.plain = (
            parameters.greedy
            and constraint is None
            and parameters.logprobs is None
            and not parameters.logit_bias
            and not parameters.presence_penalty
            and not parameters.frequency_penalty
            and parameters.repetition_penalty == 1
            and not parameters.min_tokens
        )
        """Whether the next token is the argmax of the unmodified logits; a caller can compute this for all rows at
        once."""

    def choose(self, logits: torch.Tensor, generated: int) -> Choice:
        """Return the next token.

        Args:
            logits: logits of one position, shape (vocabulary,); not modified.
            generated: number of tokens that the sequence has so far.
        """
        logits = logits.float()
        adjusted = self._adjust(logits, generated)
        if self._constraint is not None:
            adjusted = self._constraint.apply(adjusted)
        token = (
            int(adjusted.argmax()) if self._parameters.greedy else self._draw(adjusted / self._parameters.temperature)
        )
        if self._constraint is not None:
            self._constraint.take(token)
        self._counts[token] = self._counts.get(token, 0) + 1
        if self._parameters.repetition_penalty != 1:
            self._seen.add(token)
        if self._parameters.logprobs is None:
            return Choice(token)
        logprobs = torch.log_softmax(logits, -1)
        top: tuple[tuple[int, float], ...] = ()
        if self._parameters.logprobs:
            values, indices = logprobs.topk(min(self._parameters.logprobs, logprobs.numel()))
            top = tuple(zip(indices.tolist(), values.tolist(), strict=True))
        return Choice(token, float(logprobs[token]), top)

    def _adjust(self, logits: torch.Tensor, generated: int) -> torch.Tensor:
        """Apply penalties, biases and the minimum length, in vLLM's order."""
        parameters = self._parameters
        held_off = bool(self._end_tokens) and generated < parameters.min_tokens
        penalised = self._counts and (parameters.presence_penalty or parameters.frequency_penalty)
        if not (parameters.logit_bias or held_off or penalised or self._seen):
            return logits
        logits = logits.clone()
        if held_off:
            logits[self._end_tokens] = -torch.inf
        for token, bias in parameters.logit_bias.items():
            logits[token] += bias
        if self._seen:
            seen = torch.tensor(sorted(self._seen), device=logits.device)
            values = logits[seen]
            factor = parameters.repetition_penalty
            logits[seen] = torch.where(values > 0, values / factor, values * factor)
        if penalised:
            tokens = torch.tensor(list(self._counts), device=logits.device)
            counts = torch.tensor(list(self._counts.values()), device=logits.device, dtype=logits.dtype)
            logits[tokens] -= parameters.frequency_penalty * counts + parameters.presence_penalty
        return logits

    def _draw(self, logits: torch.Tensor) -> int:
        """Draw from the distribution after top_k, top_p and min_p."""
        parameters = self._parameters
        probabilities, tokens = _truncate(logits, parameters.top_k, parameters.top_p)
        if parameters.min_p:
            probabilities = probabilities * (probabilities >= parameters.min_p * probabilities.max())
        cumulative = torch.from_numpy(probabilities).cumsum(0, dtype=torch.double).numpy()
        place = int(numpy.searchsorted(cumulative, self._random.random() * cumulative[-1], side="right"))
        place = min(place, cumulative.size - 1)
        return place if tokens is None else int(tokens[place])


def _truncate(logits: torch.Tensor, top_k: int, top_p: float) -> tuple[Floats, Places | None]:
    """Return the remaining probabilities and their tokens, most likely first; no tokens if all remain, in order."""
    tokens: Places
    if 0 < top_k < logits.numel():
        values, found = logits.topk(top_k)
        probabilities, tokens = values.softmax(0).numpy(), found.numpy()
    elif top_p < 1:
        everything: Floats = logits.softmax(0).numpy()
        tokens = _likeliest(everything, top_p)
        probabilities = everything[tokens]
    else:
        return logits.softmax(0).numpy(), None
    if top_p < 1:
        # A token stays if the previous ones do not reach top_p yet, so the first one always stays.
        keep = probabilities.cumsum() - probabilities < top_p
        keep[0] = True
        probabilities, tokens = probabilities[keep], tokens[keep]
    return probabilities, tokens


def _likeliest(probabilities: Floats, enough: float) -> Places:
    """Return the most likely tokens in order, which together have at least `enough` of the likelihood."""
    for bound in _NUCLEUS_BOUNDS:
        tokens = numpy.flatnonzero(probabilities >= bound)
        if probabilities[tokens].sum() >= enough:
            break
    return tokens[numpy.argsort(-probabilities[tokens], kind="stable")]
