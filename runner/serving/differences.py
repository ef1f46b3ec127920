"""Differences of two paired samples, with intervals that show whether a difference is significant."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any, Literal

RESAMPLES = 2000
CONFIDENCE = 0.95
FEWEST = 5
"""Minimum number of questions for a verdict: resamples of two questions say little about a third."""

Outcome = Literal["better", "worse", "no difference", "undecided"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The mean of tuned minus base, with its interval."""

    base: float
    tuned: float
    low: float
    high: float
    questions: int
    lower_is_better: bool = False
    noise: float = 0.0
    """Difference that the measurement itself can cause, when the same model is asked twice."""

    @property
    def mean(self) -> float:
        """Return the difference of the means."""
        return self.tuned - self.base

    @property
    def outcome(self) -> Outcome:
        """Return `no difference` unless the interval excludes zero and noise.

        `undecided` for less than `FEWEST` questions.
        """
        if self.questions < FEWEST:
            return "undecided"
        if self.low <= self.noise and self.high >= -self.noise:
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
    """Return the difference of two paired samples with its bootstrap interval (see `interval`)."""
    chance = random.Random(seed)
    differences = [new - old for old, new in zip(base, tuned, strict=True)]
    number = len(differences)
    low, high = interval([sum(chance.choices(differences, k=number)) / number for _ in range(resamples)], number)
    return Difference(
        base=sum(base) / number,
        tuned=sum(tuned) / number,
        low=low,
        high=high,
        questions=number,
        lower_is_better=lower_is_better,
    )


def interval(statistics: Sequence[float], questions: int) -> tuple[float, float]:
    """Return the interval of a statistic from its value in each resample.

    This is the expanded percentile interval of Hesterberg, "What Teachers Should Know About the Bootstrap", The
    American Statistician 69 (2015), section 5.3: the percentiles are further out than 2.5 and 97.5, as Student's t is
    wider than the normal distribution, because resamples of few questions vary less than the questions do.

    Args:
        statistics: one value for each resample.
        questions: number of questions that were resampled.
    """
    normal = NormalDist()
    freedom = max(1, questions - 1)
    quantile = _student(normal.inv_cdf((1 + CONFIDENCE) / 2), freedom)
    tail = normal.cdf(-sqrt(questions / freedom) * quantile)
    ordered = sorted(statistics)
    place = int(tail * len(ordered))
    return ordered[place], ordered[-1 - place]


def _student(z: float, freedom: int) -> float:
    """Return the quantile of Student's t for which the normal distribution has `z`; within 0.01 from 4 degrees on.

    This is the Cornish-Fisher expansion: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.5.
    """
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + terms[0] / freedom + terms[1] / freedom**2 + terms[2] / freedom**3
