"""What hangs on buckets and projects: notifications, HMAC keys, and lists with nothing in them."""

from __future__ import annotations

import httpx
import pytest

from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned

_TOPIC = "//pubsub.googleapis.com/projects/p/topics/t"


@pytest.mark.parametrize("name", ["folders", "managedFolders", "operations", "anywhereCaches", "notificationConfigs"])
def test_lists_of_what_is_not_there_are_empty(bucket: Bucket, client: httpx.Client, name: str) -> None:
    answer = client.get(f"{bucket.path}/{name}")
    assert (answer.status_code, answer.json().get("items", [])) == (200, [])
    assert client.get(f"/storage/v1/b/no-such-bucket-here/{name}").status_code == 404


def test_notifications_are_kept(bucket: Bucket, client: httpx.Client) -> None:
    path = f"{bucket.path}/notificationConfigs"
    made = client.post(path, json={"topic": _TOPIC, "event_types": ["OBJECT_FINALIZE"]}).json()
    assert (made["payload_format"], made["topic"]) == ("JSON_API_V1", _TOPIC)
    assert client.get(path).json()["items"] == [made]
    assert client.get(f"{path}/{made['id']}").json() == made
    assert client.delete(f"{path}/{made['id']}").status_code == 204
    assert client.get(f"{path}/{made['id']}").status_code == 404
    for body in ({}, {"topic": "t"}, {"topic": _TOPIC, "event_types": ["X"]}, {"topic": _TOPIC, "colour": "red"}):
        assert client.post(path, json=body).status_code == 400


def test_a_key_is_shown_once_and_deleted_when_it_is_off(client: httpx.Client, project: Provisioned) -> None:
    path = f"/storage/v1/projects/{project.project}/hmacKeys"
    email = f"worker@{project.project}.iam.gserviceaccount.com"
    made = client.post(path, params={"serviceAccountEmail": email}).json()
    key = f"{path}/{made['metadata']['accessId']}"
    assert len(made["metadata"]["accessId"]) == 61
    assert len(made["secret"]) == 40
    assert client.get(key).json() == made["metadata"]
    assert client.get(path).json()["items"] == [made["metadata"]]
    assert client.get(path, params={"serviceAccountEmail": "other"}).json().get("items", []) == []
    assert client.delete(key).status_code == 400
    assert client.put(key, json={"state": "INACTIVE", "etag": "old"}).status_code == 412
    assert client.put(key, json={"state": "GONE"}).status_code == 400
    assert client.put(key, json={"state": "INACTIVE"}).json()["state"] == "INACTIVE"
    assert client.delete(key).status_code == 204
    assert client.get(path).json().get("items", []) == []
    assert [one["state"] for one in client.get(path, params={"showDeletedKeys": "True"}).json()["items"]] == ["DELETED"]
    assert client.post(path, params={"serviceAccountEmail": "nobody"}).status_code == 400
    assert client.get(f"{path}/none").status_code == 404
