"""The traffic of several models on one endpoint, and canaries that lose their traffic if they perform badly."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import CanaryFailedError, ConfigurationError
from runner.gcp import deployed, endpoints
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.session import Session
from runner.gcp.usage import ServingFigures, serving_figures
from runner.serving.deployment import undeploy
from runner.serving.recovery import is_ours
from runner.serving.shares import with_share

MINIMUM_REQUESTS = 20
"""Minimum number of answers of a model for an evaluation of its rates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryLimits:
    """The limits of a canary."""

    error_rate: float = 0.05
    """Errors per answer, above the other models' rate."""
    latency_ratio: float = 2.0
    """Mean response time, as a multiple of the other models'."""
    minimum: int = MINIMUM_REQUESTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result for a canary."""

    state: str
    """`waiting` for enough answers, `well` or `badly`."""
    reason: str
    canary: ServingFigures
    others: ServingFigures

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "state": self.state,
            "reason": self.reason,
            "canary": _figures(self.canary),
            "others": _figures(self.others),
        }


def find_model(endpoint: Endpoint, wanted: str) -> DeployedModel:
    """Return a model of an endpoint by deployed model ID, display name, or `newest`. Raises ConfigurationError."""
    if wanted == "newest" and endpoint.deployed_models:
        return newest(endpoint)
    found = [
        item for item in endpoint.deployed_models if wanted in {item.id, item.model, item.model.rsplit("/", 1)[-1]}
    ]
    found = found or [item for item in endpoint.deployed_models if item.display_name == wanted]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{item.id} ({item.display_name})" for item in endpoint.deployed_models) or "none"
    what = f"{len(found)} models called {wanted!r}" if found else f"no model {wanted!r}"
    raise ConfigurationError(f"endpoint {endpoint.id} has {what}; there: {there}", hint="name one by its ID")


def newest(endpoint: Endpoint) -> DeployedModel:
    """Return the model that was deployed last."""
    return max(endpoint.deployed_models, key=lambda item: (item.create_time, item.id))


def split_of(endpoint: Endpoint, shares: Mapping[str, int]) -> dict[str, int]:
    """Return the traffic of each model in percent; if one model is omitted or given alone, the rest is added.

    Raises:
        ConfigurationError: the model does not exist, or the sum of the shares is wrong.
    """
    split = {find_model(endpoint, name).id: share for name, share in shares.items()}
    missing = [item.id for item in endpoint.deployed_models if item.id not in split]
    rest = 100 - sum(split.values())
    if len(split) == 1 and missing:
        [(model, share)] = split.items()
        split = with_share(endpoint.traffic, model, share)
    elif len(missing) == 1 and rest >= 0:
        split[missing[0]] = rest
    if sum(split.values()) != 100 or any(share < 0 for share in split.values()):
        raise ConfigurationError(f"the shares add up to {sum(split.values())} percent, not 100")
    return split


def set_shares(session: Session, endpoint: Endpoint, shares: Mapping[str, int]) -> Endpoint:
    """Set the split of `split_of`. Raises ConfigurationError."""
    return deployed.set_traffic(session, endpoint.name, split_of(endpoint, shares))


def promote(
    session: Session, endpoint: Endpoint, model: str, *, keep: bool, progress: Callable[[str], None] | None = None
) -> Endpoint:
    """Give a model all of the traffic, and undeploy this tool's other models from the endpoint unless `keep` is set."""
    chosen = find_model(endpoint, model)
    now = deployed.set_traffic(session, endpoint.name, {chosen.id: 100})
    if not keep:
        for item in now.deployed_models:
            if item.id != chosen.id and is_ours(session, now, item):
                undeploy(session, now.name, only=item.id, progress=progress)
    return endpoints.get_endpoint(session, endpoint.name)


def rollback(
    session: Session,
    endpoint: Endpoint,
    model: str = "newest",
    *,
    remove: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Endpoint:
    """Give the traffic of a model to the others in their previous ratio; `remove` also undeploys it.

    If the others have no traffic, the one that was deployed last before it gets all.

    Raises:
        ConfigurationError: there is no other model, or this model does not exist.
    """
    bad = find_model(endpoint, model)
    others = [item for item in endpoint.deployed_models if item.id != bad.id]
    if not others:
        message = f"endpoint {endpoint.id} has no other model to send the traffic to"
        raise ConfigurationError(message, hint="`runner endpoints undeploy` undeploys the model")
    split = with_share(endpoint.traffic, bad.id, 0)
    if sum(split.values()) != 100:
        split = {max(others, key=lambda item: (item.create_time, item.id)).id: 100}
    now = deployed.set_traffic(session, endpoint.name, split)
    if remove:
        undeploy(session, now.name, only=bad.id, progress=progress)
        now = endpoints.get_endpoint(session, endpoint.name)
    return now


def judge(figures: Mapping[str, ServingFigures], canary: str, limits: CanaryLimits) -> Verdict:
    """Return the result for one of an endpoint's models from its metrics."""
    own = figures.get(canary, ServingFigures())
    rest = [item for key, item in figures.items() if key != canary]
    asked = sum(item.requests for item in rest)
    timed = [(item.requests, item.seconds) for item in rest if item.seconds is not None]
    weight = sum(number for number, _ in timed)
    others = ServingFigures(
        requests=asked,
        errors=sum(item.errors for item in rest),
        seconds=sum(number * seconds for number, seconds in timed) / weight if weight else None,
    )
    state, reason = "well", "errors and latency are within the limits"
    if own.requests < limits.minimum:
        state, reason = "waiting", f"{own.requests} of {limits.minimum} answers"
    elif own.error_rate > others.error_rate + limits.error_rate:
        state = "badly"
        reason = f"{own.error_rate:.1%} of its answers are errors, {others.error_rate:.1%} of the others'"
    elif own.seconds is not None and others.seconds and others.requests >= limits.minimum:
        ratio = own.seconds / others.seconds
        if ratio > limits.latency_ratio:
            state = "badly"
            reason = f"it takes {own.seconds:.2f} s per answer, {ratio:.1f} times as long as the others"
    return Verdict(state=state, reason=reason, canary=own, others=others)


def watch_canary(
    session: Session,
    endpoint: Endpoint,
    canary: DeployedModel,
    limits: CanaryLimits,
    *,
    duration: float,
    poll: float = 15.0,
    since: float | None = None,
    report: Callable[[Verdict], None] | None = None,
) -> Verdict:
    """Watch a canary for `duration` seconds; remove its traffic as soon as it performs badly.

    Args:
        session: the project and location.
        endpoint: the endpoint with its traffic split.
        canary: the canary.
        limits: the limits of the canary.
        duration: seconds.
        poll: seconds between two polls.
        since: time from which requests count, in seconds since 1970; None is now.
        report: called with every result.

    Returns:
        The last verdict, `well` or `waiting`.

    Raises:
        CanaryFailedError: it performed badly and no longer has traffic.
        GoogleApiError: the metrics cannot be read; the traffic stays unchanged.
    """
    start = session.now() if since is None else since
    deadline = time.monotonic() + duration
    while True:
        verdict = judge(serving_figures(session, endpoint.id, start), canary.id, limits)
        if report:
            report(verdict)
        if verdict.state == "badly":
            rollback(session, endpoints.get_endpoint(session, endpoint.name), canary.id)
            raise CanaryFailedError(
                f"the canary {canary.display_name or canary.id} lost its traffic: {verdict.reason}",
                hint=f"`runner endpoints undeploy {endpoint.id} --model {canary.id}` ends its billing",
            )
        left = deadline - time.monotonic()
        if left <= 0:
            return verdict
        time.sleep(min(poll, left))


def _figures(figures: ServingFigures) -> dict[str, Any]:
    return {"requests": figures.requests, "errors": figures.errors, "meanSeconds": figures.seconds}
