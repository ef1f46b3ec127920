"""Policies: what they grant, what they may hold, and changing them together."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from runner.emulator import projects
from runner.emulator.errors import ApiError
from runner.emulator.iam import agents, policies
from runner.emulator.iam.roles import ROLES
from runner.emulator.server import EmulatorServer
from tests.emulator.control.conftest import Call

_MEMBER = "serviceAccount:a@b.iam.gserviceaccount.com"


def _policy(role: str, *members: str, condition: str | None = None) -> dict[str, Any]:
    binding: dict[str, Any] = {"role": role, "members": list(members)}
    if condition is not None:
        binding["condition"] = {"title": "t", "expression": condition}
    return {"bindings": [binding]}


def _nothing() -> sqlite3.Connection:
    """Return a store without roles of a project's own; predefined ones need none."""
    return sqlite3.connect(":memory:")


@pytest.mark.parametrize(
    ("role", "permission", "granted"),
    [
        ("roles/storage.objectUser", "storage.objects.get", True),
        ("roles/storage.objectUser", "storage.objects.create", True),
        ("roles/storage.objectUser", "storage.objects.delete", True),
        ("roles/storage.objectUser", "storage.buckets.get", False),
        ("roles/storage.objectUser", "storage.objects.setIamPolicy", False),
        ("roles/storage.objectViewer", "storage.objects.list", True),
        ("roles/storage.objectViewer", "storage.objects.create", False),
        ("roles/storage.objectCreator", "storage.objects.get", False),
        ("roles/storage.objectCreator", "storage.objects.create", True),
        ("roles/storage.objectAdmin", "storage.objects.setIamPolicy", True),
        ("roles/storage.admin", "storage.buckets.delete", True),
        ("roles/storage.legacyBucketReader", "storage.buckets.get", True),
        ("roles/storage.legacyBucketReader", "storage.objects.get", False),
        ("roles/storage.legacyObjectReader", "storage.objects.get", True),
        ("roles/aiplatform.serviceAgent", "storage.objects.get", False),
        ("roles/aiplatform.tuningServiceAgent", "storage.objects.get", False),
        ("roles/aiplatform.user", "aiplatform.tuningJobs.create", True),
        ("roles/viewer", "aiplatform.tuningJobs.create", False),
        ("roles/owner", "resourcemanager.projects.setIamPolicy", True),
        ("roles/editor", "resourcemanager.projects.setIamPolicy", False),
        ("roles/unheard.of", "storage.objects.get", False),
    ],
)
def test_roles_grant_what_google_says(role: str, permission: str, granted: bool) -> None:
    assert policies.has_permission(_nothing(), _policy(role, _MEMBER), _MEMBER, permission) is granted
    assert policies.has_permission(_nothing(), _policy(role, "user:c@d.org"), _MEMBER, permission) is False
    assert policies.has_permission(_nothing(), _policy(role, "allUsers"), _MEMBER, permission) is granted


@pytest.mark.parametrize(
    ("expression", "resource", "granted"),
    [
        (
            'resource.name.startsWith("projects/_/buckets/b/objects/train/")',
            "projects/_/buckets/b/objects/train/x",
            True,
        ),
        (
            "resource.name.startsWith('projects/_/buckets/b/objects/train/')",
            "projects/_/buckets/b/objects/train/x",
            True,
        ),
        (
            'resource.name.startsWith("projects/_/buckets/b/objects/train/")',
            "projects/_/buckets/b/objects/test/x",
            False,
        ),
        ('resource.name.startsWith("projects/_/buckets/b/objects/train/")', "", False),
        ('request.time < timestamp("2030-01-01T00:00:00Z")', "projects/_/buckets/b/objects/x", False),
        ('resource.name.startsWith("p") || true', "p", False),
    ],
)
def test_a_condition_grants_only_when_it_is_understood_and_holds(expression: str, resource: str, granted: bool) -> None:
    policy = _policy("roles/storage.objectViewer", _MEMBER, condition=expression)
    assert policies.has_permission(_nothing(), policy, _MEMBER, "storage.objects.get", resource=resource) is granted


def test_every_permission_is_a_service_a_kind_and_a_verb() -> None:
    assert {name for names in ROLES.values() for name in names if name.count(".") != 2 or " " in name} == set()


@pytest.mark.parametrize(
    "member",
    [
        "user:someone@example.com",
        "group:team@example.com",
        "domain:example.com",
        "allUsers",
        "allAuthenticatedUsers",
        "projectViewer:some-project",
        "deleted:serviceAccount:a@b.iam.gserviceaccount.com?uid=123",
        "serviceAccount:some-project.svc.id.goog[ns/account]",
        "principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/subject/s",
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/attribute.repository/a/b",
        "principalSet://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/*",
        "principalSet://iam.googleapis.com/locations/global/workforcePools/p/group/g",
        "principalSet://cloudresourcemanager.googleapis.com/projects/1/type/ServiceAccount",
    ],
)
def test_well_formed_members_are_kept(call: Call, bare: str, member: str) -> None:
    answer = call("POST", f"/v1/projects/{bare}:setIamPolicy", {"policy": _policy("roles/viewer", member)})
    assert answer["bindings"] == [{"role": "roles/viewer", "members": [member]}]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (_policy("roles/viewer", "someone@example.com"), "of an unknown type"),
        (_policy("roles/viewer", "principalSet://iam.googleapis.com/my-pool/attribute.repository/x/y"), "unknown type"),
        (
            _policy("roles/viewer", "principal://iam.googleapis.com/projects/p/locations/global/pools/p/subject/s"),
            "of an unknown type",
        ),
        (_policy("roles/viewer", "user:nobody"), "not a valid member"),
        (_policy("viewer", "allUsers"), "Role (viewer)"),
        (_policy("roles/viewer", "serviceAccount:a@b.iam.gserviceaccount.com"), "does not exist"),
        (
            _policy("roles/viewer", "serviceAccount:service-1@gcp-sa-aiplatform.iam.gserviceaccount.com"),
            "does not exist",
        ),
        (_policy("roles/viewer", "allUsers", condition="true"), "version 3"),
        ({"bindings": "all"}, "Invalid value at 'policy.bindings'"),
        ({"bindings": [{"role": "roles/viewer", "members": "allUsers"}]}, "policy.bindings[0].members"),
        ({"version": 7}, "version"),
        ("text", "Invalid value at 'policy'"),
    ],
)
def test_a_policy_that_google_refuses_is_refused(call: Call, bare: str, policy: Any, words: str) -> None:
    error = call("POST", f"/v1/projects/{bare}:setIamPolicy", {"policy": policy}, expect=400)["error"]
    assert words in error["message"]
    assert error["status"] == "INVALID_ARGUMENT"


def test_the_tuning_agent_can_be_named_only_once_it_exists(emulator: EmulatorServer, call: Call, bare: str) -> None:
    number = call("GET", f"/v1/projects/{bare}")["projectNumber"]
    member = f"serviceAccount:{agents.tuning_agent(number)}"
    body = {"policy": _policy("roles/storage.objectUser", member)}
    error = call("POST", f"/v1/projects/{bare}:setIamPolicy", body, expect=400)["error"]
    assert error["message"] == f"Service account {agents.tuning_agent(number)} does not exist."
    emulator.emulator.store.write_sync(
        lambda connection: agents.generate(connection, projects.resolve(connection, bare), agents.AIPLATFORM)
    )
    call("POST", f"/v1/projects/{bare}:setIamPolicy", body)


def test_a_stale_etag_is_a_conflict_and_nothing_is_lost(call: Call, bare: str) -> None:
    first = call("POST", f"/v1/projects/{bare}:getIamPolicy", {})
    assert call("POST", f"/v1/projects/{bare}:getIamPolicy", {}) == first
    policy = {**_policy("roles/viewer", "allUsers"), "etag": first["etag"]}
    second = call("POST", f"/v1/projects/{bare}:setIamPolicy", {"policy": policy})
    assert second["etag"] != first["etag"]
    error = call("POST", f"/v1/projects/{bare}:setIamPolicy", {"policy": policy}, expect=409)["error"]
    assert error["status"] == "ABORTED"
    assert call("POST", f"/v1/projects/{bare}:getIamPolicy", {}) == second


def test_read_modify_writes_at_once_all_arrive(client: httpx.Client, call: Call, bare: str) -> None:
    def add(index: int) -> None:
        for _ in range(200):
            policy = client.post(f"/v1/projects/{bare}:getIamPolicy", json={}).json()
            bindings = [*policy.get("bindings", []), {"role": "roles/viewer", "members": [f"user:u{index}@e.org"]}]
            body = {"policy": {**policy, "bindings": bindings}}
            response = client.post(f"/v1/projects/{bare}:setIamPolicy", json=body)
            if response.status_code == 200:
                return
            assert response.status_code == 409
        raise AssertionError("never got through")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(16)))
    bindings = call("POST", f"/v1/projects/{bare}:getIamPolicy", {})["bindings"]
    assert {member for binding in bindings for member in binding["members"]} == {f"user:u{n}@e.org" for n in range(16)}


def test_audit_configs_change_only_when_the_mask_says_so(call: Call, bare: str) -> None:
    audits = [{"service": "storage.googleapis.com", "auditLogConfigs": [{"logType": "DATA_READ"}]}]
    path = f"/v1/projects/{bare}:setIamPolicy"
    call("POST", path, {"policy": {"auditConfigs": audits}, "updateMask": "bindings,etag,auditConfigs"})
    assert call("POST", path, {"policy": _policy("roles/viewer", "allUsers")})["auditConfigs"] == audits
    kept = call("POST", path, {"policy": {}, "updateMask": "auditConfigs"})
    assert "auditConfigs" not in kept
    assert kept["bindings"]


def test_conditions_make_it_version_3(call: Call, bare: str) -> None:
    policy = _policy("roles/viewer", "allUsers", condition='resource.name.startsWith("x")')
    answer = call("POST", f"/v1/projects/{bare}:setIamPolicy", {"policy": {**policy, "version": 3}})
    assert answer["version"] == 3
    assert answer["bindings"][0]["condition"]["expression"] == 'resource.name.startsWith("x")'


def test_a_deleted_member_does_not_block_the_policy(call: Call, bare: str) -> None:
    account = call("POST", f"/v1/projects/{bare}/serviceAccounts", {"accountId": "short-lived"})
    path = f"/v1/projects/{bare}"
    policy = _policy("roles/viewer", f"serviceAccount:{account['email']}")
    stored = call("POST", f"{path}:setIamPolicy", {"policy": policy})
    call("DELETE", f"{path}/serviceAccounts/{account['email']}")
    call("POST", f"{path}:setIamPolicy", {"policy": stored}, expect=400)
    stored = call("POST", f"{path}:getIamPolicy", {})
    marked = f"deleted:serviceAccount:{account['email']}?uid={account['uniqueId']}"
    assert stored["bindings"] == [{"role": "roles/viewer", "members": [marked]}]
    stored["bindings"].append({"role": "roles/editor", "members": ["allUsers"]})
    changed = call("POST", f"{path}:setIamPolicy", {"policy": stored})
    assert len(changed["bindings"]) == 2
    call("POST", f"{path}:setIamPolicy", {"policy": policy}, expect=400)
    call("POST", f"{path}/serviceAccounts/{account['uniqueId']}:undelete", {})
    restored = call("POST", f"{path}:getIamPolicy", {})
    assert {member for item in restored["bindings"] for member in item["members"]} == {
        "allUsers",
        f"serviceAccount:{account['email']}",
    }


def test_two_projects_never_share_a_number_unnoticed(emulator: EmulatorServer, bare: str) -> None:
    def work(connection: Any) -> None:
        number = projects.number_of(bare)
        from runner.emulator import store

        store.put(connection, projects.NUMBER_KIND, number, {"id": "another"})
        with pytest.raises(ApiError, match="share the number"):
            projects.ensure(connection, bare)

    emulator.emulator.store.write_sync(work)
