"""Compare a tuned model with its base: select the models, show the price, and evaluate the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from runner.errors import CostRefusedError, GateFailedError, Problem, require_sound
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.prices import Price, Terms, amount, require_dollars
from runner.serving.contest import evaluate, with_defaults
from runner.serving.evaluation import Evaluation, Question
from runner.serving.judging import REPLY_TOKENS
from runner.serving.listing import describe
from runner.serving.questions import read_questions
from runner.serving.respondents import Respondent, respondent
from runner.waiting import silent
from runner.wording import counted

Gate = Literal["better", "not-worse"]
BASE_HINT = "run `runner eval FILE --base-endpoint ID`, or use `--base-model PUBLISHER/MODEL` for a managed model"
_OPEN: dict[str, frozenset[str]] = {
    "better": frozenset({"better"}),
    "not-worse": frozenset({"better", "no difference"}),
}
_CHARACTERS_A_TOKEN = 3.5
"""Characters per token of English text; overestimates the price for most tokenizers."""
_FRAME_TOKENS = 150
"""Tokens of the instructions and tags in one request."""


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
    """Send every held-out question of a dataset to a tuned model and its base, and compare their answers.

    Args:
        session: the project and location.
        dataset: examples that end with an answer.
        endpoint: the endpoint of the tuned model; see `resolve_endpoint`.
        model: a model that Google manages, instead of an endpoint.
        base_endpoint: an endpoint to compare with, or
        base_model: a model to compare with that Google manages.
        limit: use only the first examples.
        metric: the deciding metric; one of `evaluation.DECIDERS`.
        slice_by: key of the examples by which results are also grouped.
        concurrency: number of concurrent questions.
        sampling: see `evaluate`.
        judge: an endpoint, or `PUBLISHER/MODEL` that Google manages, which also compares the answers.
        judge_price: US dollars for a million tokens of a managed judge.
        engine: with `vertex`, batch prediction jobs answer; endpoints can then also be tuning jobs and models, see
            `batches.predictors.predictor`.
        replicas: machines of each batch job.
        rate: measured tokens per second of one machine.
        machine_type: machine type of batch jobs; None selects that of each model.
        terms: determines the approval for a managed judge and for all batch jobs together; None approves nothing.
        tell: called with each notice before the questions are sent.
        progress: see `evaluate`.

    Raises:
        ConfigurationError: the arguments contradict each other, or the metric cannot be measured.
        DatasetError: the dataset has errors.
        NotFoundError: the endpoint does not exist.
        CostRefusedError: the judge's price was not approved; no question was sent.
        GoogleApiError, UnreachableError: a model does not answer.
    """
    require_sound(
        mistakes(endpoint, model, base_endpoint, base_model, engine),
        hint=BASE_HINT,
    )
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


def mistakes(
    endpoint: str | Endpoint | None,
    model: str | None,
    base_endpoint: str | Endpoint | None,
    base_model: str | None,
    engine: str = "endpoint",
) -> list[str]:
    """Return contradictory arguments of `compare`."""
    problems = []
    if (base_endpoint is None) == (base_model is None):
        problems.append("give a base endpoint or a base model to compare with")
    if endpoint is not None and model is not None:
        problems.append("give either an endpoint or a model")
    if engine == "vertex" and (model is not None or base_model is not None):
        problems.append(
            "a Google-managed model has no batch prediction job here: give a tuning job, a model or an endpoint"
        )
    return problems


def hold_gate(found: Evaluation, gate: Gate | None, *, hint: str | None = None) -> None:
    """Return normally if the tuned model meets the gate. Raises GateFailedError."""
    if gate is not None and found.outcome not in _OPEN[gate]:
        figures, count = found.decisive, counted(len(found.pairs), "question")
        said = f" on {count} is {figures.tuned:.4g}, the base's {figures.base:.4g}" if figures else ""
        raise GateFailedError(f"the gate asks for {gate}; {found.primary}{said}: {found.outcome}", hint=hint)


def find_judge(session: Session, name: str) -> Respondent:
    """Return the judge with this name. Raises NotFoundError, ConfigurationError."""
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
    """Report the number of questions and the price of the judge. Raises CostRefusedError, ConfigurationError."""
    require_dollars(price, "judge_price")
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
        raise CostRefusedError(
            Problem(f"no price is published for {what}", "judge_price"),
            hint=f"give the price per million tokens, or continue with {terms.unknown_name}",
        )
    terms.require(Price(what=what, usd=usd))


def estimate_tokens(questions: Sequence[Question]) -> int:
    """Return the approximate number of tokens that a judge reads and writes, with answers as long as the references.

    The judge gets no images. Its replies count with their maximum length.
    """
    characters = sum(len(one.text) + 3 * len(one.reference) for one in questions)
    return round(2 * (characters / _CHARACTERS_A_TOKEN + len(questions) * (_FRAME_TOKENS + REPLY_TOKENS)))
