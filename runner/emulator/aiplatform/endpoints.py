"""Stored endpoints, and the models that are deployed to them.

An endpoint's resource lists a deployed model only when its process is ready. The required processes are in `deployment`
documents, one for each deployed model, which exist from the request on.
"""

from __future__ import annotations

import random
import re
import sqlite3
from collections.abc import Mapping
from typing import Any

from runner.emulator import store, update_mask
from runner.emulator.aiplatform import filters, long_running, machines, models, scope
from runner.emulator.aiplatform.scope import Scope
from runner.emulator.definitions import documents
from runner.emulator.errors import ApiError, already_exists, found_errors, invalid

KIND = models.ENDPOINT_KIND
DEPLOYMENT = "deployment"

_MUTABLE = (
    ["dedicatedResources", "minReplicaCount"],
    ["dedicatedResources", "maxReplicaCount"],
    ["dedicatedResources", "requiredReplicaCount"],
    ["dedicatedResources", "autoscalingMetricSpecs"],
    ["disableContainerLogging"],
    ["enableContainerLogging"],
)
"""Fields that `mutateDeployedModel` can change."""
_ID = re.compile(r"(?:[1-9][0-9]{0,9}|[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?)\Z")


def create(
    connection: sqlite3.Connection, where: Scope, endpoint_id: str, body: dict[str, Any], now: str
) -> dict[str, Any]:
    """Store a new endpoint and return it. Raises ApiError INVALID_ARGUMENT, ALREADY_EXISTS."""
    if endpoint_id and not _ID.match(endpoint_id):
        raise invalid(
            f"Invalid endpoint id '{endpoint_id}': at most 10 digits, the first of them not 0, or at most 63 lowercase "
            "letters, digits and '-' that begin with a letter."
        )
    if not body.get("displayName"):
        raise found_errors("endpoint.display_name", "Required field is not set.")
    if len(body["displayName"]) > 128:
        raise invalid("The display_name must be at most 128 characters long.")
    name = f"{where.name}/endpoints/{endpoint_id or scope.new_id()}"
    if store.find(connection, KIND, name) is not None:
        raise already_exists(f"Endpoint {name} already exists.")
    body = {key: value for key, value in body.items() if key != "trafficSplit"}
    return store.insert(
        connection, KIND, name, {**body, "name": name, "createTime": now, "updateTime": now, "etag": models.etag()}
    )


def name_of(connection: sqlite3.Connection, fields: Mapping[str, str]) -> str:
    """Return the full name of the endpoint in a path. Raises ApiError."""
    return f"{scope.resolve(connection, fields).name}/endpoints/{fields['endpoint']}"


def get(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """Return an endpoint. Raises ApiError NOT_FOUND."""
    return store.get(connection, KIND, name, missing=scope.missing(name))


def list_endpoints(connection: sqlite3.Connection, where: Scope, text: str, order: str) -> list[dict[str, Any]]:
    """Return the endpoints of a location that match. Raises ApiError INVALID_ARGUMENT."""
    matches = filters.compile_filter(text, {*documents.fields("aiplatform.v1beta1", "Endpoint"), "endpoint"})
    found = [endpoint for _, endpoint in store.scan(connection, KIND, f"{where.name}/endpoints/")]
    return filters.ordered([endpoint for endpoint in found if matches(endpoint)], order, "-createTime")


def save(connection: sqlite3.Connection, endpoint: dict[str, Any], now: str) -> dict[str, Any]:
    """Store a changed endpoint with a new etag."""
    changed = {**endpoint, "updateTime": now, "etag": models.etag()}
    return store.put(connection, KIND, endpoint["name"], changed)


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Delete an endpoint. Raises ApiError NOT_FOUND, FAILED_PRECONDITION while it has deployed models."""
    endpoint = get(connection, name)
    pending = next(store.scan(connection, DEPLOYMENT, f"{name}/deployedModels/"), None)
    if endpoint.get("deployedModels") or pending is not None:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"Endpoint {name} cannot be deleted: it has deployed or being-deployed models. Undeploy them first.",
        )
    store.remove(connection, KIND, name)


def check_split(split: dict[str, int], allowed: set[str]) -> None:
    """Check a traffic split. Raises ApiError INVALID_ARGUMENT."""
    if not split:
        return
    unknown = sorted(set(split) - allowed)
    if unknown:
        raise invalid(f"The traffic_split names {unknown[0]}, which is not a deployed model of the endpoint.")
    if any(not 0 <= share <= 100 for share in split.values()) or sum(split.values()) != 100:
        raise invalid("The traffic_split percentages must be between 0 and 100 and add up to 100.")


def add_deployment(
    connection: sqlite3.Connection,
    endpoint: dict[str, Any],
    deployed: dict[str, Any],
    *,
    operation: str,
    source: dict[str, str],
    split: dict[str, int],
    response: dict[str, Any],
    made: tuple[str, ...] = (),
) -> str:
    """Store a new deployment; return its name.

    Args:
        deployed: the complete DeployedModel resource.
        source: `artifactUri` of a checkpoint or `publisherModel` of the catalog; `baseModel` if known.
        split: traffic split to set when it runs; "0" stands for this model.
        response: the operation's response.
        made: endpoint and model that were created only for this deployment, and are deleted if it fails.
    """
    name = f"{endpoint['name']}/deployedModels/{deployed['id']}"
    if store.find(connection, DEPLOYMENT, name) is not None:
        raise already_exists(f"The endpoint already has a deployed model with id {deployed['id']}.")
    body = {
        "endpoint": endpoint["name"],
        "deployedModel": deployed,
        "directory": scope.new_id(),
        "source": source,
        "split": split,
        "operation": operation,
        "response": response,
        "made": list(made),
    }
    store.insert(connection, DEPLOYMENT, name, body)
    return name


def deployed_ok(connection: sqlite3.Connection, name: str, now: str) -> None:
    """Add a ready deployment to its endpoint and finish its operation; repeating this changes nothing."""
    deployment = store.find(connection, DEPLOYMENT, name)
    if deployment is None or not deployment["operation"]:
        return
    endpoint = get(connection, deployment["endpoint"])
    deployed = {**deployment["deployedModel"], "createTime": now}
    endpoint.setdefault("deployedModels", []).append(deployed)
    if deployment["split"]:
        share = {deployed["id"] if key == "0" else key: value for key, value in deployment["split"].items()}
        there = {item["id"] for item in endpoint["deployedModels"]}
        endpoint["trafficSplit"] = {key: value for key, value in share.items() if key in there}
    save(connection, endpoint, now)
    response = dict(deployment["response"])
    if "deployedModel" in response:
        response["deployedModel"] = deployed
    long_running.end(connection, deployment["operation"], now, response=response)
    store.put(connection, DEPLOYMENT, name, {**deployment, "deployedModel": deployed, "operation": ""})


def deployed_badly(connection: sqlite3.Connection, name: str, now: str, error: ApiError) -> None:
    """Give up a deployment that never became ready: end its operation with the error, and delete its resources."""
    deployment = store.find(connection, DEPLOYMENT, name)
    if deployment is None or not deployment["operation"]:
        return
    long_running.end(connection, deployment["operation"], now, error=error)
    store.remove(connection, DEPLOYMENT, name)
    for resource in deployment["made"]:
        kind = KIND if "/endpoints/" in resource else models.KIND
        if store.find(connection, kind, resource) is not None:
            store.remove(connection, kind, resource)


def mutate(
    connection: sqlite3.Connection, endpoint: dict[str, Any], given: dict[str, Any], paths: list[list[str]], now: str
) -> dict[str, Any]:
    """Change the fields of a deployed model in the paths; return it. Raises ApiError NOT_FOUND, INVALID_ARGUMENT."""
    found = next((item for item in endpoint.get("deployedModels", []) if item["id"] == given.get("id")), None)
    if found is None:
        raise ApiError(
            "NOT_FOUND", f"The DeployedModel {given.get('id', '')} is not found on Endpoint {endpoint['name']}."
        )
    for path in paths:
        if path not in _MUTABLE:
            raise invalid(f"The field {'.'.join(path)} of a deployed model cannot be changed.")
    changed = update_mask.apply(found, given, [".".join(path) for path in paths])
    if "dedicatedResources" in changed:
        changed["dedicatedResources"] = machines.complete(changed["dedicatedResources"], None)
    name = f"{endpoint['name']}/deployedModels/{found['id']}"
    deployment = store.find(connection, DEPLOYMENT, name)
    if deployment is not None:
        store.put(connection, DEPLOYMENT, name, {**deployment, "deployedModel": changed})
    rest = [changed if item["id"] == found["id"] else item for item in endpoint["deployedModels"]]
    save(connection, {**endpoint, "deployedModels": rest}, now)
    return changed


def undeploy(
    connection: sqlite3.Connection, endpoint: dict[str, Any], deployed_id: str, split: dict[str, int], now: str
) -> str:
    """Undeploy a model from its endpoint; return the deployment's name.

    Raises ApiError NOT_FOUND, and INVALID_ARGUMENT if traffic would have no target.
    """
    models_there = endpoint.get("deployedModels", [])
    rest = [item for item in models_there if item["id"] != deployed_id]
    if len(rest) == len(models_there):
        raise ApiError("NOT_FOUND", f"The DeployedModel {deployed_id} is not found on Endpoint {endpoint['name']}.")
    remaining = {item["id"] for item in rest}
    current = {key: value for key, value in endpoint.get("trafficSplit", {}).items() if key in remaining}
    if split:
        check_split({key: value for key, value in split.items() if key != deployed_id}, remaining)
        current = {key: value for key, value in split.items() if key in remaining}
    elif remaining and current and sum(current.values()) != 100:
        raise invalid(
            f"The DeployedModel {deployed_id} still receives traffic: give a traffic_split for the remaining models."
        )
    changed = {**endpoint, "deployedModels": rest, "trafficSplit": current}
    for key in ("deployedModels", "trafficSplit"):
        if not changed[key]:
            del changed[key]
    save(connection, changed, now)
    name = f"{endpoint['name']}/deployedModels/{deployed_id}"
    store.remove(connection, DEPLOYMENT, name)
    return name


def pick(endpoint: dict[str, Any]) -> dict[str, Any]:
    """Return the deployed model that answers a request, by the traffic split. Raises ApiError FAILED_PRECONDITION."""
    split = {key: share for key, share in endpoint.get("trafficSplit", {}).items() if share > 0}
    by_id = {item["id"]: item for item in endpoint.get("deployedModels", [])}
    candidates = [key for key in split if key in by_id]
    if not candidates:
        raise ApiError("FAILED_PRECONDITION", f"Endpoint {endpoint['name']} doesn't have traffic_split.")
    if len(candidates) == 1:
        return dict(by_id[candidates[0]])
    return dict(by_id[random.choices(candidates, [split[key] for key in candidates])[0]])
