"""Compare a tuned model with its base: who is asked what, at which price, and whether a gate opens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from runner.errors import ConfigurationError, CostRefusedError, GateFailedError, require_sound
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.prices import Price, Terms, amount
from runner.serving.contest import evaluate, with_defaults
from runner.serving.evaluation import Evaluation, Question
from runner.serving.judging import REPLY_TOKENS
from runner.serving.listing import describe
from runner.serving.questions import read_questions
from runner.serving.respondents import Respondent, respondent
from runner.waiting import silent
from runner.wording import counted

Gate = Literal["better", "not-worse"]
_OPEN: dict[str, frozenset[str]] = {
    "better": frozenset({"better"}),
    "not-worse": frozenset({"better", "no difference"}),
}
_CHARACTERS_A_TOKEN = 3.5
"""For English text; overestimates the price for most tokenizers."""
_FRAME_TOKENS = 150
"""The instructions and tags of one request."""


def compare(
    session: Session,
    dataset: Path,
    *,
    endpoint: str | Endpoint | None = None,
    model: str | None = None,
    base_endpoint: str | Endpoint | None = None,
    base_model: str | None = None,
    limit: int | None = None,
    metric: str = "chrF",
    slice_by: str | None = None,
    concurrency: int = 4,
    sampling: Mapping[str, Any] | None = None,
    judge: str | None = None,
    judge_price: float | None = None,
    engine: Literal["endpoint", "vertex"] = "endpoint",
    replicas: int = 1,
    rate: float | None = None,
    machine_type: str | None = None,
    terms: Terms | None = None,
    tell: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Ask a tuned model and its base every question of a dataset that neither has seen, and compare their answers.

    Args:
        session: where.
        dataset: examples that end in an answer.
        endpoint: the tuned model's; see `resolve_endpoint`.
        model: instead, a model that Google manages.
        base_endpoint: whom to compare with, or
        base_model: a model that Google manages.
        limit: only the first examples.
        metric: what decides; one of `evaluation.DECIDERS`.
        slice_by: key of the examples whose values are compared too.
        concurrency: questions asked at once.
        sampling: see `evaluate`.
        judge: an endpoint, or `PUBLISHER/MODEL` that Google manages, which compares the answers too.
        judge_price: US dollars for a million tokens of a managed judge.
        engine: `vertex` has batch prediction jobs answer; endpoints may then be tuning jobs and models too, see
            `batches.predictors.predictor`.
        replicas: machines of each batch job.
        rate: tokens a second of one of them, where it was measured.
        machine_type: of batch jobs; None is each model's.
        terms: what a managed judge, and all batch jobs together, may cost; None agrees to nothing.
        tell: gets a line for each thing worth knowing before the questions are asked.
        progress: see `evaluate`.

    Raises:
        ConfigurationError: what is asked for does not go together, or cannot be measured.
        DatasetError: the dataset has errors.
        NotFoundError: no such endpoint.
        CostRefusedError: the judge's price is not agreed to; nobody was asked.
        GoogleApiError, UnreachableError: a model does not answer.
    """
    problems = []
    if (base_endpoint is None) == (base_model is None):
        problems.append("give a base endpoint or a base model to compare with")
    if endpoint is not None and model is not None:
        problems.append("give either an endpoint or a model")
    require_sound(
        problems,
        hint="`runner eval FILE --base-endpoint ID`, or `--base-model PUBLISHER/MODEL` for one that Google serves",
    )
    if engine == "vertex" and (model is not None or base_model is not None):
        message = "a Google-managed model has no batch prediction job here: give a tuning job, a model or an endpoint"
        raise ConfigurationError(message)
    tell = tell or silent
    questions = read_questions(dataset, slice_by=slice_by, limit=limit)
    answered = None
    if engine == "vertex":
        from runner.serving.batches import answering, predictors

        both = [
            predictors.predictor(session, one.name if isinstance(one, Endpoint) else one, machine_type)
            for one in (base_endpoint, endpoint)
        ]
        base, tuned = (Respondent(name=who.display_name, model=who.model) for who in both)
        first, second = answering.answers_of(
            session,
            questions,
            both,
            terms=terms or Terms(),
            replicas=replicas,
            sampling=with_defaults(sampling),
            rate=rate,
            progress=lambda job: tell(f"batch prediction job {job.id} is {job.state}"),
        )
        answered = (first, second)
    else:
        tuned = respondent(session, endpoint, model)
        base = respondent(session, base_endpoint, base_model)
    arbiter = find_judge(session, judge) if judge is not None else None
    if arbiter is not None:
        agree_to_judge(arbiter, questions, price=judge_price, terms=terms or Terms(), tell=tell)
    tell(f"{counted(len(questions), 'question')} to {base.name} and {tuned.name}")
    return evaluate(
        session,
        questions,
        base,
        tuned,
        primary=metric,
        concurrency=concurrency,
        sampling=sampling,
        judge=arbiter,
        answered=answered,
        progress=progress,
    )


def hold_gate(found: Evaluation, gate: Gate | None, *, hint: str | None = None) -> None:
    """Do nothing if the tuned model is what the gate asks for. Raises GateFailedError."""
    if gate is not None and found.outcome not in _OPEN[gate]:
        figures, count = found.decisive, counted(len(found.pairs), "question")
        said = f" on {count} is {figures.tuned:.4g}, the base's {figures.base:.4g}" if figures else ""
        raise GateFailedError(f"the gate asks for {gate}; {found.primary}{said}: {found.outcome}", hint=hint)


def find_judge(session: Session, name: str) -> Respondent:
    """Return the judge of that name. Raises NotFoundError, ConfigurationError."""
    managed = "/" in name and not name.startswith("projects/")
    return respondent(session, name, name if managed else None)


def agree_to_judge(
    judge: Respondent,
    questions: Sequence[Question],
    *,
    price: float | None,
    terms: Terms,
    tell: Callable[[str], None],
) -> None:
    """Tell what the judge will be asked and cost. Raises CostRefusedError."""
    requests = 2 * len(questions)
    if judge.endpoint is not None:
        hourly = describe(judge.endpoint).usd_per_hour
        billed = f"{amount(hourly)} per hour, with or without requests" if hourly else "an unknown hourly price"
        tell(f"judge: up to {requests} requests to {judge.name}, which costs {billed}")
        return
    tokens = estimate_tokens(questions)
    what = f"the judge {judge.name}, up to {requests} requests of about {tokens:,} tokens together"
    usd = None if price is None else tokens * price / 1e6
    if usd is None and not terms.accept_unknown:
        option = "--judge-price USD" if terms.yes_name else "judge_price"
        raise CostRefusedError(
            f"no price is published for {what}",
            hint=f"give the price per million tokens with {option}, or continue with {terms.unknown_name}",
        )
    terms.require(Price(what=what, usd=usd))


def estimate_tokens(questions: Sequence[Question]) -> int:
    """Return about how many tokens a judge reads and writes: answers as long as the references, replies at their most.

    Pictures are not shown to it.
    """
    characters = sum(len(one.text) + 3 * len(one.reference) for one in questions)
    return round(2 * (characters / _CHARACTERS_A_TOKEN + len(questions) * (_FRAME_TOKENS + REPLY_TOKENS)))
