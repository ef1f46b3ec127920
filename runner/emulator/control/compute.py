"""The requests of provisioning tools to Compute Engine: a project by its number, and the regions."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import paging, projects
from runner.emulator.errors import not_found
from runner.emulator.regions import REGIONS
from runner.emulator.resources import reading
from runner.emulator.routing import ApiRequest


@reading
def get_project(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a project by id or number."""
    project = projects.resolve(connection, request.fields["project"])
    link = f"{request.base}/compute/v1/projects/{project.id}"
    return {"kind": "compute#project", "id": project.number, "name": project.id, "selfLink": link}


def _region(request: ApiRequest, project: projects.Project, name: str) -> dict[str, Any]:
    link = f"{request.base}/compute/v1/projects/{project.id}/regions/{name}"
    number = projects.number_of(name)
    return {"kind": "compute#region", "id": number, "name": name, "status": "UP", "selfLink": link}


@reading
def list_regions(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """List the regions."""
    project = projects.resolve(connection, request.fields["project"])
    query = request.query_params
    names, token = paging.page(REGIONS, query.get("maxResults"), query.get("pageToken"), default=500, maximum=500)
    return {
        "kind": "compute#regionList",
        "id": f"projects/{project.id}/regions",
        "items": [_region(request, project, name) for name in names],
        **({"nextPageToken": token} if token else {}),
    }


@reading
def get_region(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a region."""
    project = projects.resolve(connection, request.fields["project"])
    name = request.fields["region"]
    if name not in REGIONS:
        raise not_found(f"The resource 'projects/{project.id}/regions/{name}' was not found")
    return _region(request, project, name)
