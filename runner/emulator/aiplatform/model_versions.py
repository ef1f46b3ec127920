"""models: mergeVersionAliases, deleteVersion, listCheckpoints, copy."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import projects, store
from runner.emulator.aiplatform import long_running, models, scope, tuning_jobs
from runner.emulator.aiplatform.model_routes import name_of
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.errors import invalid
from runner.emulator.resources import listing, writing
from runner.emulator.routing import ApiRequest, Method

_NOT_COPIED = ("name", "versionId", "versionAliases", "createTime", "updateTime", "etag", "deployedModels")


@writing
def merge_aliases(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Give a version aliases, which other versions lose, and take away those with a `-` before them."""
    aliases = request.document.get("versionAliases", [])
    if not aliases:
        raise invalid("The version_aliases field is required.")
    now = request.emulator.clock.timestamp()
    return models.merge_aliases(connection, name_of(connection, request), aliases, now)


@writing
def delete_version(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Delete one version of several; the operation is done at once."""
    now = request.emulator.clock.timestamp()
    name = name_of(connection, request)
    models.remove_version(connection, name)
    plain = name.partition("@")[0]
    return long_running.immediate(connection, plain, request.fields["version"], "Delete", now)


@listing("checkpoints", filtered=True)
def list_checkpoints(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the checkpoints of a tuned model, in order of their steps."""
    name = name_of(connection, request)
    model = models.get(connection, name)
    wanted = f"{name.partition('@')[0]}@{model['versionId']}"
    parent = name.partition("/models/")[0].rpartition("/locations/")[0]
    for _, job in store.scan(connection, tuning_jobs.KIND, f"{parent}/"):
        if job.get("tunedModel", {}).get("model") == wanted:
            found = job["tunedModel"].get("checkpoints", [])
            return [{key: item[key] for key in ("checkpointId", "epoch", "step")} for item in found]
    return []


@writing
def copy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Register a version of another model, here or of another location; its files stay where they are."""
    body = request.document
    version = request.fields["version"]
    now = request.emulator.clock.timestamp()
    if not body.get("sourceModel"):
        raise invalid("The source_model field is required.")
    where = scope.resolve(connection, request.fields)
    projects.ensure(connection, where.project.id)
    plain, _, wanted = body["sourceModel"].partition("@")
    source_scope, source_id = scope.split_name(connection, plain, "models")
    full = f"{source_scope.name}/models/{source_id}" + (f"@{wanted}" if wanted else "")
    source = models.get(connection, full)
    if body.get("parentModel"):
        _, model_id = scope.split_name(connection, body["parentModel"].partition("@")[0], "models")
    else:
        model_id = body.get("modelId") or scope.new_id()
        if body.get("modelId"):
            models.check_id(model_id)
    kept = {key: value for key, value in source.items() if key not in _NOT_COPIED}
    name = f"{where.name}/models/{model_id}"
    made = models.insert(
        connection,
        name,
        {**kept, "modelSourceInfo": {**kept.get("modelSourceInfo", {}), "copy": True}},
        now,
        new_version="parentModel" in body,
    )
    response = {
        "@type": long_running.type_url(version, "CopyModelResponse"),
        "model": name,
        "modelVersionId": made["versionId"],
    }
    return long_running.immediate(connection, name, version, "CopyModel", now, response)


_API = "aiplatform.projects.locations.models"
_MODEL = f"{PARENT}/models/{{model}}"
METHODS = [
    Method(f"{_API}.mergeVersionAliases", "POST", f"{_MODEL}:mergeVersionAliases", merge_aliases),
    Method(f"{_API}.deleteVersion", "DELETE", f"{_MODEL}:deleteVersion", delete_version),
    Method(f"{_API}.listCheckpoints", "GET", f"{_MODEL}:listCheckpoints", list_checkpoints),
    Method(f"{_API}.copy", "POST", f"{PARENT}/models:copy", copy),
]
