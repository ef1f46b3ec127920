"""What a provisioning tool asks Compute Engine: which project has this number, and which regions are there."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from runner.emulator import paging
from runner.emulator.cloudresourcemanager import projects
from runner.emulator.control.resources import read
from runner.emulator.errors import not_found
from runner.emulator.routing import ApiRequest, json_response

REGIONS = (
    "africa-south1",
    "asia-east1",
    "asia-east2",
    "asia-northeast1",
    "asia-northeast2",
    "asia-northeast3",
    "asia-south1",
    "asia-south2",
    "asia-southeast1",
    "asia-southeast2",
    "australia-southeast1",
    "australia-southeast2",
    "europe-central2",
    "europe-north1",
    "europe-north2",
    "europe-southwest1",
    "europe-west1",
    "europe-west10",
    "europe-west12",
    "europe-west2",
    "europe-west3",
    "europe-west4",
    "europe-west6",
    "europe-west8",
    "europe-west9",
    "me-central1",
    "me-central2",
    "me-west1",
    "northamerica-northeast1",
    "northamerica-northeast2",
    "northamerica-south1",
    "southamerica-east1",
    "southamerica-west1",
    "us-central1",
    "us-east1",
    "us-east4",
    "us-east5",
    "us-south1",
    "us-west1",
    "us-west2",
    "us-west3",
    "us-west4",
)
"""Google Cloud's public regions, as of 2026."""


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
