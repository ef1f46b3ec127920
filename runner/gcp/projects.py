"""The grants in a project's own policy."""

from __future__ import annotations

from runner.gcp.session import Session
from runner.gcp.storage import unconditional

_IAM = "https://iam.googleapis.com"
_RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"


def project_policy(session: Session) -> dict[str, set[str]]:
    """Return the members of each role in the project's policy.

    See `unconditional` for omitted members. A custom address of Vertex AI also gets this request.

    Raises:
        PermissionDeniedError: the caller may not read the policy.
    """
    session.environment.require("project")
    project = session.environment.project
    base = session.environment.vertex_url or _RESOURCE_MANAGER

    url, name = f"{base}/v1/projects/{project}:getIamPolicy", f"projects/{project}"
    body = {"options": {"requestedPolicyVersion": 3}}
    return unconditional(session.ask("POST", url, "projects.getIamPolicy", name, json=body, idempotent=True))


def project_number(session: Session, project: str) -> str:
    """Return the number of a project. Raises PermissionDeniedError, also for a project that does not exist."""
    base = session.environment.vertex_url or _RESOURCE_MANAGER
    found = session.ask("GET", f"{base}/v1/projects/{project}", "projects.get", f"projects/{project}")
    return str(found.get("projectNumber", ""))


def role_permissions(session: Session, role: str) -> frozenset[str]:
    """Return the permissions of a role, predefined (`roles/…`) or custom (`projects/P/roles/…`).

    Raises:
        NotFoundError: the role does not exist.
        PermissionDeniedError: the caller may not read it.
    """
    base = session.environment.vertex_url or _IAM
    body = session.ask("GET", f"{base}/v1/{role}", "roles.get", role)
    return frozenset() if body.get("deleted") else frozenset(map(str, body.get("includedPermissions", [])))
