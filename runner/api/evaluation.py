"""Compare the answers of a tuned model and its base."""

from __future__ import annotations

from typing import Any, Literal

from runner.api.boundary import Count, LocalPath, local_path, public
from runner.api.connection import current
from runner.api.serving import Endpoint
from runner.gcp.session import Session
from runner.prices import Terms
from runner.serving import comparing
from runner.serving.comparing import Gate
from runner.serving.evaluation import Evaluation


@public
def evaluate(
    dataset: LocalPath,
    *,
    endpoint: Endpoint | str | None = None,
    model: str | None = None,
    base_endpoint: Endpoint | str | None = None,
    base_model: str | None = None,
    limit: Count | None = None,
    metric: str = "chrF",
    slice_by: str | None = None,
    concurrency: Count = 4,
    gate: Gate | None = None,
    judge: str | None = None,
    judge_price: float | None = None,
    engine: Literal["endpoint", "vertex"] = "endpoint",
    replicas: Count = 1,
    max_cost: float | None = None,
    accept_unknown_cost: bool = False,
    session: Session | None = None,
    **sampling: Any,
) -> Evaluation:
    """Send every question of a file to a tuned model and its base, and compare their answers.

    Args:
        dataset: examples that end with an answer.
        endpoint: endpoint of the tuned model; see `get_endpoint`.
        model: instead, a Google-managed model.
        base_endpoint: endpoint of the base model.
        base_model: instead, a Google-managed base model.
        limit: use only this number of examples.
        metric: metric that decides the verdict: `chrF`, `ROUGE-L`, `exact match`, `token agreement`, `loss` or `judge`.
        slice_by: key of the examples; results are also broken down by its values.
        concurrency: number of concurrent requests.
        gate: `better` or `not-worse`: raise an error if the tuned model is not.
        judge: an endpoint, or a Google-managed model, that also compares the answers.
        judge_price: US dollars per million tokens of a Google-managed judge.
        engine: with `vertex`, batch prediction jobs answer; `endpoint` and `base_endpoint` can then be tuning jobs.
        replicas: machines of each batch prediction job.
        max_cost: limit in US dollars for a Google-managed judge, or for all batch prediction jobs together.
        accept_unknown_cost: use a Google-managed judge without a known price.
        session: connection; None is the default one.
        sampling: see `Endpoint.chat`; by default, temperature is 0 and an answer has at most 1024 tokens.

    Raises:
        ConfigurationError, DatasetError, NotFoundError: the questions or the models do not exist.
        CostRefusedError: the price of the judge or the jobs was not approved; no question was sent.
        GateFailedError: the tuned model does not meet the gate.
        GoogleApiError, UnreachableError: a model does not answer.
    """
    connection = current(session)
    found = comparing.compare(
        connection,
        local_path(dataset),
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
