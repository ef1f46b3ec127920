"""How likely a model finds the answers of a dataset: loss and perplexity, through chat completions.

vLLM's server, which Google's container for open models is made from, takes two fields that OpenAI's API does not have:
`prompt_logprobs` returns the log probability of every token of the prompt, and `add_generation_prompt: false` lets the
prompt end with an answer that is there already. A question is sent without its answer and with it; the tokens that the
second prompt has more are those that training learns: the answer and what ends it.

A server that knows neither refuses them, or leaves them unanswered; it then does not offer this measure.
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
"""Nats per token, one of the last digit that is shown. The same model measured twice differed by about 1e-8 on the
emulator (float32): a server adds in another order where other requests share the batch."""


@dataclass(frozen=True, slots=True)
class AnswerLoss:
    """Loss of one answer."""

    nats: float
    """Negative log probability of the whole answer, natural logarithm."""
    tokens: tuple[int, ...]
    """Ids of the answer's tokens, what ends it included."""

    @property
    def per_token(self) -> float:
        """Return the mean loss of a token, as training reports it."""
        return self.nats / len(self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Likelihood:
    """Loss per token of base and tuned model on the same answers."""

    difference: Difference
    tokens: int
    left_out: int = 0
    """Questions whose answer could not be measured."""

    @property
    def perplexity(self) -> tuple[float, float]:
        """Return the base's and the tuned model's."""
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
    """The model cannot be asked for log probabilities of a given text; the message says how that shows."""


def answer_loss(
    session: Session, who: Respondent, messages: Sequence[Mapping[str, Any]], reference: str
) -> AnswerLoss | None:
    """Return the loss of a reference answer; None if its tokens cannot be told from the question's.

    Args:
        session: where.
        who: whom to ask.
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
    """Return the difference of the mean losses of a token, with its paired bootstrap interval over the answers.

    The mean is over all tokens, as in training: a long answer counts for more than a short one.
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
    """Return id and log probability of each token of the prompt but the first. Raises NotOfferedError."""
    places = body.get("prompt_logprobs")
    if not isinstance(places, list):
        raise NotOfferedError("its answers have no prompt_logprobs")
    found = []
    for place in places[1:]:
        if not isinstance(place, dict) or not place:
            raise NotOfferedError("its prompt_logprobs have another form than vLLM's")
        # The prompt's own token comes first; there may be likelier ones after it.
        token, score = next(iter(place.items()))
        try:
            found.append((int(token), float(score["logprob"])))
        except (TypeError, KeyError, ValueError) as error:
            raise NotOfferedError("its prompt_logprobs have another form than vLLM's") from error
    return found
