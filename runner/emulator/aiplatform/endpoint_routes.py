"""endpoints: create, get, list, patch, delete, deployModel, undeployModel."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator import projects, wire_json
from runner.emulator.aiplatform import (
    collections,
    dedicated,
    endpoints,
    lifecycle,
    long_running,
    machines,
    models,
    scope,
)
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.aiplatform.tuning_validation import check_labels
from runner.emulator.definitions.parsing import snake
from runner.emulator.errors import found_errors, invalid
from runner.emulator.resources import listing, reading, writing
from runner.emulator.routing import ApiRequest, Method, json_response

_PATCHABLE = frozenset(
    {
        "displayName",
        "description",
        "labels",
        "trafficSplit",
        "predictRequestResponseLoggingConfig",
        "clientConnectionConfig",
        "genAiAdvancedFeaturesConfig",
        "dedicatedEndpointEnabled",
    }
)


@writing
def create(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create an endpoint; the operation is complete immediately."""
    body = request.document
    check_labels(body.get("labels", {}))
    endpoint_id = request.query_params.get("endpointId") or request.query_params.get("endpoint_id") or ""
    where = scope.resolve(connection, request.fields)
    if where.location == "global":
        raise invalid("Endpoints cannot be created in location global.")
    projects.ensure(connection, where.project.id)
    endpoint = endpoints.create(connection, where, endpoint_id, body, request.emulator.clock.timestamp())
    shown = dedicated.shown(request.emulator.settings, endpoint)
    return long_running.done(connection, request, endpoint["name"], "CreateEndpoint", "Endpoint", shown)


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return one endpoint."""
    found = endpoints.get(connection, endpoints.name_of(connection, request.fields))
    return dedicated.shown(request.emulator.settings, found)


@listing("endpoints", filtered=True)
def list_endpoints(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the endpoints that match a filter."""
    query, where = request.query_params, scope.resolve(connection, request.fields)
    found = endpoints.list_endpoints(connection, where, query.get("filter", ""), query.get("orderBy", ""))
    return [dedicated.shown(request.emulator.settings, item) for item in found]


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the fields in the mask."""
    endpoint = endpoints.get(connection, endpoints.name_of(connection, request.fields))
    changed = collections.patched(request, endpoint, request.document, _PATCHABLE, "Endpoint")
    endpoints.check_split(changed.get("trafficSplit", {}), {item["id"] for item in endpoint.get("deployedModels", [])})
    changed = endpoints.save(connection, changed, request.emulator.clock.timestamp())
    return dedicated.shown(request.emulator.settings, changed)


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Delete an endpoint without models; the operation is complete immediately."""
    name = endpoints.name_of(connection, request.fields)
    endpoints.remove(connection, name)
    return long_running.done(connection, request, name, "Delete")


async def deploy_model(request: ApiRequest) -> Response:
    """Deploy a model to an endpoint; the operation ends when the process is ready."""
    body = await request.read_json()
    version = request.fields["version"]
    emulator = request.emulator
    now = emulator.clock.timestamp()

    def work(connection: sqlite3.Connection) -> tuple[dict[str, Any], str]:
        name = endpoints.name_of(connection, request.fields)
        endpoint = endpoints.get(connection, name)
        deployed, source = _deployed_model(connection, body.get("deployedModel", {}), name)
        split = body.get("trafficSplit", {})
        endpoints.check_split(split, {"0", *(item["id"] for item in endpoint.get("deployedModels", []))})
        operation = long_running.begin(
            connection, name, version, "DeployModel", now, deploymentStage="STARTING_DEPLOYMENT"
        )
        deployment = endpoints.add_deployment(
            connection,
            endpoint,
            deployed,
            operation=operation["name"],
            source=source,
            split=split,
            response={"@type": long_running.type_url(version, "DeployModelResponse"), "deployedModel": deployed},
        )
        return operation, deployment

    operation, name = await emulator.store.write(work)
    lifecycle.runtime(emulator).deployments.launch_stored(name)
    return json_response(operation)


def _deployed_model(
    connection: sqlite3.Connection, given: dict[str, Any], endpoint: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the complete DeployedModel and the source of its weights. Raises ApiError."""
    if not given.get("model"):
        raise found_errors("deployed_model.model", "Required field is not set.")
    plain, _, version = given["model"].partition("@")
    where, model_id = scope.split_name(connection, plain, "models")
    if not endpoint.startswith(f"{where.name}/"):
        raise invalid("The model and the endpoint must be in the same project and location.")
    model = models.get(connection, f"{where.name}/models/{model_id}" + (f"@{version}" if version else ""))
    if "automaticResources" in given or "sharedResources" in given:
        raise invalid("This model supports DEDICATED_RESOURCES only.")
    if given.get("id") and not given["id"].isdigit():
        raise invalid(f"Invalid deployed model id '{given['id']}': it must be a number.")
    source, base = models.weights(model)
    deployed = {
        **given,
        "id": given.get("id") or scope.new_id(),
        "model": f"{where.name}/models/{model_id}",
        "modelVersionId": model["versionId"],
        "displayName": given.get("displayName") or model["displayName"],
        "dedicatedResources": machines.complete(given.get("dedicatedResources"), base),
    }
    return deployed, source


async def undeploy_model(request: ApiRequest) -> Response:
    """Undeploy a model from an endpoint and end its process; the operation is complete immediately."""
    body = await request.read_json()
    emulator = request.emulator
    now = emulator.clock.timestamp()

    def work(connection: sqlite3.Connection) -> tuple[dict[str, Any], str]:
        name = endpoints.name_of(connection, request.fields)
        endpoint = endpoints.get(connection, name)
        if not body.get("deployedModelId"):
            raise invalid("The deployed_model_id field is required.")
        gone = endpoints.undeploy(connection, endpoint, body["deployedModelId"], body.get("trafficSplit", {}), now)
        return long_running.done(connection, request, name, "UndeployModel", "UndeployModelResponse"), gone

    operation, gone = await emulator.store.write(work)
    await lifecycle.runtime(emulator).deployments.remove(gone)
    return json_response(operation)


@writing
def mutate_deployed_model(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the replicas or the logging of a deployed model; the operation is complete immediately."""
    body = request.document
    now = request.emulator.clock.timestamp()
    paths = wire_json.mask_paths(body.get("updateMask"))
    if not paths:
        raise invalid("The update_mask field is required.")
    name = endpoints.name_of(connection, request.fields)
    changed = endpoints.mutate(connection, endpoints.get(connection, name), body.get("deployedModel", {}), paths, now)
    fields = {"deployedModel": changed}
    return long_running.done(connection, request, name, "MutateDeployedModel", "MutateDeployedModelResponse", fields)


@writing
def update(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change how clients can connect, as at Google; the operation is complete immediately."""
    given = request.document.get("endpoint", {})
    name = endpoints.name_of(connection, request.fields)
    endpoint = endpoints.get(connection, name)
    fixed = [key for key in given if key != "clientConnectionConfig" and given[key] != endpoint.get(key)]
    if fixed:
        raise invalid(f"The field {snake(sorted(fixed)[0])} cannot be updated by this method.")
    kept = {key: value for key, value in endpoint.items() if key != "clientConnectionConfig"}
    changed = endpoints.save(connection, kept | given, request.emulator.clock.timestamp())
    return long_running.done(connection, request, name, "UpdateEndpoint", "Endpoint", changed)


_API = "aiplatform.projects.locations.endpoints"
_ENDPOINT = f"{PARENT}/endpoints/{{endpoint}}"
METHODS = [
    Method(f"{_API}.create", "POST", f"{PARENT}/endpoints", create),
    Method(f"{_API}.list", "GET", f"{PARENT}/endpoints", list_endpoints),
    Method(f"{_API}.get", "GET", f"{PARENT}/endpoints/{{endpoint}}", get),
    Method(f"{_API}.patch", "PATCH", f"{PARENT}/endpoints/{{endpoint}}", patch),
    Method(f"{_API}.delete", "DELETE", f"{PARENT}/endpoints/{{endpoint}}", delete),
    Method(f"{_API}.deployModel", "POST", f"{PARENT}/endpoints/{{endpoint}}:deployModel", deploy_model),
    Method(f"{_API}.mutateDeployedModel", "POST", f"{_ENDPOINT}:mutateDeployedModel", mutate_deployed_model),
    Method(f"{_API}.update", "POST", f"{_ENDPOINT}:update", update),
    Method(f"{_API}.undeployModel", "POST", f"{PARENT}/endpoints/{{endpoint}}:undeployModel", undeploy_model),
]
