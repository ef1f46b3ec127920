"""Compare a tuned model with its base on held-out questions, with intervals that show significant differences.

Both answer the same questions, so the differences are paired: the bootstrap resamples questions, not answers (Koehn,
"Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.serving.differences import CONFIDENCE, FEWEST, Difference, Outcome, bootstrap
from runner.serving.judging import Judgement
from runner.serving.likelihood import AnswerLoss, Likelihood, compare_losses
from runner.serving.messages import text_of
from runner.serving.scores import METRICS
from runner.wording import counted

LOSS, JUDGE = "loss", "judge"
DECIDERS = (*METRICS, LOSS, JUDGE)
"""The metrics that can decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A held-out example."""

    line: int
    messages: tuple[Mapping[str, Any], ...]
    reference: str
    label: str = ""
    """The slice that it belongs to; "" for none."""

    @property
    def text(self) -> str:
        """Return the last message's text."""
        return text_of(self.messages[-1])


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
    base_loss: AnswerLoss | None = None
    tuned_loss: AnswerLoss | None = None
    """Loss of the reference; None if it was not measured."""
    base_cut: bool = False
    """Whether the answer reached the token limit."""
    tuned_cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The complete comparison."""

    base: str
    tuned: str
    pairs: tuple[Pair, ...]
    metrics: dict[str, Difference]
    latency: Difference
    """Seconds until an answer is complete; lower is better."""
    slices: dict[str, dict[str, Difference]]
    primary: str
    usd_per_1000: float | None = None
    """Price of the tuned model's answers at its hourly price and the rate of this run; None if it is unknown."""
    likelihood: Likelihood | None = None
    """Losses of the references; None if they could not be measured, with the reason in `likelihood_missing`."""
    likelihood_missing: str = ""
    slice_losses: dict[str, Difference] = field(default_factory=dict)
    judgement: Judgement | None = None
    notes: tuple[str, ...] = field(default=())
    settings: dict[str, float] = field(default_factory=dict)
    """The request settings of the models: `temperature`, `max_tokens`, …"""
    made: float = field(default_factory=time.time, compare=False)
    """Time of the evaluation, in seconds since 1970."""

    def __repr__(self) -> str:
        count = counted(len(self.pairs), "question")
        return f"<Evaluation of {self.tuned} against {self.base}: {self.outcome} by {self.primary}, {count}>"

    @property
    def outcome(self) -> Outcome:
        """Return the verdict of the deciding metric; `undecided` if it could not be measured."""
        if self.primary == JUDGE:
            return self.judgement.outcome if self.judgement else "undecided"
        decisive = self.decisive
        return decisive.outcome if decisive else "undecided"

    @property
    def decisive(self) -> Difference | None:
        """Return the deciding difference, if it could be measured."""
        if self.primary == JUDGE:
            return self.judgement.win_rate if self.judgement else None
        if self.primary == LOSS:
            return self.likelihood.difference if self.likelihood else None
        return self.metrics[self.primary]

    def to_json(self, *, pairs: bool = False) -> dict[str, Any]:
        """Return the stable JSON form."""
        body: dict[str, Any] = {
            "base": self.base,
            "tuned": self.tuned,
            "questions": len(self.pairs),
            "primary": self.primary,
            "outcome": self.outcome,
            "confidence": CONFIDENCE,
            "metrics": {name: {**item.to_json(), "outcome": item.outcome} for name, item in self.metrics.items()},
            "loss": self.likelihood.to_json() if self.likelihood else {"unavailable": self.likelihood_missing},
            "judge": self.judgement.to_json() if self.judgement else None,
            "latencySeconds": self.latency.to_json(),
            "slices": {
                label: {name: {**item.to_json(), "outcome": item.outcome} for name, item in metrics.items()}
                for label, metrics in self.slices.items()
            },
            "sliceLosses": {
                label: {**item.to_json(), "outcome": item.outcome} for label, item in self.slice_losses.items()
            },
            "usdPer1000Answers": None if self.usd_per_1000 is None else round(self.usd_per_1000, 4),
            "notes": list(self.notes),
            "settings": self.settings,
            "made": datetime.datetime.fromtimestamp(self.made, datetime.UTC).isoformat(timespec="seconds"),
        }
        if pairs:
            verdicts = self.judgement.verdicts if self.judgement else (None,) * len(self.pairs)
            body["pairs"] = [
                {
                    "line": pair.question.line,
                    "label": pair.question.label or None,
                    "question": pair.question.text,
                    "reference": pair.question.reference,
                    "base": pair.base,
                    "tuned": pair.tuned,
                    "baseCut": pair.base_cut,
                    "tunedCut": pair.tuned_cut,
                    "baseScores": pair.base_scores,
                    "tunedScores": pair.tuned_scores,
                    "baseLoss": round(pair.base_loss.per_token, 4) if pair.base_loss else None,
                    "tunedLoss": round(pair.tuned_loss.per_token, 4) if pair.tuned_loss else None,
                    "verdict": verdict,
                }
                for pair, verdict in zip(self.pairs, verdicts, strict=True)
            ]
        return body


def compare(
    base: str,
    tuned: str,
    pairs: Sequence[Pair],
    *,
    primary: str = "chrF",
    seed: int = 0,
    usd_per_1000: float | None = None,
    likelihood_missing: str = "",
    judgement: Judgement | None = None,
) -> Evaluation:
    """Return the comparison of existing answers."""
    labels = sorted({pair.question.label for pair in pairs} - {""})
    groups = {label: [pair for pair in pairs if pair.question.label == label] for label in labels}
    small = [label for label, group in groups.items() if len(group) < FEWEST]
    notes = [
        f"slice {label!r} has only {counted(len(groups[label]), 'question')} and is not evaluated" for label in small
    ]
    if len(pairs) < FEWEST:
        notes.append(f"fewer than {FEWEST} questions give no verdict")
    elif len(pairs) < 2 * FEWEST:
        notes.append(f"{counted(len(pairs), 'question')}: too few to detect anything but a huge difference")
    likelihood, why_not = _likelihood(pairs, seed)
    if likelihood is not None and likelihood.left_out:
        notes.append(f"the loss of {likelihood.left_out} answers could not be measured and is left out")
    if judgement is not None and judgement.count("unreadable"):
        number = judgement.count("unreadable")
        notes.append(f"{number} of {len(pairs)} verdicts of the judge could not be read and are ignored")
    return Evaluation(
        base=base,
        tuned=tuned,
        pairs=tuple(pairs),
        metrics=_differences(pairs, seed),
        latency=bootstrap(
            [pair.base_seconds for pair in pairs],
            [pair.tuned_seconds for pair in pairs],
            seed=seed,
            lower_is_better=True,
        ),
        slices={label: _differences(group, seed) for label, group in groups.items() if label not in small},
        primary=primary,
        usd_per_1000=usd_per_1000,
        likelihood=likelihood,
        likelihood_missing=likelihood_missing or why_not,
        slice_losses={
            label: found.difference
            for label, group in groups.items()
            if label not in small and (found := _likelihood(group, seed)[0]) is not None
        },
        judgement=judgement,
        notes=tuple(notes),
    )


def _likelihood(pairs: Sequence[Pair], seed: int) -> tuple[Likelihood | None, str]:
    """Return the comparison of the references' losses, or the reason why there is none."""
    measured = [(pair.base_loss, pair.tuned_loss) for pair in pairs if pair.base_loss and pair.tuned_loss]
    base = [old for old, _ in measured if old]
    tuned = [new for _, new in measured if new]
    if not measured:
        return None, "the tokens of the answers could not be separated from those of the questions"
    if any(old.tokens != new.tokens for old, new in zip(base, tuned, strict=True)):
        return None, "base and tuned model cut the answers into different tokens, so that a loss per token says nothing"
    found = Likelihood(
        difference=compare_losses(base, tuned, seed=seed),
        tokens=sum(len(one.tokens) for one in base),
        left_out=len(pairs) - len(measured),
    )
    return found, ""


def _differences(pairs: Sequence[Pair], seed: int) -> dict[str, Difference]:
    return {
        name: bootstrap(
            [pair.base_scores[name] for pair in pairs], [pair.tuned_scores[name] for pair in pairs], seed=seed
        )
        for name in METRICS
    }
