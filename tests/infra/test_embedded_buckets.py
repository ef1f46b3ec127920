"""Buckets without the engine: with keys, in several regions, of others, and what happens to those that hold objects."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infra.embedded import EmbeddedError, apply
from infra.embedded.obstacles import ObstacleError
from runner.errors import ConfigurationError, RunnerError
from tests.infra.embedded_stack import Stack


def test_a_bucket_with_objects_is_kept_unless_told_otherwise(stack: Stack) -> None:
    stack.apply(forceDestroy="false")
    stack.request("POST", f"/upload/storage/v1/b/{stack.project}-outputs/o?uploadType=media&name=model/weights", {})
    with pytest.raises(ObstacleError, match=r"nothing was deleted: .* holds objects, such as model/weights"):
        stack.destroy()
    assert stack.status(stack.account) == 200
    assert stack.status(f"/storage/v1/b/{stack.project}-outputs/o/model%2Fweights") == 200
    stack.apply(forceDestroy="true")
    stack.destroy()
    assert stack.status(f"/storage/v1/b/{stack.project}-outputs") == 404


def test_buckets_move_only_without_data(stack: Stack) -> None:
    stack.apply()
    moved = apply(stack.url, project=stack.project, location="europe-west4", state=stack.state)
    assert "Bucket datasets" in moved.created
    assert stack.request("GET", f"/storage/v1/b/{stack.project}-outputs")["location"] == "EUROPE-WEST4"
    stack.request("POST", f"/upload/storage/v1/b/{stack.project}-outputs/o?uploadType=media&name=model/weights", {})
    with pytest.raises(ConfigurationError, match="holds objects, such as model/weights"):
        stack.apply()
    assert stack.status(f"/storage/v1/b/{stack.project}-outputs/o/model%2Fweights") == 200


def test_a_bucket_of_another_project_is_not_taken_over(stack: Stack) -> None:
    stack.apply()
    other = replace(stack, project=f"{stack.project}-b", state=stack.state.with_name("other.json"))
    with pytest.raises(EmbeddedError, match="belongs to another project"):
        other.apply(namePrefix=stack.project)


def test_a_bucket_that_no_stack_made_is_neither_changed_nor_deleted(stack: Stack) -> None:
    name = f"{stack.project}-datasets"
    stack.request("POST", f"/storage/v1/b?project={stack.project}", {"name": name, "location": "US-CENTRAL1"})
    stack.request("POST", f"/upload/storage/v1/b/{name}/o?uploadType=media&name=mine", {})
    before = stack.request("GET", f"/storage/v1/b/{name}")
    with pytest.raises(EmbeddedError, match=f"{name} exists, and this stack did not create it") as refused:
        stack.apply(forceDestroy="true")
    assert "mode import" in str(refused.value.hint)
    stack.destroy()
    assert stack.request("GET", f"/storage/v1/b/{name}") == before
    used = json.dumps({"datasets": {"mode": "attach", "name": name}})
    stack.apply(forceDestroy="true", buckets=used)
    stack.destroy()
    assert stack.status(f"/storage/v1/b/{name}/o/mine") == 200


def test_buckets_with_a_key(stack: Stack) -> None:
    ring = f"projects/{stack.project}/locations/us-central1/keyRings"
    stack.request("POST", f"/v1/projects/{stack.project}/services/cloudkms.googleapis.com:enable", {})
    stack.request("POST", f"/kms/v1/{ring}?keyRingId=ring", {})
    stack.request("POST", f"/kms/v1/{ring}/ring/cryptoKeys?cryptoKeyId=key", {"purpose": "ENCRYPT_DECRYPT"})
    key = f"{ring}/ring/cryptoKeys/key"
    result = stack.apply(kmsKeys=json.dumps([key]))
    bucket = stack.request("GET", f"/storage/v1/b/{stack.project}-outputs")
    assert bucket["encryption"]["defaultKmsKeyName"] == key
    (binding,) = stack.request("GET", f"/kms/v1/{key}:getIamPolicy")["bindings"]
    assert binding["role"] == "roles/cloudkms.cryptoKeyEncrypterDecrypter"
    assert len(binding["members"]) == 3
    assert stack.apply(kmsKeys=json.dumps([key])).unchanged
    assert f"CryptoKeyIAMMember storage/{key}/cloudkms-cryptoKeyEncrypterDecrypter" in result.created
    stack.destroy()
    assert stack.request("GET", f"/kms/v1/{key}:getIamPolicy").get("bindings", []) == []


def test_a_stack_in_two_regions_with_buckets_that_exist(stack: Stack) -> None:
    for name, location in ((f"{stack.project}-theirs", "us-central1"), (f"{stack.project}-old", "europe-west4")):
        stack.request("POST", f"/storage/v1/b?project={stack.project}", {"name": name, "location": location})
    config = {
        "extraRegions": '["europe-west4"]',
        "buckets": json.dumps(
            {
                "datasets": {"mode": "attach", "name": f"{stack.project}-theirs"},
                "europe-west4/outputs": {"mode": "import", "name": f"{stack.project}-old"},
            }
        ),
    }
    result = stack.apply(**config)
    assert "Bucket outputs-europe-west4" in result.updated
    assert not [name for name in result.created if name == "Bucket datasets"]
    old = stack.request("GET", f"/storage/v1/b/{stack.project}-old")
    assert old["iamConfiguration"]["publicAccessPrevention"] == "enforced"
    theirs = stack.request("GET", f"/storage/v1/b/{stack.project}-theirs")
    assert "labels" not in theirs
    number = result.environment["projectNumber"]
    agent = f"serviceAccount:service-{number}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com"
    assert ("roles/storage.objectUser", agent) in stack.members("theirs")
    assert ("roles/storage.objectUser", agent) in stack.members("old")
    assert sorted(result.environment["regions"]) == ["europe-west4", "us-central1"]
    assert stack.apply(**config).created == ()
    left = stack.destroy().protected
    assert [name for name in left if name.startswith("Bucket ")] == ["Bucket outputs-europe-west4"]


def test_a_bucket_to_import_or_attach_has_to_be_there(stack: Stack) -> None:
    for mode, fragment in (("import", "is to be imported"), ("attach", "is to be attached")):
        with pytest.raises(RunnerError, match=fragment):
            stack.apply(buckets=json.dumps({"images": {"mode": mode, "name": f"{stack.project}-missing"}}))


def test_an_attached_bucket_has_to_be_where_the_jobs_are(stack: Stack) -> None:
    name = f"{stack.project}-far"
    stack.request("POST", f"/storage/v1/b?project={stack.project}", {"name": name, "location": "europe-west4"})
    with pytest.raises(Exception, match="jobs in us-central1 need it there"):
        stack.apply(buckets=json.dumps({"images": {"mode": "attach", "name": name}}))
