"""What a project's own policy grants."""

from __future__ import annotations

from runner.gcp.session import Session
from runner.gcp.storage import unconditional

_IAM = "https://iam.googleapis.com"
_RESOURCE_MANAGER = "https://cloudresourcemanager.googleapis.com"


def project_policy(session: Session) -> dict[str, set[str]]:
    """Return the members of each role bound on the project.

    See `unconditional` for those that are left out. A custom address of Vertex AI is asked for this too.

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
    """Return the number of a project. Raises PermissionDeniedError, which stands for one that does not exist too."""
    base = session.environment.vertex_url or _RESOURCE_MANAGER
    found = session.ask("GET", f"{base}/v1/projects/{project}", "projects.get", f"projects/{project}")
    return str(found.get("projectNumber", ""))


def role_permissions(session: Session, role: str) -> frozenset[str]:
    """Return the permissions of a role, predefined (`roles/…`) or custom (`projects/P/roles/…`).

    Raises:
        NotFoundError: there is no such role.
        PermissionDeniedError: the caller may not read it.
    """
    base = session.environment.vertex_url or _IAM
    body = session.ask("GET", f"{base}/v1/{role}", "roles.get", role)
    return frozenset() if body.get("deleted") else frozenset(map(str, body.get("includedPermissions", [])))
