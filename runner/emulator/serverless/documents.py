"""Shared parts of functions and schedules: a location, an API that must be enabled, finished operations."""

from __future__ import annotations

import re
import secrets
import sqlite3
from typing import Any

from runner.emulator import enablement, operations, projects
from runner.emulator.errors import invalid
from runner.emulator.routing import ApiRequest

Document = dict[str, Any]
_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")


def parent(connection: sqlite3.Connection, request: ApiRequest, service: str) -> str:
    """Return `projects/P/locations/L` of a request. Raises ApiError if the API is disabled or the project unknown."""
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, service)
    return f"projects/{project.id}/locations/{request.fields['location']}"


def check_id(text: str) -> str:
    """Return an ID. Raises ApiError INVALID_ARGUMENT for an ID that the service would refuse."""
    if not _ID.match(text):
        raise invalid(f"Invalid id {text!r}: a lower-case letter, then letters, digits and -, at most 63.")
    return text


def done(connection: sqlite3.Connection, parent_: str, response: Document) -> Document:
    """Return a finished operation."""
    return operations.create(connection, f"{parent_}/operations/operation-{secrets.token_hex(8)}", response=response)
