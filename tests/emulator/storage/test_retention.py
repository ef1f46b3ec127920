"""Retention policies and their locks, the retention of single objects, keys that customers bring."""

from __future__ import annotations

import base64
import hashlib
import os
from datetime import UTC, datetime, timedelta

import httpx

from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_a_policy_is_seen_on_the_objects_and_can_be_locked(bucket: Bucket, client: httpx.Client) -> None:
    made = bucket.stored("x", b"data")
    assert "retentionExpirationTime" not in made
    changed = client.patch(bucket.path, json={"retentionPolicy": {"retentionPeriod": "100"}}).json()
    read = client.get(bucket.object_path("x")).json()
    assert _time(read["retentionExpirationTime"]) == _time(made["timeCreated"]) + timedelta(seconds=100)
    assert client.get(f"{bucket.path}/o").json()["items"] == [read]
    lock = f"{bucket.path}/lockRetentionPolicy"
    assert client.post(lock).status_code == 400
    assert client.post(lock, params={"ifMetagenerationMatch": 1}).status_code == 412
    locked = client.post(lock, params={"ifMetagenerationMatch": changed["metageneration"]}).json()
    assert locked["retentionPolicy"]["isLocked"] is True
    for shorter in ({"retentionPeriod": "99"}, None):
        assert client.patch(bucket.path, json={"retentionPolicy": shorter}).status_code == 403
    assert client.put(bucket.path, json={}).status_code == 403
    longer = client.patch(bucket.path, json={"retentionPolicy": {"retentionPeriod": 101, "isLocked": False}}).json()
    assert (longer["retentionPolicy"]["retentionPeriod"], longer["retentionPolicy"]["isLocked"]) == ("101", True)


def test_without_a_policy_there_is_nothing_to_lock(bucket: Bucket, client: httpx.Client) -> None:
    assert client.post(f"{bucket.path}/lockRetentionPolicy", params={"ifMetagenerationMatch": 1}).status_code == 400


def test_the_period_begins_when_an_event_based_hold_ends(bucket: Bucket, client: httpx.Client) -> None:
    assert client.patch(bucket.path, json={"retentionPolicy": {"retentionPeriod": "100"}}).status_code == 200
    bucket.stored("x", b"data")
    path = bucket.object_path("x")
    assert "retentionExpirationTime" not in client.patch(path, json={"eventBasedHold": True}).json()
    released = client.patch(path, json={"eventBasedHold": False}).json()
    assert _time(released["retentionExpirationTime"]) >= _time(released["updated"]) + timedelta(seconds=99)
    assert "eventBasedHoldReleased" not in released


def test_an_object_s_own_retention(client: httpx.Client, project: Provisioned) -> None:
    name = f"{project.project}-kept"
    parameters = {"project": project.project, "enableObjectRetention": "True"}
    made = client.post("/storage/v1/b", params=parameters, json={"name": name})
    assert made.json()["objectRetention"] == {"mode": "Enabled"}
    bucket = Bucket(client, name)
    bucket.stored("x", b"data")
    path, now = bucket.object_path("x"), datetime.now(UTC)
    late, early = ((now + timedelta(days=days)).isoformat() for days in (2, 1))

    def retain(mode: str, until: str, **parameters: str) -> int:
        body = {"retention": {"mode": mode, "retainUntilTime": until}}
        return client.patch(path, json=body, params=parameters).status_code

    assert retain("Unlocked", (now - timedelta(days=1)).isoformat()) == 400
    assert retain("Perhaps", late) == 400
    assert retain("Unlocked", late) == 200
    assert retain("Unlocked", early) == 403
    assert retain("Unlocked", early, overrideUnlockedRetention="true") == 200
    assert client.delete(path).status_code == 403
    assert retain("Locked", late, overrideUnlockedRetention="true") == 200
    assert retain("Locked", early, overrideUnlockedRetention="true") == 403
    cleared = client.patch(path, json={"retention": None}, params={"overrideUnlockedRetention": "true"})
    assert cleared.status_code == 403


def _key(prefix: str = "X-Goog-Encryption") -> dict[str, str]:
    key = os.urandom(32)
    return {
        f"{prefix}-Algorithm": "AES256",
        f"{prefix}-Key": base64.b64encode(key).decode(),
        f"{prefix}-Key-Sha256": base64.b64encode(hashlib.sha256(key).digest()).decode(),
    }


def test_only_who_brings_the_key_reads(bucket: Bucket, client: httpx.Client) -> None:
    key, other = _key(), _key()
    upload = f"/upload{bucket.path}/o?uploadType=media&name=x"
    made = client.post(upload, content=b"secret", headers=key).json()
    assert made["customerEncryption"]["keySha256"] == key["X-Goog-Encryption-Key-Sha256"]
    assert "crc32c" in made
    bucket.stored("plain", b"data")
    path = bucket.object_path("x")
    bare = client.get(path).json()
    assert (bare["customerEncryption"], "crc32c" in bare, "md5Hash" in bare) == (
        made["customerEncryption"],
        False,
        False,
    )
    assert bucket.data("x", **key).content == b"secret"
    assert client.get(f"/{bucket.name}/x", headers=key).content == b"secret"
    refused = [bucket.data("x"), bucket.data("x", **other), bucket.data("plain", **key)]
    refused.append(client.get(f"/{bucket.name}/x"))
    assert [answer.status_code for answer in refused] == [400] * 4
    broken = {**key, "X-Goog-Encryption-Key-Sha256": other["X-Goog-Encryption-Key-Sha256"]}
    for headers in (broken, {**key, "X-Goog-Encryption-Algorithm": "ROT13"}, {**key, "X-Goog-Encryption-Key": "eA=="}):
        assert client.post(upload, content=b"1", headers=headers).status_code == 400
    rewrite = f"{path}/rewriteTo/b/{bucket.name}/o/y"
    assert client.post(rewrite).status_code == 400
    source = {name.replace("Goog", "Goog-Copy-Source"): value for name, value in key.items()}
    assert client.post(rewrite, headers={**source, **other}).status_code == 200
    assert bucket.data("y", **other).content == b"secret"
    assert client.post(rewrite, headers=source).status_code == 200
    assert bucket.data("y").content == b"secret"
