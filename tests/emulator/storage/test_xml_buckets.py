"""The XML API's buckets: made, listed, asked, emptied; copies and access control lists by headers."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.emulator.storage.conftest import Bucket
from tests.provisioning import Provisioned


def _texts(answer: httpx.Response, tag: str) -> list[str]:
    assert answer.status_code == 200, answer.text
    return re.findall(f"<{tag}>([^<]*)</{tag}>", answer.text)


@pytest.mark.parametrize("prefix", ["x-goog", "x-amz"])
def test_a_bucket_is_made_listed_and_deleted(client: httpx.Client, project: Provisioned, prefix: str) -> None:
    name = f"{project.project}-xml"
    headers = {f"{prefix}-project-id": project.project, f"{prefix}-acl": "public-read"}
    body = "<CreateBucketConfiguration><LocationConstraint>EU</LocationConstraint></CreateBucketConfiguration>"
    assert client.put(f"/{name}", content=body, headers=headers).status_code == 200
    made = client.get(f"/storage/v1/b/{name}?projection=full").json()
    assert (made["location"], "allUsers" in str(made["acl"])) == ("EU", True)
    assert name in _texts(client.get("/", headers=headers), "Name")
    head = client.head(f"/{name}")
    assert (head.status_code, head.headers["x-goog-bucket-location"]) == (200, "EU")
    assert _texts(client.get(f"/{name}/?location"), "LocationConstraint") == []
    assert client.delete(f"/{name}").status_code == 204
    missing = client.get(f"/{name}")
    assert (missing.status_code, "<Code>NoSuchBucket</Code>" in missing.text) == (404, True)
    assert client.head(f"/{name}").status_code == 404
    assert client.get("/").status_code == 400


@pytest.mark.parametrize("second", [False, True])
def test_objects_are_listed_in_pages(bucket: Bucket, client: httpx.Client, second: bool) -> None:
    names = ["a/1", "a/2", "b", "c/d/e", "z&<>"]
    for name in names:
        bucket.stored(name, b"data")
    found: list[str] = []
    folders: list[str] = []
    more: dict[str, str] = {}
    for _ in range(9):
        parameters = {"max-keys": "1", "delimiter": "/", "encoding-type": "url", **more}
        answer = client.get(f"/{bucket.name}", params={**parameters, **({"list-type": "2"} if second else {})})
        found += _texts(answer, "Key")
        folders += re.findall("<CommonPrefixes><Prefix>([^<]*)</Prefix>", answer.text)
        if _texts(answer, "IsTruncated") == ["false"]:
            break
        tag, parameter = ("NextContinuationToken", "continuation-token") if second else ("NextMarker", "marker")
        more = {parameter: _texts(answer, tag)[0]}
    assert (found, folders) == (["b", "z%26%3C%3E"], ["a/", "c/"])
    assert _texts(client.get(f"/{bucket.name}?prefix=z"), "Key") == ["z&amp;&lt;&gt;"]


def test_versioning_is_switched(bucket: Bucket, client: httpx.Client) -> None:
    path = f"/{bucket.name}?versioning"
    assert _texts(client.get(path), "Status") == []
    body = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    assert client.put(path, content=body).status_code == 200
    assert _texts(client.get(path), "Status") == ["Enabled"]
    bucket.stored("x", b"1")
    bucket.stored("x", b"2")
    assert client.get(f"/{bucket.name}?versions").text.count("<Version>") == 2
    assert client.get(f"/{bucket.name}?lifecycle").status_code == 405


def test_many_are_deleted_at_once(bucket: Bucket, client: httpx.Client) -> None:
    for name in ("a", "b", "c"):
        bucket.stored(name, b"data")
    body = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object><Object><Key>none</Key></Object></Delete>"
    answer = client.post(f"/{bucket.name}?delete", content=body)
    assert _texts(answer, "Key") == ["a", "b", "none"]
    assert bucket.names() == ["c"]
    assert client.post(f"/{bucket.name}?delete", content="<Delete>").status_code == 400


@pytest.mark.parametrize("prefix", ["x-goog", "x-amz"])
def test_a_copy_by_header(bucket: Bucket, client: httpx.Client, prefix: str) -> None:
    headers = {"Content-Type": "text/x", f"{prefix}-meta-k": "v"}
    assert client.put(f"/{bucket.name}/a%20b", content=b"data", headers=headers).status_code == 200
    source = {f"{prefix}-copy-source": f"/{bucket.name}/a%20b"}
    answer = client.put(f"/{bucket.name}/y", content=b"not this", headers=source)
    assert len(_texts(answer, "ETag")) == 1
    copy = client.get(bucket.object_path("y")).json()
    assert (bucket.data("y").content, copy["contentType"], copy["metadata"]) == (b"data", "text/x", {"k": "v"})
    replaced = {**source, f"{prefix}-metadata-directive": "REPLACE", "Content-Type": "text/y", f"{prefix}-meta-n": "w"}
    assert client.put(f"/{bucket.name}/z", headers=replaced).status_code == 200
    copy = client.get(bucket.object_path("z")).json()
    assert (copy["contentType"], copy["metadata"]) == ("text/y", {"n": "w"})
    for wrong in ({f"{prefix}-copy-source": "nothing"}, {**source, f"{prefix}-metadata-directive": "PERHAPS"}):
        assert client.put(f"/{bucket.name}/z", headers=wrong).status_code == 400
    assert client.put(f"/{bucket.name}/z", headers={f"{prefix}-copy-source": f"{bucket.name}/none"}).status_code == 404
    stale = {**source, "x-goog-copy-source-if-generation-match": "1"}
    assert client.put(f"/{bucket.name}/z", headers=stale).status_code == 412


@pytest.mark.parametrize("name", ["", "/x"])
def test_lists_in_xml(bucket: Bucket, client: httpx.Client, name: str) -> None:
    bucket.stored("x", b"data")
    path = f"/{bucket.name}{name}?acl"
    assert client.put(path, headers={"x-goog-acl": "public-read"}).status_code == 200
    text = client.get(path).text
    assert "<Scope type='AllUsers'/><Permission>READ</Permission>" in text
    assert client.put(path, content=text.replace("<Permission>READ</", "<Permission>FULL_CONTROL</")).status_code == 200
    assert "<Scope type='AllUsers'/><Permission>FULL_CONTROL</Permission>" in client.get(path).text
    assert client.put(path, content="<AccessControlList>").status_code == 400
    assert client.put(path, headers={"x-goog-acl": "everybody"}).status_code == 400
    assert bucket.data("x").content == b"data"


def test_errors_say_the_same_and_then_what_it_is_about(bucket: Bucket, client: httpx.Client) -> None:
    text = client.get(f"/{bucket.name}/none").text
    assert "<Message>The specified key does not exist.</Message>" in text
    assert f"<Details>No such object: {bucket.name}/none</Details>" in text
