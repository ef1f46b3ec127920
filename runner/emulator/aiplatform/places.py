"""Locations of Vertex AI, and the agreements to models' licenses, which a project gives once."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.catalog import UnknownModelError, find_model
from runner.emulator import enablement, projects, store
from runner.emulator.aiplatform import collections, scope
from runner.emulator.aiplatform.model_garden import AGREEMENT, public_name
from runner.emulator.errors import ApiError, invalid
from runner.emulator.routing import ApiRequest, Method, json_response


def _location(where: scope.Scope) -> dict[str, Any]:
    return {"name": f"projects/{where.project.id}/locations/{where.location}", "locationId": where.location}


async def get_location(request: ApiRequest) -> Response:
    """Return a location."""
    return json_response(
        request.emulator.store.read(lambda connection: _location(scope.resolve(connection, request.fields)))
    )


async def list_locations(request: ApiRequest) -> Response:
    """Return one page of the locations."""

    def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        project = projects.resolve(connection, request.fields["project"])
        enablement.require(connection, project, scope.SERVICE)
        return [_location(scope.Scope(project, one)) for one in sorted(scope.LOCATIONS)]

    return collections.page(request, "locations", request.emulator.store.read(work))


async def accept(request: ApiRequest) -> Response:
    """Record that a project agrees to a model's license."""
    model = _model(await request.read_json())

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        project = projects.ensure(connection, request.fields["project"])
        enablement.require(connection, project, scope.SERVICE)
        store.put(connection, AGREEMENT, f"{project.id}/{model}", {})
        return {"projectNumber": project.number, "publisherModel": model, "publisherModelEulaAcked": True}

    return json_response(await request.emulator.store.write(work))


async def check(request: ApiRequest) -> Response:
    """Tell whether a project agrees to a model's license."""
    model = _model(await request.read_json())

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        project = projects.resolve(connection, request.fields["project"])
        enablement.require(connection, project, scope.SERVICE)
        answer = {"projectNumber": project.number, "publisherModel": model}
        agreed = store.find(connection, AGREEMENT, f"{project.id}/{model}") is not None
        return answer | ({"publisherModelEulaAcked": True} if agreed else {})

    return json_response(request.emulator.store.read(work))


def _model(body: dict[str, Any]) -> str:
    """Return the full name of the model that a request is about. Raises ApiError INVALID_ARGUMENT, NOT_FOUND."""
    name = body.get("publisherModel")
    if not name:
        raise invalid("The publisher_model field is required.")
    try:
        return public_name(find_model(name))
    except UnknownModelError as error:
        raise ApiError("NOT_FOUND", f"Publisher model {name} is not found.") from error


_PROJECT = "/{version=v1|v1beta1}/projects/{project}"
_EULA = "aiplatform.projects.modelGardenEula"
METHODS = [
    Method("aiplatform.projects.locations.list", "GET", f"{_PROJECT}/locations", list_locations),
    Method("aiplatform.projects.locations.get", "GET", scope.PARENT, get_location),
    Method(f"{_EULA}.accept", "POST", f"{_PROJECT}/modelGardenEula:accept", accept),
    Method(f"{_EULA}.check", "POST", f"{_PROJECT}/modelGardenEula:check", check),
]
