"""Enabled APIs. Every method of an API that can be disabled calls `require` first."""

from __future__ import annotations

import sqlite3

from runner.emulator import projects, store
from runner.emulator.errors import service_disabled
from runner.emulator.projects import Project

KIND = "service"

ON_BY_DEFAULT = frozenset(
    {
        "cloudresourcemanager.googleapis.com",
        "iam.googleapis.com",
        "monitoring.googleapis.com",
        "serviceusage.googleapis.com",
        "storage.googleapis.com",
    }
)
"""Enabled in every new project; all others, including Vertex AI, must be enabled."""


def is_enabled(connection: sqlite3.Connection, project: Project | str, service: str) -> bool:
    """Return whether an API is enabled in a project. Raises ApiError for an unknown project number."""
    if isinstance(project, str):
        project = projects.resolve(connection, project)
    document = store.find(connection, KIND, f"{project.id}/{service}")
    if document is None:
        return service in ON_BY_DEFAULT
    return bool(document["state"] == "ENABLED")


def require(connection: sqlite3.Connection, project: Project | str, service: str) -> None:
    """Return normally if an API is enabled in a project.

    Raises ApiError PERMISSION_DENIED with reason SERVICE_DISABLED.
    """
    if isinstance(project, str):
        project = projects.resolve(connection, project)
    if not is_enabled(connection, project, service):
        raise service_disabled(service, project.number)


def set_state(connection: sqlite3.Connection, project: Project, service: str, *, enabled: bool) -> None:
    """Enable or disable an API."""
    projects.ensure(connection, project.id)
    store.put(connection, KIND, f"{project.id}/{service}", {"state": "ENABLED" if enabled else "DISABLED"})
