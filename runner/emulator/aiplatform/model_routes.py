"""models: upload, get, list, listVersions, patch, delete."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import projects
from runner.emulator.aiplatform import collections, long_running, models, scope
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.aiplatform.tuning_validation import check_labels, split_uri
from runner.emulator.errors import found_errors, invalid
from runner.emulator.resources import listing, reading, writing
from runner.emulator.routing import ApiRequest, Method

_PATCHABLE = frozenset({"displayName", "description", "versionDescription", "labels", "metadata"})


def name_of(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the full name of the model in a path, with the version after `@` if there is one."""
    return f"{scope.resolve(connection, request.fields).name}/models/{request.fields['model']}"


@writing
def upload(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Register weights as a model or as a new version of one; the operation is complete immediately."""
    body = request.document
    model = body.get("model", {})
    if not model.get("displayName"):
        raise found_errors("model.display_name", "Required field is not set.")
    if len(model["displayName"]) > 128:
        raise invalid("The display_name must be at most 128 characters long.")
    check_labels(model.get("labels", {}))
    if model.get("artifactUri"):
        split_uri(model["artifactUri"], "artifact_uri")
    return register(connection, request, model, "UploadModel")


def register(connection: sqlite3.Connection, request: ApiRequest, model: dict[str, Any], verb: str) -> dict[str, Any]:
    """Store a model, or a version of the request's `parentModel`, and return the completed operation."""
    body, where = request.document, scope.resolve(connection, request.fields)
    projects.ensure(connection, where.project.id)
    parent = body.get("parentModel")
    if parent:
        parent_scope, model_id = scope.split_name(connection, parent.partition("@")[0], "models")
        if parent_scope != where:
            raise invalid("The parent_model must be in the same project and location.")
    else:
        model_id = body.get("modelId") or scope.new_id()
        if body.get("modelId"):
            models.check_id(model_id)
    name, now = f"{where.name}/models/{model_id}", request.emulator.clock.timestamp()
    made = models.insert(connection, name, model, now, new_version=bool(parent))
    fields = {"model": name, "modelVersionId": made["versionId"]}
    return long_running.done(connection, request, name, verb, f"{verb}Response", fields)


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a model: its default version, or the one after `@`."""
    model = models.get(connection, name_of(connection, request))
    if not model["deployedModels"]:
        del model["deployedModels"]
    return model


@listing("models", filtered=True)
def list_models(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the models that match a filter."""
    query, where = request.query_params, scope.resolve(connection, request.fields)
    return models.list_models(connection, where, query.get("filter", ""), query.get("orderBy", ""))


@listing("models", filtered=True)
def list_versions(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the versions of a model."""
    return models.versions(connection, name_of(connection, request))


@writing
def patch(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Change the fields in the mask."""
    body = request.document
    now = request.emulator.clock.timestamp()
    name = name_of(connection, request)
    changed = collections.patched(request, models.get(connection, name), body, _PATCHABLE, "Model")
    return models.replace(connection, name, changed, now)


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Delete a model that is not deployed; the operation is complete immediately."""
    name = name_of(connection, request)
    if "@" in name:
        raise invalid("Deleting one version takes :deleteVersion; delete takes a model's name without version.")
    models.remove(connection, name)
    return long_running.done(connection, request, name, "Delete")


_API = "aiplatform.projects.locations.models"
METHODS = [
    Method(f"{_API}.upload", "POST", f"{PARENT}/models:upload", upload),
    Method(f"{_API}.list", "GET", f"{PARENT}/models", list_models),
    Method(f"{_API}.listVersions", "GET", f"{PARENT}/models/{{model}}:listVersions", list_versions),
    Method(f"{_API}.get", "GET", f"{PARENT}/models/{{model}}", get),
    Method(f"{_API}.patch", "PATCH", f"{PARENT}/models/{{model}}", patch),
    Method(f"{_API}.delete", "DELETE", f"{PARENT}/models/{{model}}", delete),
]
