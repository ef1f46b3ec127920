"""Compare the answers of a tuned model and its base."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Literal

from runner.api.connection import current
from runner.api.serving import Endpoint
from runner.gcp.session import Session
from runner.prices import Terms
from runner.serving import comparing
from runner.serving.comparing import Gate
from runner.serving.evaluation import Evaluation


def evaluate(
    dataset: str | PathLike[str],
    *,
    endpoint: Endpoint | str | None = None,
    model: str | None = None,
    base_endpoint: Endpoint | str | None = None,
    base_model: str | None = None,
    limit: int | None = None,
    metric: str = "chrF",
    slice_by: str | None = None,
    concurrency: int = 4,
    gate: Gate | None = None,
    judge: str | None = None,
    judge_price: float | None = None,
    engine: Literal["endpoint", "vertex"] = "endpoint",
    replicas: int = 1,
    max_cost: float | None = None,
    accept_unknown_cost: bool = False,
    session: Session | None = None,
    **sampling: Any,
) -> Evaluation:
    """Ask a tuned model and its base every question of a file that neither has seen, and compare their answers.

    Args:
        dataset: examples that end in an answer.
        endpoint: the tuned model's; see `get_endpoint`.
        model: instead, a model that Google manages.
        base_endpoint: whom to compare with, or
        base_model: a model that Google manages.
        limit: only the first examples.
        metric: what decides: `chrF`, `ROUGE-L`, `exact match`, `token agreement`, `loss` or `judge`.
        slice_by: key of the examples whose values are compared too.
        concurrency: questions asked at once.
        gate: `better` or `not-worse`: raise unless the tuned model is so.
        judge: an endpoint, or a managed model, that compares the answers too.
        judge_price: US dollars for a million tokens of a managed judge.
        engine: `vertex` has batch prediction jobs answer; `endpoint` and `base_endpoint` may be tuning jobs then.
        replicas: machines of each batch prediction job.
        max_cost: US dollars that a managed judge, or all batch prediction jobs together, may cost.
        accept_unknown_cost: ask a managed judge without a known price.
        session: connection; None is the default one.
        sampling: see `Endpoint.chat`; temperature is 0 and an answer has at most 1024 tokens unless given.

    Raises:
        ConfigurationError, DatasetError, NotFoundError: the questions or the models are not there.
        CostRefusedError: the price of the judge or the jobs is not agreed to; nobody was asked.
        GateFailedError: the gate stays shut.
        GoogleApiError, UnreachableError: a model does not answer.
    """
    connection = current(session)
    found = comparing.compare(
        connection,
        Path(dataset),
        endpoint=endpoint.resource if isinstance(endpoint, Endpoint) else endpoint,
        model=model,
        base_endpoint=base_endpoint.resource if isinstance(base_endpoint, Endpoint) else base_endpoint,
        base_model=base_model,
        limit=limit,
        metric=metric,
        slice_by=slice_by,
        concurrency=concurrency,
        sampling=sampling,
        judge=judge,
        judge_price=judge_price,
        engine=engine,
        replicas=replicas,
        terms=Terms(limit=max_cost, accept_unknown=accept_unknown_cost),
    )
    comparing.hold_gate(found, gate)
    return found
