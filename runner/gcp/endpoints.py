"""Endpoints, models and deployments, with the REST API (docs/decisions/0002-clients.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner import addresses
from runner.catalog.models import MachineChoice
from runner.environment import Environment
from runner.gcp.failures import about, data_loss
from runner.gcp.session import Session

PAGE = {"pageSize": "100"}
_OPERATION = re.compile(r"projects/[\w.:-]+/locations/[\w-]+/([\w-]+/[\w-]+/)*operations/[\w-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedModel:
    """A model on an endpoint."""

    id: str
    model: str
    """Full name of the Model resource."""
    display_name: str = ""
    machine: MachineChoice | None = None
    replicas: int = 0
    """Maximum number of replicas, each at the machine's price."""
    create_time: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    """System labels, which `:deploy` sets; endpoints that it creates have no labels of their own at first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """An endpoint."""

    name: str
    """`projects/P/locations/L/endpoints/ID`."""
    id: str
    display_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    deployed_models: tuple[DeployedModel, ...] = ()
    traffic: dict[str, int] = field(default_factory=dict)
    """Percent by deployed model ID."""
    dedicated_dns: str = ""
    """Host for predictions if the shared host does not serve them; "" for shared endpoints."""
    create_time: str = ""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "name": self.name,
            "id": self.id,
            "displayName": self.display_name,
            "labels": self.labels,
            "createTime": self.create_time,
            "dedicatedDns": self.dedicated_dns,
            "deployedModels": [
                {
                    "id": item.id,
                    "model": item.model,
                    "displayName": item.display_name,
                    "machineType": item.machine.machine_type if item.machine else None,
                    "acceleratorType": item.machine.accelerator_type if item.machine else None,
                    "acceleratorCount": item.machine.accelerator_count if item.machine else None,
                    "replicas": item.replicas,
                    "createTime": item.create_time,
                }
                for item in self.deployed_models
            ],
            "traffic": self.traffic,
        }


def full_name(session: Session, name_or_id: str) -> str:
    """Return `projects/P/locations/L/endpoints/ID` for an id or a full name."""
    return session.environment.name_of("endpoints", name_or_id)


def own_base(environment: Environment, endpoint: Endpoint) -> str:
    """Return the base address of a dedicated endpoint; "" for an endpoint at the shared host.

    Raises:
        GoogleApiError: its host is neither a host of Google for endpoints, nor on this machine if Vertex AI is.
            Requests there contain a token.
    """
    host, base = endpoint.dedicated_dns, environment.vertex_base
    if not host:
        return ""
    location = endpoint.name.split("/")[3:4]
    own = host.startswith(f"{endpoint.id}.{''.join(location)}-") or ".prediction." not in host
    if not own or not addresses.is_of_endpoint("https", host, of=base):
        problem = f"the answer names {host[:200]!r}, which isn't the host of a dedicated endpoint with this name"
        raise data_loss(endpoint.name, problem, method="endpoints.get")
    return f"https://{host}"


def bare_name(name: str) -> str:
    """Return a name without its project, which the service writes as a number, and without a version."""
    return name.split("/locations/")[-1].split("@", 1)[0]


def list_endpoints(session: Session, filter: str = "") -> list[Endpoint]:
    """Return all endpoints of the location; `filter` uses the API's filter language."""
    path = f"/v1beta1/{session.environment.parent}/endpoints"
    return [_endpoint(item) for item in session.pages(path, "endpoints", "endpoints.list", {**PAGE, "filter": filter})]


def get_endpoint(session: Session, name_or_id: str) -> Endpoint:
    """Return an endpoint by id or full name. Raises NotFoundError."""
    name = full_name(session, name_or_id)
    return _endpoint(about(session.ask("GET", f"/v1beta1/{name}", "endpoints.get", name), name, "endpoints.get"))


def get_model(session: Session, name: str) -> dict[str, Any]:
    """Return the document of a Model resource. Raises NotFoundError."""
    return about(session.ask("GET", f"/v1beta1/{name}", "models.get", name), name, "models.get")


def set_labels(session: Session, name: str, labels: Mapping[str, str]) -> Endpoint:
    """Replace the labels of an endpoint."""
    return _endpoint(patch(session, "endpoints.patch", name, "labels", labels))


def set_model_labels(session: Session, name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """Replace the labels of a Model resource and return its document."""
    return patch(session, "models.patch", name, "labels", labels)


def patch(session: Session, method: str, name: str, field: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """Replace one field of a resource and return its document."""
    url, params = f"/v1beta1/{name}", {"updateMask": field}
    body = {field: dict(value)}
    return about(session.ask("PATCH", url, method, name, params=params, json=body, idempotent=True), name, method)


def recommend_machines(session: Session, gcs_uri: str) -> list[MachineChoice]:
    """Return the machines that the service recommends for the weights in a folder, best first."""
    url = f"/v1beta1/{session.environment.parent}:recommendSpec"
    body = {"gcsUri": gcs_uri, "checkMachineAvailability": True}
    answer = session.ask("POST", url, "recommendSpec", gcs_uri, json=body, idempotent=True)
    specs = [item.get("spec") or {} for item in answer.get("recommendations", [])] or answer.get("specs", [])
    found = [_machine(spec.get("machineSpec")) for spec in specs]
    return [machine for machine in found if machine is not None]


def deploy_custom_model(
    session: Session,
    gcs_uri: str,
    *,
    display_name: str,
    machine: MachineChoice | None = None,
    labels: Mapping[str, str] | None = None,
    endpoint_id: str | None = None,
    model_id: str | None = None,
    resources: Mapping[str, Any] | None = None,
    affinity: Mapping[str, Any] | None = None,
    endpoint_config: Mapping[str, Any] | None = None,
) -> str:
    """Deploy weights to a new endpoint through Model Garden and return the operation's name. Sent only once.

    Args:
        session: the project and location.
        gcs_uri: folder of the weights.
        display_name: display name of the endpoint and of the model.
        machine: None lets the service choose.
        labels: written as system labels of the deployment.
        endpoint_id: ID of the new endpoint, chosen before, so that it can be found after a lost response.
        model_id: ID of the new model, also chosen before.
        resources: the API's DedicatedResources without the machine; None is one replica.
        affinity: the API's ReservationAffinity of the machine.
        endpoint_config: further fields of the API's EndpointConfig.
    """
    deployment: dict[str, Any] = {"dedicatedResources": _dedicated(machine, resources, affinity)}
    if labels:
        deployment["systemLabels"] = dict(labels)
    endpoint: dict[str, Any] = {"endpointDisplayName": display_name, **(endpoint_config or {})}
    if endpoint_id:
        endpoint["endpointUserId"] = endpoint_id
    model: dict[str, Any] = {"modelDisplayName": display_name}
    if model_id:
        model["modelUserId"] = model_id
    body = {
        "customModel": {"gcsUri": gcs_uri},
        "modelConfig": model,
        "endpointConfig": endpoint,
        "deployConfig": deployment,
    }
    return _operation(session, "modelGarden.deploy", f"{session.environment.parent}:deploy", body)


def upload_model(
    session: Session,
    *,
    display_name: str,
    gcs_uri: str,
    container: Mapping[str, Any],
    labels: Mapping[str, str] | None = None,
    model_id: str | None = None,
) -> str:
    """Register weights as a Model resource and return the operation's name. Sent only once.

    Args:
        session: the project and location.
        display_name: display name of the model.
        gcs_uri: folder of the weights.
        container: the API's `containerSpec`: image, arguments, routes and ports of the serving container.
        labels: labels of the Model resource.
        model_id: chosen before, so that the model can be found after a lost response.
    """
    parent = session.environment.parent
    model: dict[str, Any] = {
        "displayName": display_name,
        "artifactUri": gcs_uri,
        "containerSpec": dict(container),
    }
    if labels:
        model["labels"] = dict(labels)
    body: dict[str, Any] = {"model": model}
    if model_id:
        body["modelId"] = model_id
    return _operation(session, "models.upload", f"{parent}/models:upload", body)


def deploy_model(
    session: Session,
    endpoint: str,
    model: str,
    machine: MachineChoice,
    *,
    display_name: str = "",
    deployed_model_id: str | None = None,
    system_labels: Mapping[str, str] | None = None,
    traffic: Mapping[str, int] | None = None,
    resources: Mapping[str, Any] | None = None,
    affinity: Mapping[str, Any] | None = None,
) -> str:
    """Deploy a Model resource to an existing endpoint and return the operation's name. Sent only once.

    `traffic` is percent by deployed model ID, where "0" stands for the model of this request. {} leaves the endpoint's
    traffic unchanged, so that the new model gets none; None gives it all traffic. `resources` and `affinity` are those
    of `deploy_custom_model`.
    """
    deployed: dict[str, Any] = {
        "model": model,
        "displayName": display_name,
        "dedicatedResources": _dedicated(machine, resources, affinity),
    }
    if deployed_model_id:
        deployed["id"] = deployed_model_id
    if system_labels:
        deployed["systemLabels"] = dict(system_labels)
    split = {"0": 100} if traffic is None else dict(traffic)
    body = {"deployedModel": deployed, **({"trafficSplit": split} if split else {})}
    return _operation(session, "endpoints.deployModel", f"{full_name(session, endpoint)}:deployModel", body)


def undeploy_model(
    session: Session, endpoint: str, deployed_model_id: str, *, traffic: Mapping[str, int] | None = None
) -> str:
    """Undeploy a model from an endpoint and return the operation's name; this ends the billing of its machine.

    `traffic` is percent by ID of the remaining models; it is required if the model still gets traffic.
    """
    name = full_name(session, endpoint)
    body: dict[str, Any] = {"deployedModelId": deployed_model_id}
    if traffic:
        body["trafficSplit"] = dict(traffic)
    return _operation(session, "endpoints.undeployModel", f"{name}:undeployModel", body)


def delete_endpoint(session: Session, endpoint: str) -> str:
    """Delete an empty endpoint and return the operation's name. Raises NotFoundError."""
    return _delete(session, "endpoints.delete", full_name(session, endpoint))


def delete_model(session: Session, model: str) -> str:
    """Delete a Model resource that is not deployed and return the operation's name. Raises NotFoundError."""
    return _delete(session, "models.delete", model.split("@", 1)[0])


def _operation(session: Session, method: str, path: str, body: Mapping[str, Any]) -> str:
    return _name(session.ask("POST", f"/v1beta1/{path}", method, path, json=dict(body)), method, path)


def _delete(session: Session, method: str, name: str) -> str:
    return _name(session.ask("DELETE", f"/v1beta1/{name}", method, name), method, name)


def _name(operation: Mapping[str, Any], method: str, resource: str) -> str:
    name = str(operation.get("name", ""))
    if not _OPERATION.fullmatch(name):
        raise data_loss(resource, "the answer does not name the operation", method=method)
    return name


def _dedicated(
    machine: MachineChoice | None, resources: Mapping[str, Any] | None, affinity: Mapping[str, Any] | None
) -> dict[str, Any]:
    body = dict(resources or {"minReplicaCount": 1, "maxReplicaCount": 1})
    spec = {
        **(_machine_spec(machine) if machine else {}),
        **({"reservationAffinity": dict(affinity)} if affinity else {}),
    }
    return {**({"machineSpec": spec} if spec else {}), **body}


def _machine_spec(machine: MachineChoice) -> dict[str, Any]:
    return {
        "machineType": machine.machine_type,
        "acceleratorType": machine.accelerator_type,
        "acceleratorCount": machine.accelerator_count,
    }


def _machine(spec: Mapping[str, Any] | None) -> MachineChoice | None:
    if not spec or not spec.get("machineType"):
        return None
    return MachineChoice(
        machine_type=str(spec["machineType"]),
        accelerator_type=str(spec.get("acceleratorType", "")),
        accelerator_count=int(spec.get("acceleratorCount", 0)),
    )


def _endpoint(document: Mapping[str, Any]) -> Endpoint:
    name = str(document.get("name", ""))
    dedicated = document.get("dedicatedEndpointEnabled")
    return Endpoint(
        name=name,
        id=name.rsplit("/", 1)[-1],
        display_name=str(document.get("displayName", "")),
        labels=dict(document.get("labels") or {}),
        deployed_models=tuple(_deployed(item) for item in document.get("deployedModels") or []),
        traffic={str(key): int(value) for key, value in (document.get("trafficSplit") or {}).items()},
        dedicated_dns=str(document.get("dedicatedEndpointDns") or "") if dedicated else "",
        create_time=str(document.get("createTime", "")),
        raw=dict(document),
    )


def _deployed(item: Mapping[str, Any]) -> DeployedModel:
    resources = item.get("dedicatedResources") or {}
    return DeployedModel(
        id=str(item.get("id", "")),
        model=str(item.get("model", "")),
        display_name=str(item.get("displayName", "")),
        machine=_machine(resources.get("machineSpec")),
        replicas=int(resources.get("maxReplicaCount") or resources.get("minReplicaCount") or 0),
        create_time=str(item.get("createTime", "")),
        labels=dict(item.get("systemLabels") or {}),
    )
