"""IAM policies of endpoints and models: kept, evaluated for `testIamPermissions`, and not enforced on requests."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from runner.emulator import projects
from runner.emulator.aiplatform import endpoints, models, scope
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.iam import callers, policies, project_policies
from runner.emulator.resources import reading, writing
from runner.emulator.routing import ApiRequest, Method

KIND = "aiplatform-policy"

_FIND: dict[str, Callable[[sqlite3.Connection, str], Any]] = {"endpoints": endpoints.get, "models": models.get}


def _name(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the full name of the endpoint or model of a path. Raises ApiError NOT_FOUND."""
    collection = request.fields["collection"]
    name = f"{scope.resolve(connection, request.fields).name}/{collection}/{request.fields['resource']}"
    _FIND[collection](connection, name)
    return name


@reading
def get_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return the policy."""
    return policies.stored(connection, KIND, _name(connection, request))


@writing
def set_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Replace the policy."""
    return policies.replace(connection, KIND, _name(connection, request), request.document)


@reading
def test_permissions(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Tell which of the given permissions the caller has."""
    project = projects.resolve(connection, request.fields["project"])
    chain = [
        policies.stored(connection, KIND, _name(connection, request)),
        project_policies.get_policy(connection, project),
    ]
    found = callers.held(connection, request, chain, request.query_params.getlist("permissions"))
    return {"permissions": found} if found else {}


METHODS = [
    Method(f"aiplatform.projects.locations.{collection}.{verb}", "POST", f"{path}:{verb}", handler)
    for collection in _FIND
    for path in (f"{PARENT}/{{collection={collection}}}/{{resource}}",)
    for verb, handler in (
        ("getIamPolicy", get_policy),
        ("setIamPolicy", set_policy),
        ("testIamPermissions", test_permissions),
    )
]
