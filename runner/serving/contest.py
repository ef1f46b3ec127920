"""Send the same held-out questions to a tuned model and its base."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from runner.errors import ConfigurationError
from runner.gcp import deployed
from runner.gcp.session import Session
from runner.serving.evaluation import DECIDERS, JUDGE, LOSS, Evaluation, Pair, Question, compare
from runner.serving.judging import judge_pairs
from runner.serving.likelihood import NotOfferedError, answer_loss
from runner.serving.respondents import Respondent
from runner.serving.scores import METRICS

ANSWER_TOKENS = 1024
"""Default maximum length of an answer: an untuned base may never stop, which costs time and money."""

Answer = tuple[str, float, bool]
"""The text, the seconds until it was complete, and whether it reached the token limit."""


def evaluate(
    session: Session,
    questions: Sequence[Question],
    base: Respondent,
    tuned: Respondent,
    *,
    primary: str = "chrF",
    concurrency: int = 4,
    sampling: Mapping[str, Any] | None = None,
    seed: int = 0,
    judge: Respondent | None = None,
    answered: tuple[Sequence[Answer], Sequence[Answer]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Send every question to both models, and compare.

    Args:
        session: the project and location.
        questions: held-out examples, with references.
        base: the model to compare with.
        tuned: the tuned model.
        primary: the deciding metric, one of `DECIDERS`.
        concurrency: number of concurrent questions. Both models answer a question one after the other, in alternating
            order, so that neither has the advantage of an idle machine.
        sampling: as for chat; by default, temperature is 0 and the maximum length of an answer is `ANSWER_TOKENS`.
        seed: seed of the bootstrap.
        judge: a model that also compares the answers, or None.
        answered: the answers of both models, first those of the base, if batch prediction jobs created them; then no
            questions are sent.
        progress: called with the number of finished questions and of all questions, first for the answers, then for the
            losses.

    Raises:
        ConfigurationError: there are no questions, the metric does not exist, or the deciding metric cannot be
            measured.
        GoogleApiError, UnreachableError: a model does not answer.
    """
    missing = "batch prediction jobs report no log probabilities" if answered is not None else ""
    if questions and answered is None:
        missing = _not_offered(session, questions, base, tuned)
    problem = _problem(questions, primary, judge, missing)
    if problem:
        raise ConfigurationError(problem)
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
    """Return the default sampling: deterministic, and with a maximum length."""
    given = {key: value for key, value in (sampling or {}).items() if value is not None}
    return {"temperature": 0.0, "max_tokens": ANSWER_TOKENS, **given}


def _problem(questions: Sequence[Question], primary: str, judge: Respondent | None, missing: str) -> str:
    """Return why the deciding metric cannot be measured, or ""."""
    if not questions:
        return "there are no questions with a reference answer"
    if primary not in DECIDERS:
        return f"no metric {primary!r}; there are {', '.join(DECIDERS)}"
    if primary == JUDGE and judge is None:
        return "the judge decides, but no judge was given"
    if primary == LOSS and missing:
        return f"the loss decides, but cannot be measured: {missing}"
    return ""


def _not_offered(session: Session, questions: Sequence[Question], base: Respondent, tuned: Respondent) -> str:
    """Return why the loss cannot be measured, or "". Tries the first question."""
    for who in (base, tuned):
        if who.deployed_model:
            return f"{who.name} is asked only for answers before it gets traffic"
        try:
            answer_loss(session, who, questions[0].messages, questions[0].reference)
        except NotOfferedError as error:
            return f"{who.name} does not offer it: {error}"
    return ""


def _with_losses(session: Session, pair: Pair, base: Respondent, tuned: Respondent) -> Pair:
    try:
        asked = pair.question
        losses = [answer_loss(session, who, asked.messages, asked.reference) for who in (base, tuned)]
    except NotOfferedError:
        return pair  # only this one, for example a long one: the first question showed that it is supported
    return replace(pair, base_loss=losses[0], tuned_loss=losses[1])


def _pair(
    session: Session, question: Question, number: int, base: Respondent, tuned: Respondent, sampling: dict[str, Any]
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


def _ask(session: Session, who: Respondent, question: Question, sampling: dict[str, Any]) -> Answer:
    start = time.perf_counter()
    if who.endpoint is not None and who.deployed_model:
        body = deployed.ask_deployed_model(session, who.endpoint, who.deployed_model, question.messages, **sampling)
        choice = (body.get("choices") or [{}])[0]
        text = (choice.get("message") or {}).get("content")
        return str(text or ""), time.perf_counter() - start, choice.get("finish_reason") == "length"
    answer = who.chat(session, question.messages, **sampling)
    return answer.text, time.perf_counter() - start, answer.finish_reason == "length"
