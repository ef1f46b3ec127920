"""Whole stacks without the engine: the committed ones, and everything at once in two regions."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.addresses import emulator_endpoints
from infra.embedded import apply, destroy
from infra.embedded.registry import find_type
from infra.embedded.resource_type import Context
from infra.embedded.rest import RequestError, Rest
from infra.evaluation import evaluate
from infra.stack_files import configuration
from runner.emulator.server import EmulatorServer
from tests.infra.evaluation import FULL

OWN = "open-model-tuning:"
EVERYTHING = {
    **{key: value for key, value in FULL.items() if not key.endswith("protect")},
    f"{OWN}environment": "prod",
    f"{OWN}extraRegions": '["us-central1", "us-west1"]',
    f"{OWN}privateEndpoint": "true",
    f"{OWN}concurrentTuningJobs": "4",
    f"{OWN}extraDataBuckets": '["company-images"]',
    f"{OWN}kmsKeys": json.dumps(
        [f"projects/keys/locations/{region}/keyRings/r/cryptoKeys/k" for region in ("europe-west4", "us-west1")]
    ),
}
"""Every part that there is."""


class Emulator:
    """What others have made before the stack comes, and what is there after it went."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=120, trust_env=False)

    def make_key(self, name: str) -> None:
        _, project, _, location, _, ring, _, key = name.split("/")
        self._make(f"/v1/projects/{project}/services/cloudkms.googleapis.com:enable", {})
        rings = f"/kms/v1/projects/{project}/locations/{location}/keyRings"
        self._make(f"{rings}?keyRingId={ring}", {})
        self._make(f"{rings}/{ring}/cryptoKeys?cryptoKeyId={key}", {"purpose": "ENCRYPT_DECRYPT"})

    def make_perimeter(self) -> str:
        policy = self.client.post("/v1/accessPolicies", json={"parent": "organizations/1", "title": "all"}).json()
        name = f"{policy['response']['name']}/servicePerimeters/data"
        path = f"/v1/{policy['response']['name']}/servicePerimeters"
        self._make(path, {"name": name, "title": "data", "useExplicitDryRunSpec": True})
        return name

    def make_bucket(self, name: str, location: str) -> None:
        self._make("/storage/v1/b?project=company", {"name": name, "location": location})

    def _make(self, path: str, body: dict[str, Any]) -> None:
        assert self.client.post(path, json=body).status_code in (200, 409), path

    def inventory(self, project: str, regions: list[str]) -> dict[str, set[str]]:
        """Return what a project has, by kind, without what Google makes or keeps by itself."""

        def names(path: str, key: str, field: str = "name") -> set[str]:
            answer = self.client.get(path)
            assert answer.status_code in (200, 404), answer.text
            found = answer.json().get(key, []) if answer.status_code == 200 else []
            return {item[field].rsplit("/", 1)[-1] for item in found if item.get("state") != "DELETED"}

        monitoring = f"/monitoring/v3/projects/{project}"
        endpoints = [names(f"/v1/projects/{project}/locations/{region}/endpoints", "endpoints") for region in regions]
        return {
            "buckets": names(f"/storage/v1/b?project={project}", "items"),
            "accounts": names(f"/v1/projects/{project}/serviceAccounts", "accounts", "email"),
            "endpoints": set().union(*endpoints),
            "pools": names(f"/v1/projects/{project}/locations/global/workloadIdentityPools", "workloadIdentityPools"),
            "alerts": names(f"{monitoring}/alertPolicies", "alertPolicies", "displayName"),
            "channels": names(f"{monitoring}/notificationChannels", "notificationChannels", "displayName"),
        }

    def runner_roles(self, project: str) -> set[str]:
        policy = self.client.post(f"/v1/projects/{project}:getIamPolicy", json={}).json()
        return {item["role"] for item in policy["bindings"] if any("tuning-" in member for member in item["members"])}


@pytest.mark.parametrize("name", ["dev", "prod", "everything"])
def test_a_stack_is_made_is_unchanged_and_goes_but_for_what_is_protected(
    name: str, emulator: EmulatorServer, tmp_path: Path
) -> None:
    config = EVERYTHING if name == "everything" else configuration(name)
    project, state = f"stack-{name}-{os.getpid()}", tmp_path / "state.json"
    there = Emulator(emulator.url)
    keys = [*json.loads(config.get(f"{OWN}kmsKeys", "[]")), config.get(f"{OWN}stateKey", "")]
    for key in filter(None, keys):
        there.make_key(key)
    for bucket in ("company-images", config.get(f"{OWN}stateBucket", "")):
        if bucket:
            there.make_bucket(bucket, config["gcp:region"])
    own = {key: value for key, value in config.items() if key.startswith(OWN)}
    perimeter = there.make_perimeter() if f"{OWN}perimeter" in config else ""
    own |= {f"{OWN}perimeter": perimeter} if perimeter else {}
    given = {**own, f"{OWN}namePrefix": project, f"{OWN}forceDestroy": "true" if name == "dev" else "false"}

    def up() -> Any:
        return apply(emulator.url, project=project, location=config["gcp:region"], config=given, state=state)

    made = up()
    assert (made.updated, made.unchanged, made.deleted) == ((), (), ())
    again = up()
    assert (again.created, again.updated, again.deleted) == ((), (), ())
    assert sorted(again.unchanged) == sorted(made.created)
    assert again.environment == made.environment

    regions = list(made.environment.get("regions", [made.environment["location"]]))
    if perimeter:
        number = there.client.get(f"/v1/projects/{project}").json()["projectNumber"]
        joined = {"resources": [f"projects/{number}"]}
        assert there.client.get(f"/v1/{perimeter}").json()["spec"] == joined
        given[f"{OWN}perimeterDryRun"] = "false"
        moved = up()
        entry = ("ServicePerimeterResource perimeter", "ServicePerimeterDryRunResource perimeter-dry-run")
        assert (moved.created, moved.updated, moved.deleted) == ((entry[0],), (), (entry[1],))
        found = there.client.get(f"/v1/{perimeter}").json()
        assert (found["status"], "spec" in found) == (joined, False)
    before = there.inventory(project, regions)
    told = ("alerts", "channels") if f"{OWN}notificationEmails" in config else ()
    assert all(before[kind] for kind in ("buckets", "accounts", "endpoints", *told))
    assert len(before["endpoints"]) == len(regions)
    gone = destroy(state, project=project)
    after = there.inventory(project, regions)
    protected = {item for item in gone.protected if item.split()[0] in {"Bucket", "WorkloadIdentityPool"}}
    assert not protected & set(gone.deleted)
    nothing: dict[str, set[str]] = {kind: set() for kind in before}
    if name == "dev":
        assert gone.protected == ()
        assert after == nothing
        assert not state.exists()
    else:
        # Buckets, pools, what encrypts the buckets; the rest is gone, and the state remembers what stays.
        assert after == {**nothing, "buckets": before["buckets"], "pools": before["pools"]}
        assert len(protected) == len(before["buckets"]) + len(before["pools"])
        rest = {item.split()[0] for item in set(gone.protected) - protected}
        assert rest <= {
            "Service",
            "ServiceIdentity",
            "WorkloadIdentityServiceAgent",
            "CryptoKeyIAMMember",
            "WorkloadIdentityPoolProvider",
        }
        assert "CryptoKeyIAMMember" in rest
        remembered = json.loads(state.read_text())["stacks"][project]["resources"]
        assert len(remembered) == len(gone.protected)
    if perimeter:
        assert "status" not in there.client.get(f"/v1/{perimeter}").json()
    assert there.runner_roles(project) == set()
    there.client.close()


def test_the_service_takes_every_alert_that_the_program_declares(emulator: EmulatorServer) -> None:
    """Also those of the idle guard, which no local stack has."""
    project = f"alerts-{os.getpid()}"
    kind = find_type("gcp:monitoring/alertPolicy:AlertPolicy")
    rest = Rest(emulator_endpoints(emulator.url))
    try:
        rest.call("serviceusage", "POST", f"projects/{project}/services/monitoring.googleapis.com:enable", {})
        context = Context(rest, project, "us-central1", {})
        declared = [item.inputs for item in evaluate(FULL).of_type(":AlertPolicy")]
        assert len(declared) == 5
        for inputs in declared:
            mine = {**inputs, "project": project, "notificationChannels": []}
            made = kind.create(context, mine)
            assert made.body["displayName"] == inputs["displayName"]
        logged = next(inputs for inputs in declared if "alertStrategy" in inputs)
        with pytest.raises(RequestError, match="notification_rate_limit"):
            kind.make(context, {**logged, "project": project, "notificationChannels": [], "alertStrategy": None})
    finally:
        rest.close()
