"""What the documents of functions and schedules share: a location, an API that has to be on, finished operations."""

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
    """Return `projects/P/locations/L` of a request. Raises ApiError when the API is off or the project unknown."""
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, service)
    return f"projects/{project.id}/locations/{request.fields['location']}"


def check_id(text: str) -> str:
    """Return an id. Raises ApiError INVALID_ARGUMENT for one that the service would refuse."""
    if not _ID.match(text):
        raise invalid(f"Invalid id {text!r}: a lower-case letter, then letters, digits and -, at most 63.")
    return text


def done(connection: sqlite3.Connection, parent_: str, response: Document) -> Document:
    """Return an operation that has ended already."""
    return operations.create(connection, f"{parent_}/operations/operation-{secrets.token_hex(8)}", response=response)
