"""IAM policies of projects."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import projects, store
from runner.emulator.iam import policies
from runner.emulator.projects import Project

POLICY_KIND = "project-policy"


def get_policy(connection: sqlite3.Connection, project: Project) -> dict[str, Any]:
    """Return the project's IAM policy: the last one that was set, or one without bindings."""
    return policies.stored(connection, POLICY_KIND, project.id)


def set_policy(connection: sqlite3.Connection, project: Project, body: dict[str, Any]) -> dict[str, Any]:
    """Apply the body of a `setIamPolicy`; return the policy with a new etag.

    Raises ApiError ABORTED (409) if the etag is stale, INVALID_ARGUMENT if a member does not exist.
    """
    projects.ensure(connection, project.id)
    return policies.replace(connection, POLICY_KIND, project.id, body)


def add_binding(connection: sqlite3.Connection, project: Project, role: str, member: str) -> None:
    """Grant a role on the project without a check of etags, as Google does for its service agents."""
    policy = get_policy(connection, project)
    bindings: list[dict[str, Any]] = policy.setdefault("bindings", [])
    for binding in bindings:
        if binding["role"] == role and "condition" not in binding:
            if member in binding["members"]:
                return
            binding["members"].append(member)
            break
    else:
        bindings.append({"role": role, "members": [member]})
    store.put(connection, POLICY_KIND, project.id, {**policy, "etag": policies.new_etag()})
