"""Differences of two paired samples, with intervals that say whether they are any."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

RESAMPLES = 2000
CONFIDENCE = 0.95

Outcome = Literal["better", "worse", "no difference", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Tuned minus base, in the mean, with its interval."""

    base: float
    tuned: float
    low: float
    high: float
    questions: int
    lower_is_better: bool = False

    @property
    def mean(self) -> float:
        """Return the difference of the means."""
        return self.tuned - self.base

    @property
    def outcome(self) -> Outcome:
        """Return `no difference` unless the interval excludes zero."""
        if self.low <= 0 <= self.high:
            return "no difference"
        return "better" if (self.low > 0) is not self.lower_is_better else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        numbers = {"base": self.base, "tuned": self.tuned, "difference": self.mean, "low": self.low, "high": self.high}
        return {**{key: round(value, 4) for key, value in numbers.items()}, "questions": self.questions}


def bootstrap(
    base: Sequence[float],
    tuned: Sequence[float],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    lower_is_better: bool = False,
) -> Difference:
    """Return the difference of two paired samples with its percentile bootstrap interval."""
    chance = random.Random(seed)
    differences = [new - old for old, new in zip(base, tuned, strict=True)]
    number = len(differences)
    means = sorted(sum(chance.choices(differences, k=number)) / number for _ in range(resamples))
    tail = (1 - CONFIDENCE) / 2
    return Difference(
        base=sum(base) / number,
        tuned=sum(tuned) / number,
        low=means[int(tail * resamples)],
        high=means[min(resamples - 1, int((1 - tail) * resamples))],
        questions=number,
        lower_is_better=lower_is_better,
    )
