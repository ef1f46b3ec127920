"""The project and location in a path, and whether Vertex AI is enabled there."""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass

from runner.catalog import load_catalog
from runner.emulator import enablement, projects
from runner.emulator.errors import invalid
from runner.emulator.projects import Project
from runner.emulator.regions import REGIONS

SERVICE = "aiplatform.googleapis.com"

PARENT = "/{version=v1|v1beta1}/projects/{project}/locations/{location}"
"""Path template of all resources in a location."""

LOCATIONS = frozenset({*REGIONS, *(location.id for location in load_catalog().locations), "global", "us", "eu"})
"""The locations of Vertex AI."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A location of a project."""

    project: Project
    location: str

    @property
    def name(self) -> str:
        """Return `projects/NUMBER/locations/LOCATION`: the service always returns project numbers."""
        return f"projects/{self.project.number}/locations/{self.location}"


def resolve(connection: sqlite3.Connection, fields: Mapping[str, str]) -> Scope:
    """Return the scope of a path's `project` and `location`.

    Raises:
        ApiError: PERMISSION_DENIED (SERVICE_DISABLED) if Vertex AI is disabled in the project; INVALID_ARGUMENT for a
            location that does not exist.
    """
    project = projects.resolve(connection, fields["project"])
    enablement.require(connection, project, SERVICE)
    location = fields["location"]
    if location not in LOCATIONS:
        raise invalid(f"Location {location!r} is not found or access is unauthorized.")
    return Scope(project, location)


def split_name(connection: sqlite3.Connection, name: str, collection: str) -> tuple[Scope, str]:
    """Return the scope and ID of `projects/P/locations/L/<collection>/ID`; the project can be an ID or a number.

    Raises:
        ApiError: INVALID_ARGUMENT for another form; and the errors of `resolve`.
    """
    match = re.fullmatch(rf"projects/([^/]+)/locations/([^/]+)/{collection}/([^/]+)", name)
    if match is None:
        raise invalid(f"Invalid resource name: {name!r}; expected projects/P/locations/L/{collection}/ID.")
    return resolve(connection, {"project": match[1], "location": match[2]}), match[3]


def new_id() -> str:
    """Return a random 19-digit ID like those of the service."""
    return str(10**18 + secrets.randbelow(9 * 10**18))


def missing(name: str) -> str:
    """Return the service's message for a resource that does not exist."""
    kind = {"tuningJobs": "TuningJob", "endpoints": "Endpoint", "models": "Model"}.get(name.split("/")[-2], "Resource")
    return f"The {kind} {name} is not found."
