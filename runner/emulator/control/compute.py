"""What a provisioning tool asks Compute Engine: which project has this number, and which regions are there."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from runner.emulator import paging, projects
from runner.emulator.errors import not_found
from runner.emulator.regions import REGIONS
from runner.emulator.resources import read
from runner.emulator.routing import ApiRequest, json_response


async def get_project(request: ApiRequest) -> Response:
    """Return a project by id or number."""
    project = read(request, lambda connection: projects.resolve(connection, request.fields["project"]))
    link = f"{request.base}/compute/v1/projects/{project.id}"
    return json_response({"kind": "compute#project", "id": project.number, "name": project.id, "selfLink": link})


def _region(request: ApiRequest, project: projects.Project, name: str) -> dict[str, Any]:
    link = f"{request.base}/compute/v1/projects/{project.id}/regions/{name}"
    number = projects.number_of(name)
    return {"kind": "compute#region", "id": number, "name": name, "status": "UP", "selfLink": link}


async def list_regions(request: ApiRequest) -> Response:
    """List the regions."""
    project = read(request, lambda connection: projects.resolve(connection, request.fields["project"]))
    query = request.query_params
    names, token = paging.page(REGIONS, query.get("maxResults"), query.get("pageToken"), default=500, maximum=500)
    body: dict[str, Any] = {
        "kind": "compute#regionList",
        "id": f"projects/{project.id}/regions",
        "items": [_region(request, project, name) for name in names],
    }
    if token:
        body["nextPageToken"] = token
    return json_response(body)


async def get_region(request: ApiRequest) -> Response:
    """Return a region."""
    project = read(request, lambda connection: projects.resolve(connection, request.fields["project"]))
    name = request.fields["region"]
    if name not in REGIONS:
        raise not_found(f"The resource 'projects/{project.id}/regions/{name}' was not found")
    return json_response(_region(request, project, name))
