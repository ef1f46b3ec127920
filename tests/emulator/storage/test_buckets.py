"""Buckets: created, changed, listed, deleted; their policies."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned

_FULL: dict[str, Any] = {
    "encryption": {"defaultKmsKeyName": "projects/demo/locations/us-central1/keyRings/r/cryptoKeys/k"},
    "iamConfiguration": {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": {"enabled": True}},
    "labels": {"env": "dev", "goog-pulumi-provisioned": "true"},
    "lifecycle": {
        "rule": [
            {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["tmp/"]}},
            {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 1}},
        ]
    },
    "softDeletePolicy": {"retentionDurationSeconds": "1209600"},
    "storageClass": "NEARLINE",
    "versioning": {"enabled": True},
}


@pytest.fixture
def name(project: Provisioned) -> str:
    return f"{project.project}-more"


def _create(client: httpx.Client, project: Provisioned, body: dict[str, Any]) -> httpx.Response:
    return client.post("/storage/v1/b", params={"project": project.project}, json=body)


def test_everything_comes_back(client: httpx.Client, project: Provisioned, name: str) -> None:
    body = {"name": name, "location": "us-central1", **_FULL}
    created = _create(client, project, body)
    assert created.status_code == 200, created.text
    read = client.get(f"/storage/v1/b/{name}").json()
    assert read == created.json()
    for key in ("encryption", "labels", "lifecycle", "storageClass", "versioning"):
        assert read[key] == body[key]
    assert read["location"] == "US-CENTRAL1"
    assert read["locationType"] == "region"
    assert read["projectNumber"] == project.number
    assert read["metageneration"] == "1"
    assert read["softDeletePolicy"]["retentionDurationSeconds"] == "1209600"
    assert read["softDeletePolicy"]["effectiveTime"] == read["timeCreated"]
    assert read["iamConfiguration"]["uniformBucketLevelAccess"]["enabled"] is True
    assert read["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    assert read["selfLink"] == f"{client.base_url}/storage/v1/b/{name}".replace("//storage", "/storage")


def test_a_patch_merges_and_null_deletes(client: httpx.Client, project: Provisioned, name: str) -> None:
    before = _create(client, project, {"name": name, "location": "eu", **_FULL}).json()
    assert before["locationType"] == "multi-region"
    path = f"/storage/v1/b/{name}"
    after = client.patch(path, json={"labels": {"env": None, "new": "1"}, "encryption": None}).json()
    assert after["labels"] == {"goog-pulumi-provisioned": "true", "new": "1"}
    assert "encryption" not in after
    assert after["lifecycle"] == before["lifecycle"]
    assert (after["metageneration"], after["softDeletePolicy"]) == ("2", before["softDeletePolicy"])
    assert after["etag"] != before["etag"]
    off = client.patch(path, json={"softDeletePolicy": {"retentionDurationSeconds": 0}}).json()
    assert off["softDeletePolicy"]["retentionDurationSeconds"] == "0"
    assert client.patch(path, json={"location": "us"}).status_code == 400
    assert client.patch(path, params={"ifMetagenerationMatch": 1}, json={}).status_code == 412
    replaced = client.put(path, json={"labels": {"only": "this"}}).json()
    assert replaced["labels"] == {"only": "this"}
    assert "lifecycle" not in replaced
    assert replaced["location"] == "EU"


def test_a_name_is_taken_once(client: httpx.Client, project: Provisioned, name: str) -> None:
    assert _create(client, project, {"name": name}).status_code == 200
    again = _create(client, project, {"name": name})
    assert again.status_code == 409
    assert again.json()["error"]["errors"][0]["reason"] == "conflict"


@pytest.mark.parametrize(
    "bad",
    ["ab", "Upper", "under score", "-a-", "a..b", "192.168.5.4", "goog-x", "my-google-x", "a" * 64, "é-bucket", "a/b"],
)
def test_bad_names_are_refused(client: httpx.Client, bad: str) -> None:
    assert client.post("/storage/v1/b?project=test-names", json={"name": bad}).status_code == 400


@pytest.mark.parametrize(
    "extra",
    [
        {"colour": "red"},
        {"labels": []},
        {"storageClass": "FAST"},
        {"location": "../etc"},
        {"location": "mars-1"},
        {"labels": {"a" * 64: "b"}},
        {"labels": {"Env": "a"}},
        {"labels": {"team": "A/B"}},
        {"labels": {"1a": "b"}},
        {"versioning": {"enabled": "yes"}},
        {"versioning": {"enable": True}},
        {"lifecycle": {"rule": {}}},
        {"lifecycle": {"rule": [5]}},
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": "soon"}}]}},
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {}}]}},
        {"lifecycle": {"rule": [{"action": {"type": "Explode"}, "condition": {"age": 1}}]}},
        {"lifecycle": {"rule": [{"action": {"type": "SetStorageClass"}, "condition": {"age": 1}}]}},
        {"lifecycle": {"rule": [{"action": {"type": "Delete"}, "condition": {"age": -1}}]}},
        {"cors": [{"origins": ["*"]}]},
        {"cors": [{"maxAgeSeconds": "long"}]},
        {"customPlacementConfig": {"dataLocations": [5]}},
        {"iamConfiguration": {"publicAccessPrevention": "perhaps"}},
        {"softDeletePolicy": {"retentionDurationSeconds": "x"}},
        {"softDeletePolicy": {"retentionDurationSeconds": 3600}},
        {"retentionPolicy": {"retentionPeriod": 0}},
    ],
)
def test_bad_fields_are_refused(client: httpx.Client, extra: dict[str, Any]) -> None:
    body = {"name": "test-fields", **extra}
    assert client.post("/storage/v1/b?project=test-names", json=body).status_code == 400
    assert client.get("/storage/v1/b/test-fields").status_code == 404


def test_only_an_empty_bucket_is_deleted(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"data")
    full = client.delete(bucket.path)
    assert (full.status_code, full.json()["error"]["errors"][0]["reason"]) == (409, "conflict")
    assert client.delete(bucket.object_path("x")).status_code == 204
    assert client.delete(bucket.path).status_code == 204
    assert client.delete(bucket.path).status_code == 404
    assert bucket.put("x", b"data").status_code == 404


def test_buckets_are_listed_by_project_in_pages(client: httpx.Client, project: Provisioned) -> None:
    parameters = {"project": project.project, "maxResults": "2"}
    first = client.get("/storage/v1/b", params=parameters).json()
    second = client.get("/storage/v1/b", params={**parameters, "pageToken": first["nextPageToken"]}).json()
    names = [item["name"] for item in first["items"] + second["items"]]
    assert names == sorted([project.datasets, project.images, project.outputs])
    only = client.get("/storage/v1/b", params={"project": project.number, "prefix": project.images}).json()
    assert [item["name"] for item in only["items"]] == [project.images]


def test_small_methods(bucket: Bucket, client: httpx.Client, project: Provisioned) -> None:
    agent = client.get(f"/storage/v1/projects/{project.project}/serviceAccount").json()
    assert agent["email_address"] == f"service-{project.number}@gs-project-accounts.iam.gserviceaccount.com"
    assert client.get(f"{bucket.path}/anywhereCaches/").json() == {"kind": "storage#anywhereCaches"}
    assert client.get(f"{bucket.path}/storageLayout").json()["location"] == "US-CENTRAL1"
    assert client.get(bucket.path, params={"fields": "name,iamConfiguration/publicAccessPrevention"}).json() == {
        "name": bucket.name,
        "iamConfiguration": {"publicAccessPrevention": "inherited"},
    }


def test_a_policy_is_changed_only_by_who_read_it_last(bucket: Bucket, client: httpx.Client) -> None:
    path = f"{bucket.path}/iam"
    read = client.get(path, params={"optionsRequestedPolicyVersion": 3}).json()
    binding = {"role": "roles/storage.objectViewer", "members": ["allUsers", "user:a@example.org", "allUsers"]}
    written = client.put(path, json={"bindings": [binding], "etag": read["etag"], "version": 3})
    assert written.status_code == 200
    assert written.json()["bindings"] == [{**binding, "members": ["allUsers", "user:a@example.org"]}]
    assert client.get(path).json() == written.json()
    stale = client.put(path, json={"bindings": [], "etag": read["etag"]})
    assert (stale.status_code, stale.json()["error"]["errors"][0]["reason"]) == (412, "conditionNotMet")
    assert client.put(path, json={"version": 3}).json()["bindings"] == []


@pytest.mark.parametrize(
    "binding",
    [
        {"role": "roles/storage.objectViewer", "members": ["serviceAccount:nobody@nowhere.iam.gserviceaccount.com"]},
        {"role": "roles/storage.objectViewer", "members": ["somebody"]},
        {"role": "owner", "members": ["allUsers"]},
    ],
)
def test_impossible_bindings_are_refused(bucket: Bucket, client: httpx.Client, binding: dict[str, Any]) -> None:
    before = client.get(f"{bucket.path}/iam").json()
    assert client.put(f"{bucket.path}/iam", json={"bindings": [binding]}).status_code == 400
    assert client.get(f"{bucket.path}/iam").json() == before


def test_a_condition_needs_version_3_and_uniform_access(bucket: Bucket, client: httpx.Client) -> None:
    condition = {"title": "t", "expression": 'resource.name.startsWith("x")'}
    bindings = [{"role": "roles/storage.objectViewer", "members": ["allUsers"], "condition": condition}]
    path = f"{bucket.path}/iam"
    assert client.put(path, json={"bindings": bindings, "version": 3}).status_code == 412
    access = {"iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}}}
    assert client.patch(bucket.path, json=access).status_code == 200
    assert client.put(path, json={"bindings": bindings, "version": 1}).status_code == 400
    written = client.put(path, json={"bindings": bindings, "version": 3}).json()
    assert (written["version"], written["bindings"]) == (3, bindings)


def test_permissions_are_told(bucket: Bucket, client: httpx.Client) -> None:
    path = f"{bucket.path}/iam/testPermissions"
    asked = {"permissions": ["storage.objects.get", "storage.buckets.update"]}
    assert client.get(path, params=asked).json()["permissions"] == asked["permissions"]
    assert client.get(path, params={"permissions": "compute.instances.get"}).status_code == 400
