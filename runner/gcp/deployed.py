"""Further requests about endpoints and models: lists, traffic, running operations, and one of several models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.errors import NotFoundError
from runner.gcp import endpoints
from runner.gcp.endpoints import PAGE, Endpoint
from runner.gcp.session import Session


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelResource:
    """A model in the registry."""

    name: str
    """`projects/P/locations/L/models/ID`."""
    id: str
    display_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    create_time: str = ""
    document: dict[str, Any] = field(default_factory=dict, repr=False)


def list_models(session: Session) -> list[ModelResource]:
    """Return the models of the location, each in its default version."""
    found = session.pages(f"/v1beta1/{session.environment.parent}/models", "models", "models.list", PAGE)
    return [model_of(item) for item in found]


def model_of(document: Mapping[str, Any]) -> ModelResource:
    """Return the model that a document describes."""
    name = str(document.get("name", "")).split("@", 1)[0]
    return ModelResource(
        name=name,
        id=name.rsplit("/", 1)[-1],
        display_name=str(document.get("displayName", "")),
        labels=dict(document.get("labels") or {}),
        create_time=str(document.get("createTime", "")),
        document=dict(document),
    )


def endpoint_there(session: Session, name: str) -> Endpoint | None:
    """Return an endpoint; None if it exists neither by name nor in the list, because a 404 alone proves nothing.

    A resource that is wrongly considered deleted costs money unnoticed; callers that remove a record therefore use this
    function.
    """
    try:
        return endpoints.get_endpoint(session, name)
    except NotFoundError:
        every = endpoints.list_endpoints(session)
        return next((item for item in every if endpoints.bare_name(item.name) == endpoints.bare_name(name)), None)


def model_there(session: Session, name: str) -> ModelResource | None:
    """Return a model; None if it exists neither by name nor in the list; see `endpoint_there`."""
    try:
        return model_of(endpoints.get_model(session, name))
    except NotFoundError:
        every = list_models(session)
        return next((item for item in every if endpoints.bare_name(item.name) == endpoints.bare_name(name)), None)


def list_versions(session: Session, model: str) -> list[dict[str, Any]]:
    """Return the documents of all versions of a model. Raises NotFoundError."""
    return list(session.pages(f"/v1beta1/{model}:listVersions", "models", "models.listVersions", PAGE))


def set_traffic(session: Session, endpoint: str, traffic: Mapping[str, int]) -> Endpoint:
    """Replace an endpoint's traffic split: percent by deployed model ID, with a sum of 100; {} sends it no traffic."""
    name = endpoints.full_name(session, endpoint)
    endpoints.patch(session, "endpoints.patch", name, "trafficSplit", traffic)
    return endpoints.get_endpoint(session, name)


def unfinished_operations(session: Session, endpoint: str) -> list[str]:
    """Return the names of the running operations of an endpoint. Raises NotFoundError."""
    name = endpoints.full_name(session, endpoint)
    page = session.ask("GET", f"/v1beta1/{name}/operations", "operations.list", name)
    return [str(item.get("name")) for item in page.get("operations", []) if not item.get("done")]


def ask_deployed_model(
    session: Session, endpoint: Endpoint, deployed_model: str, messages: Sequence[Mapping[str, Any]], **sampling: Any
) -> dict[str, Any]:
    """Send a request to one deployed model, regardless of its traffic, and return the response in OpenAI's format.

    Google supports this only for dedicated endpoints.

    Raises:
        GoogleApiError: the endpoint does not support it, or the model failed.
    """
    base = endpoints.own_base(session.environment, endpoint)
    url = f"{base}/v1beta1/{endpoint.name}/deployedModels/{deployed_model}/invoke/v1/chat/completions"
    body = {"model": "", "messages": [dict(item) for item in messages]}
    body |= {key: value for key, value in sampling.items() if value is not None}
    return session.ask("POST", url, "deployedModels.invoke", endpoint.name, json=body, timeout=600.0, idempotent=True)
