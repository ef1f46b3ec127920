"""Check the access of the service's agents to the data of a job. Permissions count, not the names of roles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner import environment as environments
from runner.errors import GoogleApiError
from runner.gcp import projects, storage
from runner.gcp.session import Session
from runner.gcp.storage import BucketInfo
from runner.jobs.preflight.findings import PreflightFinding, warning

READ = frozenset({"storage.objects.get", "storage.objects.list"})
WRITE = READ | {"storage.objects.create", "storage.objects.delete"}
ROLE = "roles/storage.objectUser"
"""The role that the specification requires."""
_KNOWN = {
    ROLE: WRITE,
    "roles/storage.admin": WRITE,
    "roles/storage.objectAdmin": WRITE,
    "roles/storage.objectViewer": READ,
    "roles/storage.objectCreator": frozenset({"storage.objects.create"}),
    "roles/storage.legacyObjectReader": frozenset({"storage.objects.get"}),
    "roles/storage.legacyObjectOwner": frozenset({"storage.objects.get"}),
    "roles/storage.legacyBucketReader": frozenset({"storage.objects.list"}),
    "roles/storage.legacyBucketWriter": WRITE - {"storage.objects.get"},
    "roles/storage.legacyBucketOwner": WRITE - {"storage.objects.get"},
}
"""Roles whose permissions are known, as of 2026-04."""
_EVERYONE = frozenset({"allUsers", "allAuthenticatedUsers"})
_OPAQUE = ("group:", "domain:", "principalSet:")
"""Members that may contain an agent, which the runner cannot determine."""


def missing(
    session: Session, buckets: list[BucketInfo], needs: Mapping[str, frozenset[str]]
) -> Iterator[PreflightFinding]:
    """Yield the missing permissions of each agent on each bucket.

    Args:
        session: the project and location.
        buckets: the buckets that the job uses.
        needs: required permissions by bucket name.
    """
    agents = session.environment.service_agents
    number = next((bucket.project_number for bucket in buckets if bucket.project_number), "")
    if not agents and number:
        agents = environments.service_agents_of(number)
    if not agents:
        message = "the project's number is unknown, so the grants of its service agents were not checked"
        yield warning("agents_unknown", message, "give --environment or RUNNER_PROJECT_NUMBER")
        return
    roles = Roles(session)
    try:
        project, certain = projects.project_policy(session), True
    except GoogleApiError:
        project, certain = {}, False
    for bucket in buckets:
        try:
            policies = (project, storage.bucket_policy(session, bucket.name))
        except GoogleApiError as error:
            yield warning("denied", error.message)
            continue
        opaque = any(_opaque(policy) for policy in policies)
        for email in agents.values():
            held: set[str] = set()
            unknown: set[str] = set()
            for policy in policies:
                for role, members in policy.items():
                    if f"serviceAccount:{email}" in members or members & _EVERYONE:
                        found = roles.permissions(role)
                        held |= found or set()
                        unknown |= {role} if found is None else set()
            lacks = sorted(needs[bucket.name] - held)
            if lacks:
                role = ROLE if "storage.objects.create" in needs[bucket.name] else "roles/storage.objectViewer"
                doubt = f"; what {', '.join(sorted(unknown))} allows is unknown" if unknown else ""
                yield PreflightFinding(
                    code="agent_without_role",
                    severity="error" if certain and not unknown and not opaque else "warning",
                    message=f"{email} has no {', '.join(lacks)} on bucket {bucket.name}{doubt}",
                    fix=f"`gcloud storage buckets add-iam-policy-binding gs://{bucket.name} "
                    f"--member=serviceAccount:{email} --role={role}`, or `pulumi up`",
                )


def _opaque(policy: Mapping[str, set[str]]) -> bool:
    """Return whether a policy grants access to members that may contain an agent."""
    return any(member.startswith(_OPAQUE) for role, members in policy.items() if _KNOWN.get(role) for member in members)


class Roles:
    """The permissions of roles; each role is requested once."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._found: dict[str, frozenset[str] | None] = dict(_KNOWN)

    def permissions(self, role: str) -> frozenset[str] | None:
        """Return the permissions of a role; None if they cannot be read."""
        if role not in self._found:
            try:
                self._found[role] = projects.role_permissions(self._session, role)
            except GoogleApiError:
                # Other predefined roles contain no permissions that a job needs; a custom role may.
                self._found[role] = None if role.startswith(("projects/", "organizations/")) else frozenset()
        return self._found[role]
