"""Objects: names, preconditions, metadata, copies, versions, soft deletion."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.emulator.server import EmulatorServer
from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned

_NAMES = ["../../x", "/etc/passwd", "a//b", "ünï/☃/😀", "dir/", "a%2Fb", "a b+c&d=e?f#g", "~'\"<>|*[]{}", "x" * 1024]


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("size", [3, 100_000])
def test_a_name_is_only_a_name(emulator: EmulatorServer, bucket: Bucket, name: str, size: int) -> None:
    data = os.urandom(size)
    resource = bucket.stored(name, data)
    assert (resource["name"], resource["size"], resource["bucket"]) == (name, str(size), bucket.name)
    assert resource["md5Hash"] == base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
    assert bucket.data(name).content == data
    assert bucket.client.get(bucket.object_path(name)).json() == resource
    assert bucket.names() == [name]
    blobs = Path(emulator.settings.directory) / "blobs"
    assert all(len(path.name) == 32 and path.is_file() for path in blobs.iterdir())
    assert bucket.client.delete(bucket.object_path(name)).status_code == 204
    assert bucket.data(name).status_code == 404


@pytest.mark.parametrize("name", ["", ".", "..", "nul\0", "cr\r", "lf\n", "x" * 1025, ".well-known/acme-challenge/x"])
def test_bad_names_are_refused(bucket: Bucket, name: str) -> None:
    assert bucket.put(name, b"x").status_code == 400
    assert bucket.names() == []


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60), data=st.binary(max_size=64))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_name_is_kept_or_refused(bucket: Bucket, name: str, data: bytes) -> None:
    answer = bucket.put(name, data)
    if answer.status_code == 400:
        assert name in (".", "..") or set(name) & set("\0\r\n")
        return
    assert answer.json()["name"] == name
    assert bucket.data(name).content == data
    assert name in bucket.names(prefix=name)


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_multipart(bucket: Bucket, newline: str, size: int) -> None:
    data = os.urandom(size)
    head = {"name": "x", "metadata": {"k": "ü"}, "crc32c": None}
    body = newline.join(
        ["--==0==", "Content-Type: application/json", "", json.dumps(head), "--==0==", "Content-Type: text/x", "", ""]
    ).encode()
    body += data + f"{newline}--==0==--".encode()
    answer = bucket.client.post(
        f"/upload{bucket.path}/o?uploadType=multipart",
        content=body,
        headers={"Content-Type": 'multipart/related; boundary="==0=="'},
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json()["metadata"], answer.json()["contentType"]) == ({"k": "ü"}, "text/x")
    assert bucket.data("x").content == data


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("value", ["crc32c=AAAAAA==", "md5=AAAAAAAAAAAAAAAAAAAAAA==", "crc32c=nonsense"])
def test_a_wrong_checksum_is_refused(emulator: EmulatorServer, bucket: Bucket, value: str, size: int) -> None:
    blobs = Path(emulator.settings.directory) / "blobs"
    before = sorted(blobs.iterdir())
    answer = bucket.client.post(
        f"/upload{bucket.path}/o?uploadType=media&name=x", content=b"x" * size, headers={"X-Goog-Hash": value}
    )
    assert answer.status_code == 400
    assert bucket.names() == []
    assert sorted(blobs.iterdir()) == before


def test_preconditions(bucket: Bucket, client: httpx.Client) -> None:
    def reason(answer: httpx.Response) -> tuple[int, str]:
        return answer.status_code, answer.json()["error"]["errors"][0]["reason"]

    refused = (412, "conditionNotMet")
    assert reason(bucket.put("x", b"1", ifGenerationMatch=5)) == refused
    first = bucket.stored("x", b"1", ifGenerationMatch=0)
    assert reason(bucket.put("x", b"2", ifGenerationMatch=0)) == refused
    second = bucket.stored("x", b"2", ifGenerationMatch=first["generation"])
    assert int(second["generation"]) > int(first["generation"])
    path, old = bucket.object_path("x"), first["generation"]
    for parameters in ({"ifGenerationMatch": old}, {"ifMetagenerationMatch": 9}, {"ifMetagenerationNotMatch": 1}):
        assert reason(client.delete(path, params=parameters)) == refused
        assert reason(client.patch(path, params=parameters, json={})) == refused
    assert reason(client.get(path, params={"ifGenerationMatch": old})) == refused
    media = client.get(path, params={"ifGenerationMatch": old, "alt": "media"})
    assert (media.status_code, media.text.partition(" ")[0]) == (412, "At")
    for parameters in ({"ifGenerationNotMatch": second["generation"]}, {"ifMetagenerationNotMatch": 1}):
        for alt in ("json", "media"):
            unchanged = client.get(path, params={**parameters, "alt": alt})
            assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert client.get(path, params={"ifGenerationMatch": "x"}).status_code == 400
    assert client.delete(path, params={"ifGenerationMatch": second["generation"]}).status_code == 204
    assert client.delete(path, params={"ifGenerationMatch": 0}).status_code == 404


def test_only_one_of_many_creates(bucket: Bucket) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: bucket.put("x", b"%d" % number, ifGenerationMatch=0), range(16)))
    winners = [number for number, answer in enumerate(answers) if answer.status_code == 200]
    assert len(winners) == 1
    assert {answer.status_code for answer in answers} == {200, 412}
    assert bucket.data("x").content == b"%d" % winners[0]


def test_metadata_changes(bucket: Bucket, client: httpx.Client) -> None:
    created = bucket.stored("x", b"1")
    path = bucket.object_path("x")
    custom = {"a": "1", "b": "2"}
    first = client.patch(
        path, json={"metadata": custom, "contentType": "text/plain", "cacheControl": "no-store"}
    ).json()
    assert (first["metadata"], first["metageneration"], first["generation"]) == (custom, "2", created["generation"])
    second = client.patch(path, json={"metadata": {"a": None, "c": "3"}, "cacheControl": None}).json()
    assert second["metadata"] == {"b": "2", "c": "3"}
    assert "cacheControl" not in second
    assert second["contentType"] == "text/plain"
    third = client.put(path, json={**second, "metadata": {"z": "26"}, "contentType": None}).json()
    assert third["metadata"] == {"z": "26"}
    assert "contentType" not in third
    bad: list[dict[str, Any]] = [
        {"colour": 1},
        {"contentType": 1},
        {"metadata": {"a": 1}},
        {"metadata": {"a": "x" * 9000}},
    ]
    for body in bad:
        assert client.patch(path, json=body).status_code == 400


def test_compose(bucket: Bucket, client: httpx.Client) -> None:
    parts = {"a": b"1" * 10, "b": os.urandom(150_000)}
    generations = {name: bucket.stored(name, data)["generation"] for name, data in parts.items()}
    sources: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "generation": generations["b"]}, {"name": "a"}]
    path = bucket.object_path("joined") + "/compose"
    joined = client.post(path, json={"sourceObjects": sources, "destination": {"contentType": "text/x"}}).json()
    assert (joined["componentCount"], joined["contentType"]) == (3, "text/x")
    assert "md5Hash" not in joined
    assert bucket.data("joined").content == parts["a"] + parts["b"] + parts["a"]
    again = client.post(path, json={"sourceObjects": [{"name": "joined"}, {"name": "a"}]}).json()
    assert again["componentCount"] == 4
    assert client.post(path, params={"ifGenerationMatch": 0}, json={"sourceObjects": sources}).status_code == 412
    assert client.post(path, json={"sourceObjects": [{"name": "none"}]}).status_code == 404
    mistakes: list[list[dict[str, Any]]] = [[], sources * 11, [{}]]
    for wrong in mistakes:
        assert client.post(path, json={"sourceObjects": wrong}).status_code == 400
    stale = [{"name": "a", "objectPreconditions": {"ifGenerationMatch": "1"}}]
    assert client.post(path, json={"sourceObjects": stale}).status_code == 412


@pytest.mark.parametrize("size", [10, 150_000])
@pytest.mark.parametrize("verb", ["rewriteTo", "copyTo"])
def test_a_copy_outlives_its_source(
    bucket: Bucket, client: httpx.Client, project: Provisioned, verb: str, size: int
) -> None:
    for name in (bucket.name, project.images):
        client.patch(f"/storage/v1/b/{name}", json={"softDeletePolicy": {"retentionDurationSeconds": 0}})
    data = os.urandom(size)
    source = bucket.stored("x", data)
    client.patch(bucket.object_path("x"), json={"metadata": {"k": "v"}, "contentType": "text/x"})
    path = f"{bucket.object_path('x')}/{verb}/b/{project.images}/o/y%2Fz"
    answer = client.post(path).json()
    copy = answer["resource"] if verb == "rewriteTo" else answer
    if verb == "rewriteTo":
        assert (answer["done"], answer["objectSize"], answer["totalBytesRewritten"]) == (True, str(size), str(size))
    assert (copy["name"], copy["bucket"], copy["crc32c"]) == ("y/z", project.images, source["crc32c"])
    assert (copy["metadata"], copy["contentType"], copy["metageneration"]) == ({"k": "v"}, "text/x", "1")
    assert client.delete(bucket.object_path("x")).status_code == 204
    target = Bucket(client, project.images)
    assert target.data("y/z").content == data
    assert client.post(path).status_code == 404
    back = f"{target.object_path('y/z')}/{verb}/b/{bucket.name}/o/x"
    assert client.post(back, params={"ifSourceGenerationMatch": 1}).status_code == 412
    assert client.post(back, params={"ifGenerationMatch": 1}).status_code == 412
    changed = client.post(back, json={"contentType": "text/y"}).json()
    changed = changed["resource"] if verb == "rewriteTo" else changed
    assert changed["contentType"] == "text/y"
    assert "metadata" not in changed


def test_a_move_is_one_step(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"data")
    path = f"{bucket.object_path('x')}/moveTo/o/"
    assert client.post(path + "y%2Fz", params={"ifSourceGenerationMatch": 1}).status_code == 412
    assert client.post(path + "y%2Fz").json()["name"] == "y/z"
    assert bucket.names() == ["y/z"]
    assert client.post(path + "y%2Fz").status_code == 404


def test_versions(bucket: Bucket, client: httpx.Client) -> None:
    client.patch(bucket.path, json={"versioning": {"enabled": True}})
    generations = [bucket.stored("x", b"%d" % number)["generation"] for number in range(3)]
    path = bucket.object_path("x")
    assert client.delete(path).status_code == 204
    assert bucket.names() == []
    listed = client.get(f"{bucket.path}/o", params={"versions": "true"}).json()["items"]
    assert [item["generation"] for item in listed] == generations
    assert all("timeDeleted" in item for item in listed)
    for number, generation in enumerate(generations):
        answer = client.get(path, params={"generation": generation, "alt": "media"})
        assert answer.content == b"%d" % number
    assert client.delete(bucket.path).status_code == 409
    assert client.delete(path, params={"generation": generations[1]}).status_code == 204
    assert client.get(path, params={"generation": generations[1]}).status_code == 404
    pages, token = [], ""
    while True:
        parameters = {"versions": "true", "maxResults": "1", **({"pageToken": token} if token else {})}
        page = client.get(f"{bucket.path}/o", params=parameters).json()
        pages.append([item["generation"] for item in page["items"]])
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert pages == [[generations[0]], [generations[2]]]


def test_soft_deleted_objects_come_back(bucket: Bucket, client: httpx.Client) -> None:
    data = os.urandom(100_000)
    generation = bucket.stored("x", data)["generation"]
    path = bucket.object_path("x")
    assert client.delete(path).status_code == 204
    (item,) = client.get(f"{bucket.path}/o", params={"softDeleted": "true"}).json()["items"]
    assert item["generation"] == generation
    assert item["softDeleteTime"] < item["hardDeleteTime"]
    assert client.get(path, params={"generation": generation}).status_code == 404
    assert client.get(path, params={"generation": generation, "softDeleted": "true"}).status_code == 200
    restored = client.post(f"{path}/restore", params={"generation": generation}).json()
    assert int(restored["generation"]) > int(generation)
    assert bucket.data("x").content == data


@pytest.mark.parametrize("field", ["temporaryHold", "eventBasedHold"])
def test_a_held_object_stays(bucket: Bucket, client: httpx.Client, field: str) -> None:
    bucket.stored("x", b"1")
    path = bucket.object_path("x")
    assert client.patch(path, json={field: True}).status_code == 200
    assert client.delete(path).status_code == 403
    assert bucket.put("x", b"2").status_code == 403
    assert bucket.data("x").content == b"1"
    assert client.patch(path, json={field: False}).status_code == 200
    assert client.delete(path).status_code == 204


def test_a_retained_object_stays(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"1")
    path = bucket.object_path("x")
    client.patch(bucket.path, json={"retentionPolicy": {"retentionPeriod": "3600"}})
    refused = client.delete(path)
    assert (refused.status_code, refused.json()["error"]["errors"][0]["reason"]) == (403, "retentionPolicyNotMet")
    client.patch(bucket.path, json={"retentionPolicy": None})
    retention = {"mode": "Unlocked", "retainUntilTime": "some day"}
    assert client.patch(path, json={"retention": retention}).status_code == 400
    assert client.delete(path).status_code == 204
