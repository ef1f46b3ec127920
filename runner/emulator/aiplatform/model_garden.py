"""Model Garden: deploy custom weights or a publisher's model to a new endpoint, and recommend machines."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Callable
from typing import Any

from starlette.responses import Response

from runner.catalog import Model, UnknownModelError, find_model, load_catalog
from runner.emulator import projects, store
from runner.emulator.aiplatform import (
    access,
    deployments,
    endpoints,
    lifecycle,
    long_running,
    machines,
    models,
    scope,
    tuning_inputs,
)
from runner.emulator.aiplatform.scope import PARENT, Scope
from runner.emulator.aiplatform.tuning_validation import check_labels, split_uri
from runner.emulator.context import Emulator
from runner.emulator.errors import ApiError, invalid, not_here
from runner.emulator.iam import agents
from runner.emulator.resources import page
from runner.emulator.routing import ApiRequest, Method, json_response
from runner.emulator.storage import objects

SERVING_IMAGE = "us-docker.pkg.dev/vertex-ai/vertex-vision-model-garden-dockers/pytorch-vllm-serve:20251205_0916_RC01"
"""The container that the service returns for these models (Google's Gemma 3 notebook, 2026-08).

In the emulator, a process answers instead.
"""


_MODEL_TERM = re.compile(
    r"(?P<function>is_deployable|is_hf_wildcard)\((?P<argument>true|false)\)"
    r"|(?:model_user_id|name|display_name)\s*=\s*\"?(?P<value>[^\"()]+)\"?"
)
AGREEMENT = "model-garden-eula"
"""Kind of the document for a project's agreement to a model's license."""
_LICENSED = ("meta/", "google/")
"""Publishers whose open models have their own license; the others have Apache or MIT."""
_KEPT = ("labels", "dedicatedEndpointEnabled", "privateServiceConnectConfig")
"""Fields of an EndpointConfig that belong to the endpoint."""


async def deploy(request: ApiRequest) -> Response:
    """Create a model and an endpoint, and start serving; the operation ends when the process is ready."""
    body = await request.read_json()
    emulator = request.emulator
    where = emulator.store.read(lambda connection: scope.resolve(connection, request.fields))
    if where.location == "global":
        raise invalid("Models cannot be deployed in location global.")
    source, base = await asyncio.to_thread(_source, emulator, where, body)
    now = emulator.clock.timestamp()
    operation, name = await emulator.store.write(
        lambda connection: _store(connection, request, body, source, base, now)
    )
    lifecycle.runtime(emulator).deployments.launch_stored(name)
    return json_response(operation)


def _source(emulator: Emulator, where: Scope, body: dict[str, Any]) -> tuple[dict[str, str], Model]:
    """Check the weights, and return their source and base model. Blocks. Raises ApiError."""
    given = [key for key in ("publisherModelName", "huggingFaceModelId", "customModel") if body.get(key)]
    if len(given) != 1:
        raise invalid("Exactly one of publisher_model_name, hugging_face_model_id and custom_model must be set.")
    if given[0] == "customModel":
        uri = body["customModel"].get("gcsUri", "")
        return {"artifactUri": uri}, inspect_weights(emulator, where, uri)
    if given[0] == "huggingFaceModelId":
        raise not_here("The emulator does not deploy Hugging Face models: it reaches no other machine.")
    try:
        base = find_model(body["publisherModelName"])
    except UnknownModelError as error:
        raise ApiError("NOT_FOUND", f"PublisherModel {body['publisherModelName']} does not exist.") from error
    return {"publisherModel": base.id}, base


def inspect_weights(emulator: Emulator, where: Scope, uri: str) -> Model:
    """Check that a folder contains weights that Vertex AI may read; return a model of their architecture. Blocks.

    Raises:
        ApiError: NOT_FOUND, PERMISSION_DENIED or INVALID_ARGUMENT with the folder.
    """
    bucket, prefix = split_uri(uri, "gcs_uri")
    agent = agents.aiplatform_agent(where.project.number)

    def look(connection: sqlite3.Connection) -> list[str]:
        access.require(connection, [agent], [access.Need(bucket, prefix, access.READ)])
        return tuning_inputs.checkpoint_names(connection, uri, "gcs_uri")[2]

    names = emulator.store.read(look)
    config = next(name for name in names if name.endswith("config.json") and name.rpartition("/")[2] == "config.json")
    base = emulator.store.read(lambda connection: _tuned_from(connection, where, uri))
    return base or deployments.model_of_config(objects.read_bytes(emulator, bucket, config))


def _tuned_from(connection: sqlite3.Connection, where: Scope, uri: str) -> Model | None:
    """Return the base model of weights from a tuning job of this project; None for other weights."""
    parent = f"projects/{where.project.number}/"
    for _, document in store.scan(connection, models.KIND, parent):
        model = document["versions"][document["default"]]
        final = str(model.get("artifactUri", "")).rstrip("/")
        if final and (uri.rstrip("/") == final or uri.startswith(final.removesuffix("final") + "checkpoint-")):
            return models.base_model(model)
    return None


def _require_agreement(connection: sqlite3.Connection, where: Scope, base: Model, config: dict[str, Any]) -> None:
    """Return normally if a model has no license that requires agreement, or the project has agreed. Raises ApiError."""
    if not base.id.startswith(_LICENSED) or config.get("acceptEula"):
        return
    if store.find(connection, AGREEMENT, f"{where.project.id}/{public_name(base)}") is None:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The End User License Agreement (EULA) of {public_name(base)} has not been accepted. "
            "Set accept_eula in model_config, or accept it for the project.",
        )


def _store(
    connection: sqlite3.Connection,
    request: ApiRequest,
    body: dict[str, Any],
    source: dict[str, str],
    base: Model,
    now: str,
) -> tuple[dict[str, Any], str]:
    where = scope.resolve(connection, request.fields)
    projects.ensure(connection, where.project.id)
    version = request.fields["version"]
    config, wanted = body.get("modelConfig", {}), body.get("endpointConfig", {})
    resources = machines.complete(body.get("deployConfig", {}).get("dedicatedResources"), base)
    check_labels(wanted.get("labels", {}))
    if "publisherModel" in source:
        _require_agreement(connection, where, base, config)
    short = base.id.rpartition("/")[2].rpartition("@")[2]
    model_id = config.get("modelUserId") or scope.new_id()
    if "modelUserId" in config:
        models.check_id(model_id)
    model_name = f"{where.name}/models/{model_id}"
    publisher = public_name(base)
    about: dict[str, Any] = {
        "displayName": config.get("modelDisplayName") or f"{short}-{now[:19].replace(':', '')}",
        "containerSpec": config.get("containerSpec") or {"imageUri": SERVING_IMAGE},
        "baseModelSource": {"modelGardenSource": {"publicModelName": publisher}},
        "modelSourceInfo": {"sourceType": "MODEL_GARDEN"},
    }
    if "artifactUri" in source:
        about["artifactUri"] = source["artifactUri"]
    model = models.insert(connection, model_name, about, now)
    display = wanted.get("endpointDisplayName") or f"{about['displayName']}-endpoint"
    endpoint_body = {"displayName": display, **{key: wanted[key] for key in _KEPT if wanted.get(key)}}
    private = "privateServiceConnectConfig" in endpoint_body or wanted.get("dedicatedEndpointDisabled")
    if request.emulator.settings.dedicated_certificate and not private:
        endpoint_body["dedicatedEndpointEnabled"] = True
    endpoint = endpoints.create(connection, where, wanted.get("endpointUserId", ""), endpoint_body, now)
    deployed: dict[str, Any] = {
        "id": scope.new_id(),
        "model": model_name,
        "modelVersionId": model["versionId"],
        "displayName": about["displayName"],
        "dedicatedResources": resources,
    }
    labels = body.get("deployConfig", {}).get("systemLabels")
    if labels:
        deployed["systemLabels"] = labels
    metadata = {
        "destination": where.name,
        "projectNumber": where.project.number,
        "modelId": model_id,
        "publisherModel": publisher if "publisherModel" in source else "",
    }
    operation = long_running.begin(
        connection, where.name, version, "Deploy", now, **{key: value for key, value in metadata.items() if value}
    )
    response = {
        "@type": long_running.type_url(version, "DeployResponse"),
        "endpoint": endpoint["name"],
        "model": model_name,
    }
    if "publisherModel" in source:
        response["publisherModel"] = publisher
    deployment = endpoints.add_deployment(
        connection,
        endpoint,
        deployed,
        operation=operation["name"],
        source={**source, "baseModel": base.id},
        split={"0": 100},
        response=response,
        made=(endpoint["name"], model_name),
    )
    return operation, deployment


def public_name(model: Model) -> str:
    """Return `publishers/P/models/M@V`."""
    publisher, _, rest = model.id.partition("/")
    return f"publishers/{publisher}/models/{rest}"


async def recommend_spec(request: ApiRequest) -> Response:
    """Return the recommended machines for the weights in a folder."""
    body = await request.read_json()
    emulator = request.emulator
    where = emulator.store.read(lambda connection: scope.resolve(connection, request.fields))
    base = await asyncio.to_thread(inspect_weights, emulator, where, body.get("gcsUri", ""))
    spec = {"machineSpec": machines.recommended(base), "containerSpec": {"imageUri": SERVING_IMAGE}}
    answer: dict[str, Any] = {"baseModel": public_name(base)}
    answer["specs"] = [spec]
    if body.get("checkMachineAvailability") or body.get("checkUserQuota"):
        recommendation: dict[str, Any] = {"region": where.location, "spec": spec}
        if body.get("checkUserQuota"):
            recommendation["userQuotaState"] = "QUOTA_STATE_USER_HAS_QUOTA"
        answer["recommendations"] = [recommendation]
    return json_response(answer)


async def get_publisher_model(request: ApiRequest) -> Response:
    """Return Model Garden's data about a base model, with its machine."""
    publisher, name = request.fields["publisher"], request.fields["model"]
    try:
        model = find_model(f"publishers/{publisher}/models/{name}")
    except UnknownModelError as error:
        full = f"publishers/{publisher}/models/{name}"
        raise ApiError("NOT_FOUND", f"Publisher model {full} is not found.") from error
    return json_response(_publisher_model(model))


def _publisher_model(model: Model) -> dict[str, Any]:
    full = public_name(model)
    option = {
        "modelDisplayName": model.name,
        "containerSpec": {"imageUri": SERVING_IMAGE},
        "dedicatedResources": {
            "machineSpec": machines.recommended(model),
            "minReplicaCount": 1,
            "maxReplicaCount": 1,
        },
        "deployTaskName": "vLLM",
    }
    return {
        "name": full.partition("@")[0],
        "versionId": full.partition("@")[2] or "default",
        "openSourceCategory": "GOOGLE_OWNED_OSS" if full.startswith("publishers/google/") else "THIRD_PARTY_OWNED_OSS",
        "launchStage": "GA",
        "supportedActions": {"multiDeployVertex": {"multiDeployVertex": [option]}},
    }


async def list_publisher_models(request: ApiRequest) -> Response:
    """Return the base models of a publisher, `-` or `*` for all."""
    wanted = request.fields["publisher"]
    chosen = _model_filter(request.query_params.get("filter", ""))
    found = [model for model in load_catalog().models if wanted in ("-", "*", model.id.partition("/")[0])]
    return page(request, "publisherModels", [_publisher_model(model) for model in found if chosen(model)])


def _model_filter(text: str) -> Callable[[Model], bool]:
    """Return a test of models.

    Raises ApiError INVALID_ARGUMENT for a filter with other terms than those of the SDKs.
    """
    terms = [term.strip() for term in re.split(r"\s+AND\s+", text.strip()) if term.strip()]
    tests: list[Callable[[Model], bool]] = []
    for term in terms:
        match = _MODEL_TERM.fullmatch(term)
        if match is None:
            raise invalid(f"Invalid filter {text!r}: unexpected {term!r}.")
        if match["function"]:
            # Every model here is a deployable model of Model Garden, and none is from Hugging Face.
            holds = (match["function"] == "is_deployable") == (match["argument"] == "true")
            tests.append(lambda model, holds=holds: holds)  # type: ignore[misc]
        else:
            name = match["value"].rpartition("/")[2]
            tests.append(lambda model, name=name: name in model.id)  # type: ignore[misc]
    return lambda model: all(test(model) for test in tests)


_API = "aiplatform.projects.locations"
METHODS = [
    Method(f"{_API}.deploy", "POST", f"{PARENT}:deploy", deploy),
    Method(f"{_API}.recommendSpec", "POST", f"{PARENT}:recommendSpec", recommend_spec),
    Method(
        "aiplatform.publishers.models.get",
        "GET",
        "/{version=v1|v1beta1}/publishers/{publisher}/models/{model}",
        get_publisher_model,
    ),
    Method(
        "aiplatform.publishers.models.list",
        "GET",
        "/{version=v1|v1beta1}/publishers/{publisher}/models",
        list_publisher_models,
    ),
]
