"""A tuned model against its base on held-out questions, with intervals that say whether a difference is one.

Both answer the same questions, so the differences are paired: the bootstrap draws questions, not answers (Koehn,
"Statistical Significance Tests for Machine Translation Evaluation", EMNLP 2004).
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from runner.errors import ConfigurationError
from runner.gcp import deployed, prediction
from runner.gcp.endpoints import Endpoint
from runner.gcp.failures import call
from runner.gcp.session import Session
from runner.serving.differences import CONFIDENCE, FEWEST, Difference, Outcome, bootstrap
from runner.serving.judging import Judge, Judgement, judge_pairs
from runner.serving.likelihood import AnswerLoss, Likelihood, NotOfferedError, answer_loss, compare_losses
from runner.serving.scores import METRICS
from runner.wording import counted

LOSS, JUDGE = "loss", "judge"
DECIDERS = (*METRICS, LOSS, JUDGE)
"""What may decide."""
ANSWER_TOKENS = 1024
"""Of an answer, unless another limit is given: an untuned base may never stop, which costs time and money."""


Answer = tuple[str, float, bool]
"""The text, the seconds until it was whole, and whether it reached the limit of tokens."""


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
    deployed_model: str = ""
    """Id of the one model of the endpoint that is asked, whatever its traffic; "" for whom the traffic falls on."""
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
    base_loss: AnswerLoss | None = None
    tuned_loss: AnswerLoss | None = None
    """Of the reference; None where it was not measured."""
    base_cut: bool = False
    """Whether the answer reached the limit of tokens."""
    tuned_cut: bool = False


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
    likelihood: Likelihood | None = None
    """Of the references; None where it could not be measured, and `likelihood_missing` says why."""
    likelihood_missing: str = ""
    slice_losses: dict[str, Difference] = field(default_factory=dict)
    judgement: Judgement | None = None
    notes: tuple[str, ...] = field(default=())
    settings: dict[str, float] = field(default_factory=dict)
    """How the models were asked: `temperature`, `max_tokens`, …"""
    made: float = field(default_factory=time.time, compare=False)
    """When, in seconds since 1970."""

    @property
    def outcome(self) -> Outcome:
        """Return what decides says: `undecided` if it could not be measured."""
        if self.primary == JUDGE:
            return self.judgement.outcome if self.judgement else "undecided"
        decisive = self.decisive
        return decisive.outcome if decisive else "undecided"

    @property
    def decisive(self) -> Difference | None:
        """Return the difference that decides, if it could be measured."""
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
    judge: Judge | None = None,
    answered: tuple[Sequence[Answer], Sequence[Answer]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask both every question, and compare.

    Args:
        session: where.
        questions: held-out examples, with references.
        base: whom to compare with.
        tuned: who is to be better.
        primary: one of `DECIDERS`: which decides.
        concurrency: questions asked at once; both models answer a question one after the other, in alternating order,
            so that neither profits from a quiet machine.
        sampling: as for chat; temperature is 0 and the longest answer `ANSWER_TOKENS` unless given.
        seed: of the bootstrap.
        judge: who compares the answers too; None for nobody.
        answered: the answers of both, of the base first, where batch prediction jobs gave them: nobody is asked then.
        progress: called with questions done, and all; first of the answers, then of the losses.

    Raises:
        ConfigurationError: no questions, no such metric, or one that decides and cannot be measured.
        GoogleApiError, UnreachableError: a model does not answer.
    """
    missing = "batch prediction jobs report no log probabilities" if answered is not None else ""
    if questions and answered is None:
        missing = _not_offered(session, questions, base, tuned)
    problem = _problem(questions, primary, judge, missing)
    if problem:
        raise ConfigurationError(problem, problems=[problem])
    given = with_defaults(sampling)

    def run(work: Callable[[tuple[int, Any]], Pair], items: Sequence[Any]) -> list[Pair]:
        pairs: list[Pair] = []
        with ThreadPoolExecutor(concurrency, thread_name_prefix="eval") as pool:
            for pair in pool.map(work, enumerate(items)):
                pairs.append(pair)
                if progress:
                    progress(len(pairs), len(questions))
        return pairs

    start = time.monotonic()
    if answered is not None:
        pairs = [_scored(*item) for item in zip(questions, *answered, strict=True)]
    else:
        pairs = run(lambda item: _pair(session, item[1], item[0], base, tuned, given), questions)
    seconds = time.monotonic() - start
    share = sum(pair.tuned_seconds for pair in pairs) / max(
        1e-9, sum(pair.tuned_seconds + pair.base_seconds for pair in pairs)
    )
    cost = None if tuned.usd_per_hour is None else tuned.usd_per_hour * seconds * share / 3600 / len(pairs) * 1000
    if not missing:
        pairs = run(lambda item: _with_losses(session, item[1], base, tuned), pairs)
    judgement = None
    if judge is not None:
        asked = [(pair.question.text, pair.question.reference, pair) for pair in pairs]
        judgement = judge_pairs(session, judge, asked, concurrency=concurrency, seed=seed)
    found = compare(
        base.name,
        tuned.name,
        pairs,
        primary=primary,
        seed=seed,
        usd_per_1000=cost,
        likelihood_missing=missing,
        judgement=judgement,
    )
    return replace(found, settings={key: value for key, value in given.items() if isinstance(value, int | float)})


def with_defaults(sampling: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return how models are asked: without chance, and for an answer that ends."""
    given = {key: value for key, value in (sampling or {}).items() if value is not None}
    return {"temperature": 0.0, "max_tokens": ANSWER_TOKENS, **given}


def _problem(questions: Sequence[Question], primary: str, judge: Judge | None, missing: str) -> str:
    """Return why nothing can be decided, or ""."""
    if not questions:
        return "there are no questions with a reference answer"
    if primary not in DECIDERS:
        return f"no metric {primary!r}; there are {', '.join(DECIDERS)}"
    if primary == JUDGE and judge is None:
        return "the judge decides, but no judge was given"
    if primary == LOSS and missing:
        return f"the loss decides, but cannot be measured: {missing}"
    return ""


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
    """Return the comparison of answers that are there."""
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
    """Return the comparison of the references' losses, or why there is none."""
    measured = [(pair.base_loss, pair.tuned_loss) for pair in pairs if pair.base_loss and pair.tuned_loss]
    base = [old for old, _ in measured if old]
    tuned = [new for _, new in measured if new]
    if not measured:
        return None, "no answer's tokens could be told from its question's"
    if any(old.tokens != new.tokens for old, new in zip(base, tuned, strict=True)):
        return None, "base and tuned model cut the answers into different tokens, so that a loss per token says nothing"
    found = Likelihood(
        difference=compare_losses(base, tuned, seed=seed),
        tokens=sum(len(one.tokens) for one in base),
        left_out=len(pairs) - len(measured),
    )
    return found, ""


def _not_offered(session: Session, questions: Sequence[Question], base: Contestant, tuned: Contestant) -> str:
    """Return why the loss cannot be measured, or "": the first question is tried."""
    for who in (base, tuned):
        if who.deployed_model:
            return f"{who.name} is asked before it has traffic, for its answers alone"
        try:
            _loss(session, who, questions[0])
        except NotOfferedError as error:
            return f"{who.name} does not offer it: {error}"
    return ""


def _with_losses(session: Session, pair: Pair, base: Contestant, tuned: Contestant) -> Pair:
    try:
        losses = [_loss(session, who, pair.question) for who in (base, tuned)]
    except NotOfferedError:
        return pair  # this one only, such as one that is too long: the first question showed that it is offered
    return replace(pair, base_loss=losses[0], tuned_loss=losses[1])


def _loss(session: Session, who: Contestant, question: Question) -> AnswerLoss | None:
    return answer_loss(
        session, question.messages, question.reference, name=who.name, endpoint=who.endpoint, model=who.model
    )


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
    return _scored(question, answers[id(base)], answers[id(tuned)])


def _scored(question: Question, base: Answer, tuned: Answer) -> Pair:
    (old, old_seconds, old_cut), (new, new_seconds, new_cut) = base, tuned
    return Pair(
        question=question,
        base=old,
        tuned=new,
        base_scores={name: metric(old, question.reference) for name, metric in METRICS.items()},
        tuned_scores={name: metric(new, question.reference) for name, metric in METRICS.items()},
        base_seconds=old_seconds,
        tuned_seconds=new_seconds,
        base_cut=old_cut,
        tuned_cut=new_cut,
    )


def _ask(session: Session, who: Contestant, question: Question, sampling: dict[str, Any]) -> Answer:
    def ask() -> Answer:
        start = time.perf_counter()
        if who.endpoint is not None and who.deployed_model:
            body = deployed.ask_deployed_model(session, who.endpoint, who.deployed_model, question.messages, **sampling)
            choice = (body.get("choices") or [{}])[0]
            text = (choice.get("message") or {}).get("content")
            return str(text or ""), time.perf_counter() - start, choice.get("finish_reason") == "length"
        answer = prediction.chat(
            session, endpoint=who.endpoint, model=who.model, messages=question.messages, stream=False, **sampling
        )
        return answer.text, time.perf_counter() - start, answer.finish_reason == "length"

    # A question may be asked again: an answer changes nothing.
    return call("chat.completions", who.name, ask, idempotent=True)
