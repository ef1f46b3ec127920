"""Monitoring, quotas, budgets and keys; and the table of what is supported."""

from __future__ import annotations

from typing import Any

import pytest

from runner.emulator import projects, services
from runner.emulator.control import quotas
from runner.emulator.server import EmulatorServer
from tests.emulator import method_tables
from tests.emulator.control.conftest import Call

_EMAIL = {"type": "email", "labels": {"email_address": "a@example.com"}}


def _policy(**changes: Any) -> dict[str, Any]:
    threshold = {"comparison": "COMPARISON_LT", "duration": "3600s", "filter": 'metric.type="m"', "thresholdValue": 1}
    condition = {"displayName": "few requests", "conditionThreshold": threshold}
    return {"displayName": "idle endpoint", "combiner": "OR", "conditions": [condition], **changes}


@pytest.mark.parametrize("root", ["/v3", "/monitoring/v3"])
def test_a_channel_and_a_policy_live(call: Call, bare: str, root: str) -> None:
    channels, policies = (f"{root}/projects/{bare}/{kind}" for kind in ("notificationChannels", "alertPolicies"))
    channel = call("POST", channels, _EMAIL)
    assert channel["enabled"] is True
    assert call("GET", f"{root}/{channel['name']}") == channel
    patched = call("PATCH", f"{root}/{channel['name']}", {**_EMAIL, "displayName": "me"})
    assert (patched["displayName"], patched["name"]) == ("me", channel["name"])
    policy = call("POST", policies, _policy(notificationChannels=[channel["name"]]))
    (condition,) = policy["conditions"]
    assert condition["name"].startswith(f"{policy['name']}/conditions/")
    assert policy["creationRecord"]["mutateTime"]
    assert call("GET", policies)["alertPolicies"] == [policy]
    body = {**policy, "displayName": "renamed", "conditions": [condition, _policy()["conditions"][0]]}
    renamed = call("PATCH", f"{root}/{policy['name']}?updateMask=displayName", body)
    assert renamed["conditions"] == [condition]
    both = call("PATCH", f"{root}/{policy['name']}?updateMask=conditions", body)["conditions"]
    assert both[0] == condition
    assert both[1]["name"] not in (None, condition["name"])
    error = call("DELETE", f"{root}/{channel['name']}?force=false", expect=400)["error"]
    assert error["status"] == "FAILED_PRECONDITION"
    call("DELETE", f"{root}/{channel['name']}?force=true")
    assert call("GET", f"{root}/{policy['name']}")["notificationChannels"] == []
    call("DELETE", f"{root}/{policy['name']}")
    for name in (channel["name"], policy["name"]):
        assert call("GET", f"{root}/{name}", expect=404)["error"]["status"] == "NOT_FOUND"
        call("DELETE", f"{root}/{name}", expect=404)


def test_enums_may_come_as_numbers_and_go_as_names(call: Call, bare: str) -> None:
    body = _policy(combiner=2)
    body["conditions"][0]["condition_threshold"] = {**body["conditions"][0].pop("conditionThreshold"), "comparison": 3}
    policy = call("POST", f"/v3/projects/{bare}/alertPolicies", body)
    assert policy["combiner"] == "OR"
    assert policy["conditions"][0]["conditionThreshold"]["comparison"] == "COMPARISON_LT"


def test_secrets_of_a_channel_are_not_read_back(call: Call, bare: str) -> None:
    body = {"type": "pagerduty", "labels": {"service_key": "hush"}}
    channel = call("POST", f"/v3/projects/{bare}/notificationChannels", body)
    assert channel["labels"]["service_key"] == "*****"
    assert "hush" not in str(call("GET", f"/v3/projects/{bare}/notificationChannels"))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("notificationChannels", {"type": "email", "labels": {}}),
        ("notificationChannels", {"type": "pigeon", "labels": {}}),
        ("notificationChannels", {**_EMAIL, "enabled": "yes"}),
        ("notificationChannels", {**_EMAIL, "nmae": "x"}),
        ("alertPolicies", _policy(combiner="XOR")),
        ("alertPolicies", _policy(conditions=[])),
        ("alertPolicies", _policy(conditions=[{"displayName": "none"}])),
        ("alertPolicies", {**_policy(), "displayName": ""}),
    ],
)
def test_what_monitoring_refuses_is_refused(call: Call, bare: str, kind: str, body: Any) -> None:
    call("POST", f"/v3/projects/{bare}/{kind}", body, expect=400)
    call("POST", f"/v3/projects/{bare}/services/x", body, expect=404)


def test_a_policy_cannot_name_a_channel_that_is_not_there(call: Call, bare: str) -> None:
    body = _policy(notificationChannels=[f"projects/{bare}/notificationChannels/1"])
    call("POST", f"/v3/projects/{bare}/alertPolicies", body, expect=404)


def _granted(emulator: EmulatorServer, project: str) -> int:
    return emulator.emulator.store.read(
        lambda connection: quotas.granted(connection, projects.resolve(connection, project), 1)
    )


def test_a_preference_raises_the_number_of_jobs(emulator: EmulatorServer, call: Call, bare: str) -> None:
    path = f"/quotas/v1/projects/{bare}/locations/global/quotaPreferences"
    body = {
        "quotaConfig": {"preferredValue": "4"},
        "quotaId": quotas.TUNING_QUOTA,
        "service": quotas.SERVICE,
        "contactEmail": "a@example.com",
    }
    off = call("POST", f"{path}?quotaPreferenceId=moss", body, expect=403)["error"]
    assert off["details"][0]["reason"] == "SERVICE_DISABLED"
    call("POST", f"/v1/projects/{bare}/services/cloudquotas.googleapis.com:enable", {})
    assert _granted(emulator, bare) == 1
    made = call("POST", f"{path}?quotaPreferenceId=moss", body)
    assert made["quotaConfig"] == {"preferredValue": "4", "grantedValue": "4"}
    assert _granted(emulator, bare) == 4
    call("POST", f"{path}?quotaPreferenceId=twice", body, expect=409)
    other = {**body, "quotaId": "SomethingElse", "quotaConfig": {"preferredValue": 9}}
    call("POST", f"{path}?quotaPreferenceId=other", other)
    assert _granted(emulator, bare) == 4
    lower = {**body, "quotaConfig": {"preferredValue": 2}}
    call("PATCH", f"{path}/moss", lower, expect=400)
    call("PATCH", f"{path}/moss?ignoreSafetyChecks=QUOTA_DECREASE_PERCENTAGE_TOO_HIGH", lower)
    assert _granted(emulator, bare) == 2
    call("PATCH", f"{path}/moss", {**lower, "etag": made["etag"]}, expect=409)
    call("PATCH", f"{path}/moss", {**lower, "quotaConfig": {"preferredValue": "many"}}, expect=400)
    assert [item["name"].rsplit("/", 1)[-1] for item in call("GET", path)["quotaPreferences"]] == ["moss", "other"]
    call("GET", f"{path}/none", expect=404)
    assert call("GET", f"/v1/projects/{bare}/locations/global/quotaPreferences/moss")["quotaId"] == quotas.TUNING_QUOTA


@pytest.mark.parametrize("root", ["/v1", "/budgets/v1"])
def test_a_budget_lives(call: Call, bare: str, root: str) -> None:
    number = call("GET", f"/v1/projects/{bare}")["projectNumber"]
    path = f"{root}/billingAccounts/{bare}/budgets"
    amount = {"specifiedAmount": {"currencyCode": "USD", "units": 100}}
    body = {
        "amount": amount,
        "budgetFilter": {"projects": [f"projects/{number}"]},
        "thresholdRules": [{"thresholdPercent": 0.5}],
    }
    budget = call("POST", path, body)
    assert budget["amount"]["specifiedAmount"]["units"] == "100"
    assert budget["thresholdRules"] == [{"thresholdPercent": 0.5, "spendBasis": "CURRENT_SPEND"}]
    changed = call(
        "PATCH", f"{root}/{budget['name']}?updateMask=displayName", {**body, "amount": {}, "displayName": "b"}
    )
    assert (changed["displayName"], changed["amount"]) == ("b", budget["amount"])
    call(
        "PATCH",
        f"{root}/{budget['name']}?updateMask=displayName",
        {"displayName": "c", "etag": budget["etag"]},
        expect=409,
    )
    assert call("GET", path)["budgets"] == [changed]
    call("DELETE", f"{root}/{budget['name']}")
    call("GET", f"{root}/{budget['name']}", expect=404)
    bad: dict[str, Any]
    for bad in ({}, {"amount": {}}, {**body, "thresholdRules": [{}]}, {**body, "budgetFilter": {"projects": ["p"]}}):
        call("POST", path, bad, expect=400)


@pytest.mark.parametrize("root", ["/v1", "/accesscontextmanager/v1"])
def test_a_project_joins_a_perimeter_and_leaves_it(call: Call, bare: str, root: str) -> None:
    asked = {"parent": "organizations/7", "title": "all"}
    policy = call("POST", f"{root}/accessPolicies", asked)["response"]["name"]
    assert policy in {
        one["name"] for one in call("GET", f"{root}/accessPolicies?parent=organizations/7")["accessPolicies"]
    }
    path = f"{root}/{policy}/servicePerimeters"
    body = {"name": f"{policy}/servicePerimeters/data", "title": "data"}
    made = call("POST", path, body)
    assert call("GET", f"/accesscontextmanager/v1/{made['name']}") == made
    name, call_ = f"{root}/{body['name']}", f"{root}/{body['name']}?updateMask=status.resources,etag"
    assert call("GET", name)["perimeterType"] == "PERIMETER_TYPE_REGULAR"
    call("POST", path, body, expect=409)
    call("GET", f"/v1/projects/{bare}")  # which makes it
    resource = f"projects/{call('GET', f'/v1/projects/{bare}')['projectNumber']}"
    before = call("GET", name)["etag"]
    # As the provider writes it, with an entry in the protocol's own spelling.
    joined = {"status": {"resources": [resource]}, "etag": before, "use_explicit_dry_run_spec": True}
    assert call("PATCH", call_, joined)["done"] is True
    assert call("GET", name)["status"] == {"resources": [resource]}
    assert "useExplicitDryRunSpec" not in call("GET", name)  # which the mask does not name
    call("PATCH", call_, joined, expect=409)  # by an etag that is old
    dry = {"spec": {"resources": [resource]}}
    assert call("PATCH", f"{name}?updateMask=spec.resources", dry, expect=400)["error"]["status"] == "INVALID_ARGUMENT"
    second = {"name": f"{policy}/servicePerimeters/other", "title": "other", "status": {"resources": [resource]}}
    assert "is in the perimeter" in call("POST", path, second, expect=400)["error"]["message"]
    for wrong in ("projects/letters", bare, "projects/1"):
        call("PATCH", call_, {"status": {"resources": [wrong]}}, expect=403 if wrong == "projects/1" else 400)
    call("PATCH", call_, {"status": {"resources": []}})
    assert "status" not in call("GET", name)
    call("DELETE", name)
    call("GET", name, expect=404)
    call("POST", path, second)
    call("DELETE", f"{root}/{policy}")
    call("GET", path, expect=404)


def test_a_key_lives_but_cannot_be_deleted(call: Call, bare: str) -> None:
    rings = f"/kms/v1/projects/{bare}/locations/us-central1/keyRings"
    call("POST", f"{rings}?keyRingId=ring", expect=403)
    call("POST", f"/v1/projects/{bare}/services/cloudkms.googleapis.com:enable", {})
    assert call("POST", f"{rings}?keyRingId=ring")["name"].endswith("/keyRings/ring")
    call("POST", f"{rings}?keyRingId=ring", expect=409)
    keys = f"{rings}/ring/cryptoKeys"
    key = call("POST", f"{keys}?cryptoKeyId=key", {"purpose": "ENCRYPT_DECRYPT", "labels": {"my_team": "a"}})
    assert key["primary"]["state"] == "ENABLED"
    assert key["labels"] == {"my_team": "a"}
    assert call("GET", f"{keys}/key") == key
    assert call("GET", keys)["cryptoKeys"] == [key]
    assert len(call("GET", rings)["keyRings"]) == 1
    call("PATCH", f"{keys}/key?updateMask=rotationPeriod", {"rotationPeriod": "60s"}, expect=400)
    member = {"role": "roles/cloudkms.cryptoKeyEncrypterDecrypter", "members": ["user:a@example.org"]}
    first = call("GET", f"{keys}/key:getIamPolicy")
    policy = {"bindings": [member], "etag": first["etag"]}
    call("POST", f"{keys}/key:setIamPolicy", {"policy": policy})
    call("POST", f"{keys}/key:setIamPolicy", {"policy": policy}, expect=409)
    assert call("GET", f"{keys}/key:getIamPolicy")["bindings"] == [member]
    version = call("GET", f"{keys}/key/cryptoKeyVersions")["cryptoKeyVersions"][0]
    assert call("POST", f"/kms/v1/{version['name']}:destroy", {})["state"] == "DESTROY_SCHEDULED"
    call("POST", f"/kms/v1/{version['name']}:destroy", {}, expect=400)
    assert call("GET", f"{keys}/key")["primary"]["state"] == "DESTROY_SCHEDULED"
    call("DELETE", f"{keys}/key", expect=400)
    call("GET", f"{keys}/none", expect=404)
    call("POST", f"{rings}/none/cryptoKeys?cryptoKeyId=key", {"purpose": "ENCRYPT_DECRYPT"}, expect=404)


def test_the_table_has_every_method_once() -> None:
    methods = services.all_methods()
    table = method_tables.markdown_table(methods)
    for method in methods:
        assert f"| `{method.id}` |" in table
    rows = [line for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) == len(set(rows)) == len({method.id for method in methods})
    headings = [line for line in table.splitlines() if line.startswith("### ")]
    assert headings == sorted(headings)
    assert all(row.replace("\\|", "").count("|") == 3 for row in rows)


def test_quotas_in_force(call: Call, bare: str) -> None:
    services = f"/v1/projects/{bare}/locations/global/services"
    call("POST", f"/v1/projects/{bare}/services/cloudquotas.googleapis.com:enable", {})
    infos = call("GET", f"{services}/aiplatform.googleapis.com/quotaInfos")["quotaInfos"]
    assert "CustomModelServingL4GPUsPerProjectPerRegion" in {info["quotaId"] for info in infos}
    path = f"{services}/aiplatform.googleapis.com/quotaInfos/GlobalConcurrentManagedOssModelTuningJobs"
    assert call("GET", path)["dimensionsInfos"][0]["details"]["value"] == "1"
    preference = {
        "service": "aiplatform.googleapis.com",
        "quotaId": "GlobalConcurrentManagedOssModelTuningJobs",
        "quotaConfig": {"preferredValue": 3},
    }
    call("POST", f"/v1/projects/{bare}/locations/global/quotaPreferences", preference)
    assert call("GET", path)["dimensionsInfos"][0]["details"]["value"] == "3"
    assert call("GET", f"{services}/storage.googleapis.com/quotaInfos") == {}
    call("GET", f"{services}/aiplatform.googleapis.com/quotaInfos/None", expect=404)
