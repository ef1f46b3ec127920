"""models: mergeVersionAliases, deleteVersion, listCheckpoints, copy."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import store
from runner.emulator.aiplatform import long_running, models, scope, tuning_jobs
from runner.emulator.aiplatform.model_routes import name_of, register
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.errors import invalid
from runner.emulator.resources import listing, writing
from runner.emulator.routing import ApiRequest, Method

_NOT_COPIED = ("name", "versionId", "versionAliases", "createTime", "updateTime", "etag", "deployedModels")


@writing
def merge_aliases(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Add aliases to a version, which other versions lose, and remove those with a `-` prefix."""
    aliases = request.document.get("versionAliases", [])
    if not aliases:
        raise invalid("The version_aliases field is required.")
    now = request.emulator.clock.timestamp()
    return models.merge_aliases(connection, name_of(connection, request), aliases, now)


@writing
def delete_version(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Delete one version of several; the operation is complete immediately."""
    name = name_of(connection, request)
    models.remove_version(connection, name)
    return long_running.done(connection, request, name.partition("@")[0], "Delete")


@listing("checkpoints", filtered=True)
def list_checkpoints(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the checkpoints of a tuned model, ordered by step."""
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
    """Register a version of another model, from this or another location; its files are not copied."""
    body = request.document
    if not body.get("sourceModel"):
        raise invalid("The source_model field is required.")
    plain, _, wanted = body["sourceModel"].partition("@")
    source_scope, source_id = scope.split_name(connection, plain, "models")
    source = models.get(connection, f"{source_scope.name}/models/{source_id}" + (f"@{wanted}" if wanted else ""))
    kept = {key: value for key, value in source.items() if key not in _NOT_COPIED}
    copied = {**kept, "modelSourceInfo": {**kept.get("modelSourceInfo", {}), "copy": True}}
    return register(connection, request, copied, "CopyModel")


_API = "aiplatform.projects.locations.models"
_MODEL = f"{PARENT}/models/{{model}}"
METHODS = [
    Method(f"{_API}.mergeVersionAliases", "POST", f"{_MODEL}:mergeVersionAliases", merge_aliases),
    Method(f"{_API}.deleteVersion", "DELETE", f"{_MODEL}:deleteVersion", delete_version),
    Method(f"{_API}.listCheckpoints", "GET", f"{_MODEL}:listCheckpoints", list_checkpoints),
    Method(f"{_API}.copy", "POST", f"{PARENT}/models:copy", copy),
]
