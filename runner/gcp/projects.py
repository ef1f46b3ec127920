"""What a project's own policy grants."""

from __future__ import annotations

from typing import Any

from runner.gcp.failures import call, check
from runner.gcp.session import Session

_IAM = "https://iam.googleapis.com"
_RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"


def project_policy(session: Session) -> dict[str, set[str]]:
    """Return the members of each role bound on the project.

    Conditional bindings are left out: whether they hold is not known here. A custom address of Vertex AI is asked for
    this too.

    Raises:
        PermissionDeniedError: the caller may not read the policy.
    """
    session.environment.require("project")
    project = session.environment.project
    base = session.environment.vertex_url or _RESOURCE_MANAGER

    def read() -> dict[str, Any]:
        body = {"options": {"requestedPolicyVersion": 3}}
        response = session.http.post(f"{base}/v1/projects/{project}:getIamPolicy", json=body)
        return check(response, "projects.getIamPolicy", f"projects/{project}")

    policy = call("projects.getIamPolicy", f"projects/{project}", read, idempotent=True)
    roles: dict[str, set[str]] = {}
    for binding in policy.get("bindings", []):
        if not binding.get("condition"):
            roles.setdefault(str(binding.get("role", "")), set()).update(binding.get("members", []))
    return roles


def role_permissions(session: Session, role: str) -> frozenset[str]:
    """Return the permissions of a role, predefined (`roles/…`) or custom (`projects/P/roles/…`).

    Raises:
        NotFoundError: there is no such role.
        PermissionDeniedError: the caller may not read it.
    """
    base = session.environment.vertex_url or _IAM

    def read() -> dict[str, Any]:
        return check(session.http.get(f"{base}/v1/{role}"), "roles.get", role)

    body = call("roles.get", role, read, idempotent=True)
    return frozenset() if body.get("deleted") else frozenset(map(str, body.get("includedPermissions", [])))
