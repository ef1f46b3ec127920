"""Long-running operations: google.longrunning.Operation documents.

Work that is complete immediately still returns a finished operation.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import store
from runner.emulator.errors import ApiError

KIND = "operation"


def create(
    connection: sqlite3.Connection,
    name: str,
    *,
    metadata: dict[str, Any] | None = None,
    response: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Store an operation under its full resource name; it is finished if `response` is given."""
    body: dict[str, Any] = {"name": name}
    if metadata is not None:
        body["metadata"] = metadata
    if response is not None:
        body |= {"done": True, "response": response}
    return store.insert(connection, KIND, name, body)


def finish(
    connection: sqlite3.Connection,
    name: str,
    *,
    response: dict[str, Any] | None = None,
    error: ApiError | None = None,
    metadata: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Finish an operation with a response (must contain `@type`) or an error."""
    body = store.get(connection, KIND, name)
    body["done"] = True
    if error is not None:
        body["error"] = error.to_status()
    else:
        body["response"] = response or {"@type": "type.googleapis.com/google.protobuf.Empty"}
    if metadata is not None:
        body["metadata"] = metadata
    return store.put(connection, KIND, name, body)


def describe(connection: sqlite3.Connection, name: str, metadata: dict[str, Any]) -> None:
    """Replace the metadata of an operation."""
    store.put(connection, KIND, name, {**get(connection, name), "metadata": metadata})


def get(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """Return an operation by its full name. Raises ApiError NOT_FOUND."""
    return store.get(connection, KIND, name)
