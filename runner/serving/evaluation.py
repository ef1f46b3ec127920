"""A tuned model against its base on held-out questions, with intervals that say whether a difference is one.

Both answer the same questions, so the differences are paired: the bootstrap draws questions, not answers (Koehn,
"Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal

from runner.errors import ConfigurationError
from runner.gcp import prediction
from runner.gcp.endpoints import Endpoint
from runner.gcp.failures import call
from runner.gcp.session import Session
from runner.serving.scores import METRICS

RESAMPLES = 2000
CONFIDENCE = 0.95
SMALLEST_SLICE = 5
"""Slices with fewer questions are not judged."""

Outcome = Literal["better", "worse", "no difference"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A held-out example."""

    line: int
    messages: tuple[Mapping[str, Any], ...]
    reference: str
    label: str = ""
    """Slice that it belongs to; "" for none."""

    @property
    def text(self) -> str:
        """Return the last message's text."""
        content = self.messages[-1].get("content", "")
        if isinstance(content, str):
            return content
        return " ".join(str(part.get("text", "[image]")) for part in content)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """Who answers: an endpoint, or a model that Google manages."""

    name: str
    endpoint: Endpoint | None = None
    model: str | None = None
    usd_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A question with both answers and their scores."""

    question: Question
    base: str
    tuned: str
    base_scores: dict[str, float]
    tuned_scores: dict[str, float]
    base_seconds: float
    tuned_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Tuned minus base, in the mean, with its interval."""

    base: float
    tuned: float
    low: float
    high: float
    questions: int

    @property
    def mean(self) -> float:
        """Return the difference of the means."""
        return self.tuned - self.base

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        numbers = {"base": self.base, "tuned": self.tuned, "difference": self.mean, "low": self.low, "high": self.high}
        return {**{key: round(value, 4) for key, value in numbers.items()}, "questions": self.questions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The whole comparison."""

    base: str
    tuned: str
    pairs: tuple[Pair, ...]
    metrics: dict[str, Difference]
    latency: Difference
    """Seconds to a whole answer; lower is better."""
    slices: dict[str, dict[str, Difference]]
    primary: str
    usd_per_1000: float | None = None
    """Of the tuned model's answers, at its hourly price and the rate of this run; None where the price is unknown."""
    notes: tuple[str, ...] = field(default=())

    @property
    def outcome(self) -> Outcome:
        """Return what the primary metric's interval says."""
        return outcome_of(self.metrics[self.primary])

    def to_json(self, *, pairs: bool = False) -> dict[str, Any]:
        """Return the stable JSON form."""
        body: dict[str, Any] = {
            "base": self.base,
            "tuned": self.tuned,
            "questions": len(self.pairs),
            "primary": self.primary,
            "outcome": self.outcome,
            "confidence": CONFIDENCE,
            "metrics": {name: {**item.to_json(), "outcome": outcome_of(item)} for name, item in self.metrics.items()},
            "latencySeconds": self.latency.to_json(),
            "slices": {
                label: {name: {**item.to_json(), "outcome": outcome_of(item)} for name, item in metrics.items()}
                for label, metrics in self.slices.items()
            },
            "usdPer1000Answers": None if self.usd_per_1000 is None else round(self.usd_per_1000, 4),
            "notes": list(self.notes),
        }
        if pairs:
            body["pairs"] = [
                {
                    "line": pair.question.line,
                    "label": pair.question.label or None,
                    "question": pair.question.text,
                    "reference": pair.question.reference,
                    "base": pair.base,
                    "tuned": pair.tuned,
                    "baseScores": pair.base_scores,
                    "tunedScores": pair.tuned_scores,
                }
                for pair in self.pairs
            ]
        return body


def outcome_of(difference: Difference) -> Outcome:
    """Return `no difference` unless the interval excludes zero."""
    if difference.low > 0:
        return "better"
    return "worse" if difference.high < 0 else "no difference"


def evaluate(
    session: Session,
    questions: Sequence[Question],
    base: Contestant,
    tuned: Contestant,
    *,
    primary: str = "chrF",
    concurrency: int = 4,
    sampling: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask both every question, and compare.

    Args:
        session: where.
        questions: held-out examples, with references.
        base: whom to compare with.
        tuned: who is to be better.
        primary: metric of `scores.METRICS` that decides.
        concurrency: questions asked at once; both models answer a question one after the other, in alternating order,
            so that neither profits from a quiet machine.
        sampling: as for chat; temperature is 0 unless given.
        seed: of the bootstrap.
        progress: called with questions answered, and all.

    Raises:
        ConfigurationError: no questions, or no such metric.
        GoogleApiError, UnreachableError: a model does not answer.
    """
    if not questions:
        message = "there are no questions with a reference answer"
        raise ConfigurationError(message, problems=[message])
    if primary not in METRICS:
        message = f"no metric {primary!r}; there are {', '.join(METRICS)}"
        raise ConfigurationError(message, problems=[message])
    given = {"temperature": 0.0, **{key: value for key, value in (sampling or {}).items() if value is not None}}
    start = time.monotonic()
    pairs: list[Pair] = []
    with ThreadPoolExecutor(concurrency, thread_name_prefix="eval") as pool:
        asked = pool.map(lambda item: _pair(session, item[1], item[0], base, tuned, given), enumerate(questions))
        for pair in asked:
            pairs.append(pair)
            if progress:
                progress(len(pairs), len(questions))
    seconds = time.monotonic() - start
    share = sum(pair.tuned_seconds for pair in pairs) / max(
        1e-9, sum(pair.tuned_seconds + pair.base_seconds for pair in pairs)
    )
    cost = None if tuned.usd_per_hour is None else tuned.usd_per_hour * seconds * share / 3600 / len(pairs) * 1000
    return compare(base.name, tuned.name, pairs, primary=primary, seed=seed, usd_per_1000=cost)


def compare(
    base: str,
    tuned: str,
    pairs: Sequence[Pair],
    *,
    primary: str = "chrF",
    seed: int = 0,
    usd_per_1000: float | None = None,
) -> Evaluation:
    """Return the comparison of answers that are there."""
    labels = sorted({pair.question.label for pair in pairs} - {""})
    groups = {label: [pair for pair in pairs if pair.question.label == label] for label in labels}
    small = [label for label, group in groups.items() if len(group) < SMALLEST_SLICE]
    notes = [f"slice {label!r} has only {len(groups[label])} questions and is not judged" for label in small]
    if len(pairs) < 2 * SMALLEST_SLICE:
        notes.append(f"{len(pairs)} questions are too few to find anything but a huge difference")
    return Evaluation(
        base=base,
        tuned=tuned,
        pairs=tuple(pairs),
        metrics=_differences(pairs, seed),
        latency=bootstrap([pair.base_seconds for pair in pairs], [pair.tuned_seconds for pair in pairs], seed=seed),
        slices={label: _differences(group, seed) for label, group in groups.items() if label not in small},
        primary=primary,
        usd_per_1000=usd_per_1000,
        notes=tuple(notes),
    )


def bootstrap(
    base: Sequence[float], tuned: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Return the difference of two paired samples with its percentile bootstrap interval."""
    chance = random.Random(seed)
    differences = [new - old for old, new in zip(base, tuned, strict=True)]
    number = len(differences)
    means = sorted(sum(chance.choices(differences, k=number)) / number for _ in range(resamples))
    tail = (1 - CONFIDENCE) / 2
    low, high = means[int(tail * resamples)], means[min(resamples - 1, int((1 - tail) * resamples))]
    return Difference(base=sum(base) / number, tuned=sum(tuned) / number, low=low, high=high, questions=number)


def _differences(pairs: Sequence[Pair], seed: int) -> dict[str, Difference]:
    return {
        name: bootstrap(
            [pair.base_scores[name] for pair in pairs], [pair.tuned_scores[name] for pair in pairs], seed=seed
        )
        for name in METRICS
    }


def _pair(
    session: Session, question: Question, number: int, base: Contestant, tuned: Contestant, sampling: dict[str, Any]
) -> Pair:
    order = (base, tuned) if number % 2 == 0 else (tuned, base)
    answers = {id(one): _ask(session, one, question, sampling) for one in order}
    (old, old_seconds), (new, new_seconds) = answers[id(base)], answers[id(tuned)]
    return Pair(
        question=question,
        base=old,
        tuned=new,
        base_scores={name: metric(old, question.reference) for name, metric in METRICS.items()},
        tuned_scores={name: metric(new, question.reference) for name, metric in METRICS.items()},
        base_seconds=old_seconds,
        tuned_seconds=new_seconds,
    )


def _ask(session: Session, who: Contestant, question: Question, sampling: dict[str, Any]) -> tuple[str, float]:
    def ask() -> tuple[str, float]:
        start = time.perf_counter()
        answer = prediction.chat(
            session, endpoint=who.endpoint, model=who.model, messages=question.messages, stream=False, **sampling
        )
        return answer.text, time.perf_counter() - start

    # A question may be asked again: an answer changes nothing.
    return call("chat.completions", who.name, ask, idempotent=True)
