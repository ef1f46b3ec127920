"""IAM policies of endpoints and models: stored, evaluated for `testIamPermissions`, but not enforced for requests."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from runner.emulator.aiplatform import endpoints, models, scope
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.iam.policy_methods import policy_methods
from runner.emulator.routing import ApiRequest, Method

KIND = "aiplatform-policy"

_FIND: dict[str, Callable[[sqlite3.Connection, str], Any]] = {"endpoints": endpoints.get, "models": models.get}


def _name(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the full name of the endpoint or model in a path. Raises ApiError NOT_FOUND."""
    collection = request.fields["collection"]
    name = f"{scope.resolve(connection, request.fields).name}/{collection}/{request.fields['resource']}"
    _FIND[collection](connection, name)
    return name


_POLICY = policy_methods(KIND, _name)

METHODS = [
    Method(f"aiplatform.projects.locations.{collection}.{verb}", "POST", f"{path}:{verb}", handler)
    for collection in _FIND
    for path in (f"{PARENT}/{{collection={collection}}}/{{resource}}",)
    for verb, handler in zip(("getIamPolicy", "setIamPolicy", "testIamPermissions"), _POLICY, strict=True)
]
