"""The accounts of pipelines hold what they use: deploying makes and changes a whole stack, previewing reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.components.pipelines import DEPLOY_PERMISSIONS, DEPLOY_ROLE_ID, DEPLOY_ROLES
from infra.embedded import EmbeddedError
from infra.trust import reading
from runner.emulator.iam.roles import ROLES
from runner.emulator.server import EmulatorServer
from tests.infra import needs as called_methods
from tests.infra.embedded_stack import GUARDRAILS, Stack
from tests.infra.needs import permissions, recorded

emulator = called_methods.emulator
WHOLE = {**GUARDRAILS, "idleGuard": "true"}
CHANGED = {**WHOLE, "labels": '{"team": "other"}', "concurrentTuningJobs": "4", "idleGuardMinutes": "30"}
LESS = {
    key: value
    for key, value in CHANGED.items()
    if key not in {"idleGuard", "notificationEmails", "concurrentTuningJobs"}
}
_APIS = ("iam", "iamcredentials", "cloudresourcemanager", "serviceusage")


@pytest.fixture
def bare(emulator: EmulatorServer, tmp_path: Path, request: pytest.FixtureRequest) -> Stack:
    """A project with nothing but the deploying account, as bootstrapping leaves it."""
    project_id = f"pipelines-{abs(hash(request.node.name)) % 10**6}"
    stack = Stack(emulator.url, project_id, tmp_path / "stack.json")
    project = f"/v1/projects/{stack.project}"
    stack.request("GET", project)
    stack.request(
        "POST", f"{project}/services:batchEnable", {"serviceIds": [f"{name}.googleapis.com" for name in _APIS]}
    )
    named = {"displayName": "Open model tuning deploy"}  # or it would be somebody else's
    stack.request("POST", f"{project}/serviceAccounts", {"accountId": "tuning-deploy", "serviceAccount": named})
    role = {"title": named["displayName"], "includedPermissions": list(DEPLOY_PERMISSIONS)}
    stack.request("POST", f"{project}/roles", {"roleId": DEPLOY_ROLE_ID, "role": role})
    policy = stack.request("POST", f"{project}:getIamPolicy", {})
    held = [*DEPLOY_ROLES, f"projects/{stack.project}/roles/{DEPLOY_ROLE_ID}"]
    policy["bindings"] = [{"role": role, "members": [f"serviceAccount:{_email(stack)}"]} for role in held]
    stack.request("POST", f"{project}:setIamPolicy", {"policy": policy})
    return stack


def _email(stack: Stack, account: str = "deploy") -> str:
    return f"tuning-{account}@{stack.project}.iam.gserviceaccount.com"


def _token(stack: Stack, account: str = "deploy") -> str:
    body = {"scope": ["https://www.googleapis.com/auth/cloud-platform"]}
    path = f"/v1/projects/-/serviceAccounts/{_email(stack, account)}:generateAccessToken"
    return str(stack.request("POST", path, body)["accessToken"])


def test_deploying_uses_all_that_it_holds_of_its_own_role_and_needs_no_more(bare: Stack) -> None:
    token = {"gcp:accessToken": _token(bare)}
    with recorded(bare.url) as called:
        bare.apply(**WHOLE, **token)
        bare.apply(**CHANGED, **token)
        bare.apply(**LESS, **token)
    used = permissions(called)
    predefined = frozenset().union(*(ROLES[role] for role in DEPLOY_ROLES))
    assert used <= predefined | set(DEPLOY_PERMISSIONS)
    # Every kind of its own role is used; the emulator asks nothing for a service of Run but its policy.
    kinds = {name.rpartition(".")[0] for name in used}
    assert {name.rpartition(".")[0] for name in DEPLOY_PERMISSIONS} <= kinds
    # What is updated and deleted depends on the change.
    unused = set(DEPLOY_PERMISSIONS) - used - {"run.services.get"}
    assert all(name.endswith((".delete", ".update", ".list")) for name in unused), unused


def test_previewing_reads_and_cannot_change(bare: Stack) -> None:
    bare.apply(**WHOLE)
    with recorded(bare.url) as called:
        bare.apply(**WHOLE)  # nothing is to be changed: it compares
    read = {name for name in permissions(called) if name.endswith((".get", ".list", ".getIamPolicy"))}
    assert read
    assert read <= set(reading.permissions())
    with pytest.raises(EmbeddedError, match="403"):
        bare.apply(**CHANGED, **{"gcp:accessToken": _token(bare, "preview")})


@pytest.mark.parametrize("permission", DEPLOY_PERMISSIONS)
def test_each_permission_is_of_a_type_that_the_stack_has(permission: str) -> None:
    """What is created, updated or deleted is read by a preview, or is the policy of one that is."""
    kind = permission.rpartition(".")[0]
    assert [name for name in reading.permissions() if name.startswith(f"{kind}.")], permission
