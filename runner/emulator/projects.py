"""Projects, which exist without being created, with a number that is derived from the ID.

Every valid project ID is a project. Its number is computed, so that a read can return it before anything was written.
The reverse, from number to ID, needs the row that `ensure` writes.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from dataclasses import dataclass

from runner.emulator import store
from runner.emulator.clock import Clock
from runner.emulator.errors import ApiError, invalid

KIND = "project"
NUMBER_KIND = "project-number"

# Google: 6 to 30 lowercase letters, digits and hyphens, starting with a letter, optionally with a domain. Shorter IDs
# are accepted.
_ID = re.compile(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{0,61}[a-z0-9]?\Z")


@dataclass(frozen=True, slots=True)
class Project:
    """A project's id and its 12-digit number, as decimal text."""

    id: str
    number: str


def number_of(project_id: str) -> str:
    """Return the number of a project ID: 12 digits, the first of them not 0."""
    digest = hashlib.sha256(project_id.encode()).digest()
    return str(10**11 + int.from_bytes(digest[:8], "big") % (9 * 10**11))


def resolve(connection: sqlite3.Connection, id_or_number: str) -> Project:
    """Return the project in a path, by its ID or its number; can be called on a read connection.

    Raises:
        ApiError: PERMISSION_DENIED for an unknown number (Google does not reveal whether it exists), INVALID_ARGUMENT
            for other texts.
    """
    if id_or_number.isdigit():
        row = store.find(connection, NUMBER_KIND, id_or_number)
        if row is None:
            raise _denied(id_or_number)
        return Project(row["id"], id_or_number)
    if not _ID.match(id_or_number):
        raise invalid(f"Project '{id_or_number}' is not a valid project id.")
    return Project(id_or_number, number_of(id_or_number))


def ensure(connection: sqlite3.Connection, project_id: str) -> Project:
    """Record the project, so that it can be found by its number, and return it.

    Also accepts a known number. Raises ApiError like `resolve`.
    """
    project = resolve(connection, project_id)
    if store.find(connection, KIND, project.id) is None:
        other = store.find(connection, NUMBER_KIND, project.number)
        if other is not None and other["id"] != project.id:
            raise ApiError(
                "INTERNAL",
                f"The projects '{project.id}' and '{other['id']}' would share the number {project.number}: "
                "choose another id.",
            )
        store.put(connection, KIND, project.id, {"number": project.number, "createTime": Clock().timestamp()})
        store.put(connection, NUMBER_KIND, project.number, {"id": project.id})
    return project


def known(connection: sqlite3.Connection, number: str) -> bool:
    """Return whether `ensure` has recorded a project of this number."""
    return store.find(connection, NUMBER_KIND, number) is not None


def _denied(number: str) -> ApiError:
    return ApiError("PERMISSION_DENIED", f"Permission denied on resource project {number}.", reason="forbidden")
