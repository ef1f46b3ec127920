"""The loss and perplexity of the answers of a dataset for a model, through chat completions.

vLLM's server, from which Google's container for open models is built, accepts two fields that OpenAI's API does not
have: `prompt_logprobs` returns the log probability of every token of the prompt, and with `add_generation_prompt:
false`, the prompt can end with an existing answer. A question is sent with and without its answer; the additional
tokens of the second prompt are those that training learns: the answer and its end.

A server that does not know these fields refuses them or ignores them, and then does not support this measurement.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from typing import Any

from runner.errors import GoogleApiError
from runner.gcp.session import Session
from runner.serving.differences import RESAMPLES, Difference, interval
from runner.serving.respondents import Respondent

NOISE = 1e-4
"""Nats per token, one unit of the last digit that is shown. Two measurements of the same model differed by about 1e-8
on the emulator (float32), because a server adds in another order if other requests share the batch."""


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """Loss of one answer."""

    nats: float
    """Negative log probability of the whole answer, natural logarithm."""
    tokens: tuple[int, ...]
    """IDs of the answer's tokens, including its end."""

    @property
    def per_token(self) -> float:
        """Return the mean loss of a token, as training reports it."""
        return self.nats / len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """Losses per token of the base and the tuned model on the same answers."""

    difference: Difference
    tokens: int
    left_out: int = 0
    """Number of questions whose answer could not be measured."""

    @property
    def perplexity(self) -> tuple[float, float]:
        """Return the losses of the base and the tuned model."""
        return exp(min(700.0, self.difference.base)), exp(min(700.0, self.difference.tuned))

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        base, tuned = self.perplexity
        return {
            **self.difference.to_json(),
            "outcome": self.difference.outcome,
            "tokens": self.tokens,
            "leftOut": self.left_out,
            "basePerplexity": round(base, 4),
            "tunedPerplexity": round(tuned, 4),
        }


class NotOfferedError(Exception):
    """The model cannot return log probabilities of a given text; the message contains the evidence."""


def answer_loss(
    session: Session, who: Respondent, messages: Sequence[Mapping[str, Any]], reference: str
) -> AnswerLoss | None:
    """Return the loss of a reference answer; None if its tokens cannot be separated from the question's.

    Args:
        session: the project and location.
        who: the model.
        messages: the question.
        reference: the answer to measure.

    Raises:
        NotOfferedError: the model does not return log probabilities of prompts.
        GoogleApiError, UnreachableError: the model does not answer.
    """

    def scores(conversation: Sequence[Mapping[str, Any]], **fields: Any) -> list[tuple[int, float]]:
        answer = who.chat(session, conversation, max_tokens=1, temperature=0.0, prompt_logprobs=0, **fields)
        return _scores(answer.raw)

    try:
        asked = scores(messages)
        answered = scores([*messages, {"role": "assistant", "content": reference}], add_generation_prompt=False)
    except GoogleApiError as error:
        if error.status in ("INVALID_ARGUMENT", "UNIMPLEMENTED"):
            raise NotOfferedError(error.message) from error
        raise
    before = len(asked)
    if len(answered) <= before or [one for one, _ in asked] != [one for one, _ in answered[:before]]:
        return None
    rest = answered[before:]
    return AnswerLoss(-sum(logprob for _, logprob in rest), tuple(token for token, _ in rest))


def compare_losses(base: Sequence[AnswerLoss], tuned: Sequence[AnswerLoss], *, seed: int = 0) -> Difference:
    """Return the difference of the mean losses per token, with its paired bootstrap interval over the answers.

    The mean is over all tokens, as in training, so that a long answer counts more than a short one.
    """
    chance = random.Random(seed)
    rows = [(old.nats, new.nats, len(old.tokens)) for old, new in zip(base, tuned, strict=True)]
    tokens = sum(row[2] for row in rows)
    means = []
    for _ in range(RESAMPLES):
        drawn = chance.choices(rows, k=len(rows))
        means.append(sum(row[1] - row[0] for row in drawn) / sum(row[2] for row in drawn))
    low, high = interval(means, len(rows))
    return Difference(
        base=sum(row[0] for row in rows) / tokens,
        tuned=sum(row[1] for row in rows) / tokens,
        low=low,
        high=high,
        questions=len(rows),
        lower_is_better=True,
        noise=NOISE,
    )


def _scores(body: Mapping[str, Any]) -> list[tuple[int, float]]:
    """Return the ID and log probability of each token of the prompt except the first. Raises NotOfferedError."""
    places = body.get("prompt_logprobs")
    if not isinstance(places, list):
        raise NotOfferedError("its answers have no prompt_logprobs")
    found = []
    for place in places[1:]:
        if not isinstance(place, dict) or not place:
            raise NotOfferedError("its prompt_logprobs have another form than vLLM's")
        # The prompt's own token comes first; more likely tokens can follow it.
        token, score = next(iter(place.items()))
        try:
            found.append((int(token), float(score["logprob"])))
        except (TypeError, KeyError, ValueError) as error:
            raise NotOfferedError("its prompt_logprobs have another form than vLLM's") from error
    return found
