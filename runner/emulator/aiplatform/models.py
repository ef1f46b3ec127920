"""Models of the registry: one document each, with all its versions."""

from __future__ import annotations

import re
import secrets
import sqlite3
from typing import Any

from runner.catalog import Model, UnknownModelError, find_model
from runner.emulator import store
from runner.emulator.aiplatform import filters, scope
from runner.emulator.aiplatform.scope import Scope
from runner.emulator.definitions import documents
from runner.emulator.errors import ApiError, already_exists, invalid, not_found, not_here

KIND = "model"
ENDPOINT_KIND = "endpoint"
"""Kind of the documents that record where models are deployed."""
_SERVING_IMAGES = ("vllm", "sglang", "text-generation", "tgi", "hex-llm", "tensorrt")

_ID = re.compile(r"[a-z_][a-z0-9_-]{0,62}\Z")
_ALIAS = re.compile(r"[a-z][a-z0-9-]{0,126}[a-z0-9]\Z")


def etag() -> str:
    """Return a new entity tag."""
    return secrets.token_urlsafe(12)


def insert(
    connection: sqlite3.Connection, name: str, body: dict[str, Any], now: str, *, new_version: bool = False
) -> dict[str, Any]:
    """Register a model, or a new version of one; return the version's resource.

    Raises ApiError ALREADY_EXISTS if the name exists and `new_version` is false, NOT_FOUND if it does not exist and
    `new_version` is true.
    """
    document = store.find(connection, KIND, name)
    if document is None:
        if new_version:
            raise not_found(scope.missing(name))
        document = {"default": "1", "versions": {}, "next": 1}
    elif not new_version:
        raise already_exists(f"Model {name} already exists.")
    version = str(document["next"])
    document["next"] += 1
    aliases = [*body.get("versionAliases", [])]
    first = not document["versions"]
    if first and "default" not in aliases:
        aliases.append("default")
    if "default" in aliases:
        document["default"] = version
    resource = {
        **body,
        "name": name,
        "versionId": version,
        "versionAliases": aliases,
        "versionCreateTime": now,
        "versionUpdateTime": now,
        "createTime": min([item["createTime"] for item in document["versions"].values()], default=now),
        "updateTime": now,
        "supportedDeploymentResourcesTypes": ["DEDICATED_RESOURCES"],
        "etag": etag(),
    }
    _take_aliases(document, version, aliases)
    document["versions"][version] = resource
    store.put(connection, KIND, name, document)
    return resource


def _take_aliases(document: dict[str, Any], version: str, aliases: list[str]) -> None:
    for alias in aliases:
        if not _ALIAS.match(alias):
            raise invalid(f"Invalid version alias '{alias}'.")
        for other, resource in document["versions"].items():
            if other != version and alias in resource["versionAliases"]:
                resource["versionAliases"].remove(alias)


def merge_aliases(connection: sqlite3.Connection, name: str, aliases: list[str], now: str) -> dict[str, Any]:
    """Add aliases to a version, and remove those with a `-` prefix; return the version.

    Raises ApiError NOT_FOUND, INVALID_ARGUMENT.
    """
    version = get(connection, name)["versionId"]
    plain = name.partition("@")[0]
    document = store.get(connection, KIND, plain)
    resource = document["versions"][version]
    gone = {alias[1:] for alias in aliases if alias.startswith("-")}
    if "default" in gone:
        raise invalid("The alias 'default' cannot be removed: give it to another version.")
    added = [alias for alias in aliases if not alias.startswith("-")]
    _take_aliases(document, version, added)
    if "default" in added:
        document["default"] = version
    kept = [alias for alias in resource["versionAliases"] if alias not in gone]
    resource["versionAliases"] = list(dict.fromkeys([*kept, *added]))
    resource |= {"updateTime": now, "versionUpdateTime": now, "etag": etag()}
    store.put(connection, KIND, plain, document)
    return dict(resource)


def remove_version(connection: sqlite3.Connection, name: str) -> None:
    """Delete one version of several.

    Raises ApiError NOT_FOUND, INVALID_ARGUMENT for a name without version, FAILED_PRECONDITION for the only version,
    the default one, and one that is deployed.
    """
    plain, _, wanted = name.partition("@")
    if not wanted:
        raise invalid("The name must have a version: projects/P/locations/L/models/M@VERSION.")
    version = get(connection, name)["versionId"]
    document = store.get(connection, KIND, plain)
    where = deployed(connection, plain, version)
    if where:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The Model version {name} cannot be deleted: it is deployed at {where[0]['endpoint']}. Undeploy it first.",
        )
    if len(document["versions"]) == 1:
        raise ApiError("FAILED_PRECONDITION", f"Deleting the only version of {plain} is not allowed. Delete the Model.")
    if document["default"] == version:
        raise ApiError("FAILED_PRECONDITION", f"{name} is the default version: make another one the default first.")
    del document["versions"][version]
    store.put(connection, KIND, plain, document)


def check_id(model_id: str) -> None:
    """Check an ID that the user chose. Raises ApiError INVALID_ARGUMENT."""
    if not _ID.match(model_id):
        raise invalid(
            f"Invalid model id '{model_id}': 1 to 63 lowercase letters, digits, '_' and '-', beginning with a letter "
            "or '_'."
        )


def get(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """Return a version: `…/M` is the default one, `…/M@V` a version or alias. Raises ApiError NOT_FOUND."""
    plain, _, wanted = name.partition("@")
    document = store.get(connection, KIND, plain, missing=scope.missing(name))
    versions = document["versions"]
    version = wanted or document["default"]
    if version not in versions:
        version = next((key for key, value in versions.items() if version in value["versionAliases"]), "")
    if version not in versions:
        raise not_found(scope.missing(name))
    return {**versions[version], "deployedModels": deployed(connection, plain, version)}


def deployed(connection: sqlite3.Connection, name: str, version: str | None = None) -> list[dict[str, str]]:
    """Return where a model, or one version of it, is deployed."""
    parent = name.rpartition("/models/")[0]
    return [
        {"endpoint": endpoint_name, "deployedModelId": item["id"]}
        for endpoint_name, endpoint in store.scan(connection, ENDPOINT_KIND, f"{parent}/endpoints/")
        for item in endpoint.get("deployedModels", [])
        if item["model"].partition("@")[0] == name and (version is None or item["modelVersionId"] == version)
    ]


def list_models(connection: sqlite3.Connection, where: Scope, text: str, order: str) -> list[dict[str, Any]]:
    """Return the default version of each model of a location that matches. Raises ApiError INVALID_ARGUMENT."""
    matches = filters.compile_filter(text, documents.fields("aiplatform.v1beta1", "Model"))
    found = [
        document["versions"][document["default"]]
        for _, document in store.scan(connection, KIND, f"{where.name}/models/")
    ]
    return filters.ordered([model for model in found if matches(model)], order, "-createTime")


def versions(connection: sqlite3.Connection, name: str) -> list[dict[str, Any]]:
    """Return all versions of a model, oldest first. Raises ApiError NOT_FOUND."""
    document = store.get(connection, KIND, name.partition("@")[0], missing=scope.missing(name))
    return [document["versions"][key] for key in sorted(document["versions"], key=int)]


def replace(connection: sqlite3.Connection, name: str, body: dict[str, Any], now: str) -> dict[str, Any]:
    """Store changed fields of a version. Raises ApiError NOT_FOUND."""
    current = get(connection, name)
    plain = name.partition("@")[0]
    document = store.get(connection, KIND, plain)
    changed = {**body, "updateTime": now, "versionUpdateTime": now, "etag": etag()}
    changed.pop("deployedModels", None)
    document["versions"][current["versionId"]] = changed
    store.put(connection, KIND, plain, document)
    return changed


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Delete a model with all versions. Raises ApiError NOT_FOUND, FAILED_PRECONDITION while one is deployed."""
    if store.find(connection, KIND, name) is None:
        raise not_found(scope.missing(name))
    where = deployed(connection, name)
    if where:
        raise ApiError(
            "FAILED_PRECONDITION",
            f"The Model {name} cannot be deleted: it is deployed at {where[0]['endpoint']}. Undeploy it first.",
        )
    store.remove(connection, KIND, name)


def weights(model: dict[str, Any]) -> tuple[dict[str, str], Model | None]:
    """Return the source of a registered model's weights, and its base model if it is recorded.

    The source is `artifactUri` of a checkpoint or `publisherModel` of the catalog, with `baseModel` if known. Raises
    ApiError UNIMPLEMENTED for an unknown container, FAILED_PRECONDITION for a model without weights.
    """
    image = model.get("containerSpec", {}).get("imageUri", "")
    if image and not any(name in image for name in _SERVING_IMAGES):
        raise not_here(f"The emulator serves open models' weights; it cannot run {image}.")
    base = base_model(model)
    if model.get("artifactUri"):
        source = {"artifactUri": str(model["artifactUri"])}
    elif base is not None:
        source = {"publisherModel": base.id}
    else:
        raise ApiError("FAILED_PRECONDITION", f"Model {model['name']} has no artifact_uri.")
    return source | ({"baseModel": base.id} if base is not None else {}), base


def base_model(model: dict[str, Any]) -> Model | None:
    """Return the catalog's model that a registered model was created from; None if it is not recorded."""
    name = model.get("baseModelSource", {}).get("modelGardenSource", {}).get("publicModelName", "")
    try:
        return find_model(name)
    except UnknownModelError:
        return None
