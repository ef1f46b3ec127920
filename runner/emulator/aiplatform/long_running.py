"""Vertex AI's long-running operations: their names, their metadata, and the types that SDKs decode."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from runner.emulator import operations
from runner.emulator.aiplatform.scope import new_id
from runner.emulator.errors import ApiError
from runner.emulator.routing import ApiRequest

_PREFIX = "type.googleapis.com/google.cloud.aiplatform."


def type_url(version: str, message: str) -> str:
    """Return the `@type` of a message in the API version of the client."""
    return f"{_PREFIX}{version}.{message}"


def shown(operation: dict[str, Any], version: str) -> dict[str, Any]:
    """Return an operation in a version of the API, regardless of the version that started it."""
    made = dict(operation)
    for key in ("metadata", "response"):
        part = made.get(key)
        if part and str(part.get("@type", "")).startswith(_PREFIX):
            made[key] = {**part, "@type": type_url(version, part["@type"].removeprefix(_PREFIX).partition(".")[2])}
    return made


def begin(
    connection: sqlite3.Connection, parent: str, version: str, verb: str, now: str, **metadata: Any
) -> dict[str, Any]:
    """Store an unfinished operation under a location or a resource; `verb` is for example `DeployModel`. Return it."""
    body = {
        "@type": type_url(version, f"{verb}OperationMetadata"),
        "genericMetadata": {"createTime": now, "updateTime": now},
        **metadata,
    }
    return operations.create(connection, f"{parent}/operations/{new_id()}", metadata=body)


def stage(connection: sqlite3.Connection, name: str, now: str, value: str) -> None:
    """Set the stage of a deployment's operation, if its metadata has one and it has not ended."""
    operation = operations.get(connection, name)
    metadata = operation["metadata"]
    if "deploymentStage" in metadata and not operation.get("done"):
        metadata["deploymentStage"] = value
        metadata["genericMetadata"]["updateTime"] = now
        operations.describe(connection, name, metadata)


def end(
    connection: sqlite3.Connection,
    name: str,
    now: str,
    *,
    response: dict[str, Any] | None = None,
    error: ApiError | None = None,
) -> dict[str, Any]:
    """Finish an operation; a finished one stays unchanged. Return it."""
    operation = operations.get(connection, name)
    if operation.get("done"):
        return operation
    metadata = operation["metadata"]
    metadata["genericMetadata"]["updateTime"] = now
    if "deploymentStage" in metadata:
        metadata["deploymentStage"] = "FAILED_TO_DEPLOY" if error else "SUCCESSFULLY_DEPLOYED"
    return operations.finish(connection, name, response=response, error=error, metadata=metadata)


def done(
    connection: sqlite3.Connection,
    request: ApiRequest,
    parent: str,
    verb: str,
    message: str = "",
    fields: Mapping[str, Any] | None = None,
    **metadata: Any,
) -> dict[str, Any]:
    """Store the operation of a completed request, and return it.

    Args:
        connection: connection to the store.
        request: determines the version of the API.
        parent: its location or resource.
        verb: for example `UploadModel`.
        message: type of the response; "" is google.protobuf.Empty.
        fields: fields of the response.
        metadata: metadata in addition to that of all operations.
    """
    version, now = request.fields["version"], request.emulator.clock.timestamp()
    operation = begin(connection, parent, version, verb, now, **metadata)
    response = {"@type": type_url(version, message), **(fields or {})} if message else None
    return end(connection, operation["name"], now, response=response)
