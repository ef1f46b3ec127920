"""Locations of Vertex AI, and a project's agreements to models' licenses."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.catalog import UnknownModelError, find_model
from runner.emulator import enablement, projects, store
from runner.emulator.aiplatform import scope
from runner.emulator.aiplatform.model_garden import AGREEMENT, public_name
from runner.emulator.errors import ApiError, invalid
from runner.emulator.resources import listing, reading, writing
from runner.emulator.routing import ApiRequest, Method


def _location(where: scope.Scope) -> dict[str, Any]:
    return {"name": f"projects/{where.project.id}/locations/{where.location}", "locationId": where.location}


@reading
def get_location(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a location."""
    return _location(scope.resolve(connection, request.fields))


@listing("locations", filtered=True)
def list_locations(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the locations."""
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, scope.SERVICE)
    return [_location(scope.Scope(project, one)) for one in sorted(scope.LOCATIONS)]


@writing
def accept(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Record that a project agrees to a model's license."""
    model = _model(request.document)
    project = projects.ensure(connection, request.fields["project"])
    enablement.require(connection, project, scope.SERVICE)
    store.put(connection, AGREEMENT, f"{project.id}/{model}", {})
    return {"projectNumber": project.number, "publisherModel": model, "publisherModelEulaAcked": True}


@reading
def check(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return whether a project agrees to a model's license."""
    model = _model(request.document)
    project = projects.resolve(connection, request.fields["project"])
    enablement.require(connection, project, scope.SERVICE)
    answer = {"projectNumber": project.number, "publisherModel": model}
    agreed = store.find(connection, AGREEMENT, f"{project.id}/{model}") is not None
    return answer | ({"publisherModelEulaAcked": True} if agreed else {})


def _model(body: dict[str, Any]) -> str:
    """Return the full name of the model in a request. Raises ApiError INVALID_ARGUMENT, NOT_FOUND."""
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
