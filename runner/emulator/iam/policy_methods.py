"""getIamPolicy, setIamPolicy and testIamPermissions of resources whose policies are stored as documents."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, NamedTuple

from runner.emulator.iam import callers, policies, project_policies
from runner.emulator.projects import resolve
from runner.emulator.resources import reading, writing
from runner.emulator.routing import ApiRequest, Handler

Policy = dict[str, Any]


class PolicyMethods(NamedTuple):
    """The handlers of one kind of resource."""

    get: Handler
    set: Handler
    test: Handler


def of_project(connection: sqlite3.Connection, request: ApiRequest) -> list[Policy]:
    """Return the policy of the project in a path."""
    return [project_policies.get_policy(connection, resolve(connection, request.fields["project"]))]


def policy_methods(
    kind: str,
    named: Callable[[sqlite3.Connection, ApiRequest], str],
    above: Callable[[sqlite3.Connection, ApiRequest], list[Policy]] = of_project,
) -> PolicyMethods:
    """Return the handlers.

    Args:
        kind: kind of the documents.
        named: returns the name under which the policy of a path's resource is stored. Raises ApiError NOT_FOUND.
        above: returns the policies that count beside it.
    """

    @reading
    def get(connection: sqlite3.Connection, request: ApiRequest) -> Policy:
        return policies.stored(connection, kind, named(connection, request))

    @writing
    def replace(connection: sqlite3.Connection, request: ApiRequest) -> Policy:
        return policies.replace(connection, kind, named(connection, request), request.document)

    @reading
    def test(connection: sqlite3.Connection, request: ApiRequest) -> Policy:
        own = policies.stored(connection, kind, named(connection, request))
        return callers.permissions(connection, request, [own, *above(connection, request)])

    return PolicyMethods(get, replace, test)
