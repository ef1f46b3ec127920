"""Endpoints: their models, metrics and costs; traffic, leases, and undeployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from runner.console import following
from runner.console.changes import Change
from runner.console.state import Console, text, whole
from runner.console.views.deploy import LEASES
from runner.errors import ConfigurationError, GoogleApiError, require_sound
from runner.formatting import duration, seconds_of
from runner.gcp import endpoints as resources
from runner.gcp import usage
from runner.gcp.endpoints import DeployedModel, Endpoint, bare_name
from runner.gcp.usage import ServingFigures
from runner.prices import amount
from runner.serving import deployment, leases
from runner.serving import traffic as sharing
from runner.serving.labels import made_here
from runner.serving.leases import Lease, lease_of
from runner.serving.listing import ListedEndpoint, describe
from runner.serving.plan import hourly_total

_WINDOW_SECONDS = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One deployed model."""

    model: DeployedModel
    share: int
    lease: Lease
    usd_per_hour: float | None
    spent: float | None
    """The cost of all models of the endpoint this month."""
    asked: float | None
    """The last request, in seconds since 1970; None if there was none, or it is unknown."""
    figures: ServingFigures
    ending: str
    """What ends it."""


def page(console: Console, request: Request) -> Response:
    """Show all endpoints."""
    reading = following.endpoints(console)
    query = request.query_params.get("q", "").lower().strip()
    everything = request.query_params.get("all") == "1"
    shown = [item for item in reading.value if (everything or item.ours or item.billed) and _fits(item, query)]
    labels = following.model_labels(console)
    asked = following.last_asked(console)
    spent = following.spent(console)
    rows = [
        (
            item,
            [
                _served(console, item.endpoint, model, labels, asked, spent, {})
                for model in item.endpoint.deployed_models
            ],
        )
        for item in shown[:100]
    ]
    return console.pages.answer(
        request,
        "endpoints/list.html",
        part="endpoints/parts/list.html",
        rows=rows,
        total=len(shown),
        hidden=len(reading.value) - len(shown),
        q=query,
        everything=everything,
        default=console.session.environment.default_endpoint,
        problem=reading.problem,
        seen=reading.seen,
        every=4,
    )


def _fits(item: ListedEndpoint, query: str) -> bool:
    names = [
        item.endpoint.id,
        item.endpoint.display_name,
        *(model.display_name for model in item.endpoint.deployed_models),
    ]
    return query in " ".join(names).lower()


def one(console: Console, request: Request) -> Response:
    """Show one endpoint."""
    endpoint = following.endpoint_named(console, request.path_params["id"])
    labels = following.model_labels(console)
    spent = following.spent(console)

    def load() -> dict[str, ServingFigures] | None:
        try:
            return usage.serving_figures(console.session, endpoint.id, console.session.now() - _WINDOW_SECONDS)
        except GoogleApiError:
            return None

    figures = console.observer.read(("figures", endpoint.id), load, keep=5.0).value
    asked = following.last_asked(console)
    served = [
        _served(console, endpoint, model, labels, asked, spent, figures or {}) for model in endpoint.deployed_models
    ]
    listed = describe(endpoint)
    return console.pages.answer(
        request,
        "endpoints/one.html",
        part="endpoints/parts/one.html",
        endpoint=endpoint,
        listed=listed,
        served=served,
        measured=figures is not None,
        made_here=made_here(endpoint),
        every=4,
    )


def _served(
    console: Console,
    endpoint: Endpoint,
    model: DeployedModel,
    labels: dict[str, dict[str, str]],
    asked: dict[tuple[str, str], float] | None,
    spent: dict[str, float | None],
    figures: dict[str, ServingFigures],
) -> Served:
    lease = lease_of(endpoint, model, labels.get(bare_name(model.model), {}))
    now = console.session.now()
    last = (asked or {}).get((endpoint.id, model.id))
    return Served(
        model=model,
        share=endpoint.traffic.get(model.id, 0),
        lease=lease,
        ending=leases.ending(console.session.environment, lease, endpoint.id, now=now),
        usd_per_hour=hourly_total([model]),
        spent=spent.get(endpoint.id),
        asked=None if last is None else min(last, now),  # identified by the end of a minute
        figures=figures.get(model.id, ServingFigures()),
    )


def ask_traffic(console: Console, request: Request, given: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Ask for the traffic split."""
    endpoint = following.endpoint_named(console, request.path_params["id"])
    return console.pages.answer(
        request,
        "endpoints/traffic.html",
        endpoint=endpoint,
        shares={
            item.id: given.get(f"share:{item.id}", endpoint.traffic.get(item.id, 0))
            for item in endpoint.deployed_models
        },
        error=error,
        once=console.changes.token(request.url.path),
    )


def traffic(console: Console, request: Request, form: FormData) -> Response:
    """Set the traffic split."""
    identifier = request.path_params["id"]
    given = {name: str(value) for name, value in form.multi_items() if name.startswith("share:")}
    if chosen := text(form, "all"):
        given = {name: "100" if name == f"share:{chosen}" else "0" for name in given}
    wrong = [value for value in given.values() if whole(value) is None]
    require_sound([f"{value[:20]!r} is not a whole number of percent" for value in wrong])
    shares = {name.removeprefix("share:"): whole(value) or 0 for name, value in given.items()}
    sharing.split_of(following.endpoint_named(console, identifier), shares)

    def work(change: Change) -> str:
        endpoint = resources.get_endpoint(console.session, identifier)
        sharing.set_shares(console.session, endpoint, shares)
        return f"/endpoints/{identifier}"

    return console.change(request, form, "The traffic split was changed", work, back=f"/endpoints/{identifier}/traffic")


def ask_extend(console: Console, request: Request, given: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Ask for the new lease."""
    endpoint = following.endpoint_named(console, request.path_params["id"])
    return console.pages.answer(
        request,
        "endpoints/extend.html",
        endpoint=endpoint,
        listed=describe(endpoint),
        guard_minutes=console.session.environment.idle_guard_minutes,
        leases=LEASES,
        lease=given.get("lease", "8h"),
        error=error,
        once=console.changes.token(request.url.path),
    )


def extend(console: Console, request: Request, form: FormData) -> Response:
    """Extend the lease."""
    identifier = request.path_params["id"]
    given = text(form, "lease")
    seconds = None if given == "none" else seconds_of(given) if given in dict(LEASES) else 0.0
    if seconds == 0.0:
        raise ConfigurationError("no length of the lease was chosen")

    def work(change: Change) -> str:
        leases.extend(console.session, resources.get_endpoint(console.session, identifier), seconds)
        return f"/endpoints/{identifier}"

    until = "has no end" if seconds is None else f"ends in {duration(seconds)}"
    return console.change(request, form, f"The lease {until}", work, back=f"/endpoints/{identifier}")


def ask_undeploy(console: Console, request: Request) -> Response:
    """Ask for confirmation before models are undeployed."""
    endpoint = following.endpoint_named(console, request.path_params["id"])
    only = request.query_params.get("model", "")
    chosen = [model for model in endpoint.deployed_models if only in ("", model.id)]
    if only and not chosen:
        raise ConfigurationError(f"no model {only[:80]!r} is deployed here any more; nothing was changed")
    price = describe(endpoint).usd_per_hour
    whole = made_here(endpoint) and len(chosen) == len(endpoint.deployed_models)
    saved = f"This ends {amount(price)} per hour." if price and not only else "This ends the billing of its machine."
    facts = [("Endpoint", endpoint.display_name or endpoint.id)]
    facts += [("Model", model.display_name or model.id) for model in chosen]
    facts.append(("Endpoint itself", "is deleted too: this tool made it" if whole else "stays"))
    return console.confirmation(
        request,
        title=f"Undeploy {endpoint.display_name or endpoint.id}?",
        button="Undeploy",
        back=f"/endpoints/{endpoint.id}",
        price=f"{saved} The weights stay in Cloud Storage.",
        facts=facts,
        fields={"model": only, "delete": "1" if whole else ""},
        danger=True,
    )


def undeploy(console: Console, request: Request, form: FormData) -> Response:
    """Undeploy models."""
    identifier = request.path_params["id"]
    delete = text(form, "delete") == "1"

    def work(change: Change) -> str:
        deployment.undeploy(
            console.session, identifier, delete=delete, only=text(form, "model") or None, progress=change.tell
        )
        return "/endpoints" if delete else f"/endpoints/{identifier}"

    return console.change(request, form, f"{identifier} was undeployed", work, back=f"/endpoints/{identifier}")
