"""The XML API: plain paths, signed URLs, multipart uploads."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from tests.emulator.storage.conftest import Bucket

_PART = 5 * 1024 * 1024


@pytest.mark.parametrize("name", ["x", "a/b/c.txt", "ünï/☃ x+y", "../../x", "dir/"])
def test_plain_paths(bucket: Bucket, client: httpx.Client, name: str) -> None:
    path = f"/{bucket.name}/{quote(name)}".replace("..", "%2E%2E")
    data = os.urandom(100_000)
    headers = {"Content-Type": "text/x", "X-Goog-Meta-Kind": "v", "X-Goog-If-Generation-Match": "0"}
    assert client.put(path, content=data, headers=headers).status_code == 200
    again = client.put(path, content=data, headers=headers)
    assert (again.status_code, "<Code>PreconditionFailed</Code>" in again.text) == (412, True)
    answer = client.get(path, headers={"Range": "bytes=10-19"})
    assert (answer.status_code, answer.content) == (206, data[10:20])
    head = client.head(path)
    assert (head.headers["content-length"], head.headers["content-type"]) == ("100000", "text/x")
    assert head.headers["x-goog-meta-kind"] == "v"
    assert bucket.names() == [name]
    assert client.get(bucket.object_path(name)).json()["metadata"] == {"kind": "v"}
    assert client.delete(path).status_code == 204
    missing = client.get(path)
    assert (missing.status_code, "<Code>NoSuchKey</Code>" in missing.text) == (404, True)
    assert "<Code>NoSuchBucket</Code>" in client.get("/no-such-bucket-here/x").text


@pytest.mark.parametrize(
    "path", ["/v1/x", "/v1beta1/x/y", "/v1beta3/x", "/ui/x", "/compute/x", "/upload/x", "/Bad_Name/x"]
)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "POST"])
def test_paths_of_other_apis_are_no_objects(client: httpx.Client, path: str, method: str) -> None:
    assert client.request(method, path).status_code in (404, 501)


def _signed(path: str, begin: datetime, seconds: int, **more: str) -> tuple[str, dict[str, str]]:
    return path, {
        "X-Goog-Algorithm": "GOOG4-RSA-SHA256",
        "X-Goog-Credential": "a@b.iam.gserviceaccount.com/20260101/auto/storage/goog4_request",
        "X-Goog-Date": begin.strftime("%Y%m%dT%H%M%SZ"),
        "X-Goog-Expires": str(seconds),
        "X-Goog-SignedHeaders": "host",
        "X-Goog-Signature": "00",
        **more,
    }


def test_a_signed_url_has_its_time(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"data")
    path, now = f"/{bucket.name}/x", datetime.now(UTC)
    url, parameters = _signed(path, now, 60, **{"response-content-disposition": "attachment; filename=y"})
    answer = client.get(url, params=parameters)
    assert (answer.content, answer.headers["content-disposition"]) == (b"data", "attachment; filename=y")
    url, parameters = _signed(path, now - timedelta(seconds=90), 60)
    late = client.get(url, params=parameters)
    assert (late.status_code, "<Code>ExpiredToken</Code>" in late.text) == (400, True)
    assert client.put(url, params=parameters, content=b"new").status_code == 400
    for change in ({"X-Goog-Date": "yesterday"}, {"X-Goog-Expires": "604801"}, {"X-Goog-Expires": "x"}):
        url, parameters = _signed(path, now, 60, **change)
        assert client.get(url, params=parameters).status_code == 400
    url, parameters = _signed(path, now + timedelta(hours=1), 60)
    assert client.get(url, params=parameters).status_code == 400
    assert bucket.data("x").content == b"data"


def test_a_signed_url_starts_a_resumable_upload(bucket: Bucket, client: httpx.Client) -> None:
    url, parameters = _signed(f"/{bucket.name}/x", datetime.now(UTC), 60)
    headers = {"X-Goog-Resumable": "start", "Content-Type": "text/x"}
    started = client.post(url, params=parameters, headers=headers)
    assert started.status_code == 201
    assert client.put(started.headers["location"], content=b"data").status_code == 200
    assert client.get(bucket.object_path("x")).json()["contentType"] == "text/x"


def _start(client: httpx.Client, path: str) -> str:
    answer = client.post(f"{path}?uploads", headers={"Content-Type": "text/x", "X-Goog-Meta-K": "v"})
    assert answer.status_code == 200
    return answer.text.partition("<UploadId>")[2].partition("<")[0]


def _complete(client: httpx.Client, path: str, upload: str, parts: list[tuple[int, str]]) -> httpx.Response:
    body = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>" for number, tag in parts)
    namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
    content = f'<CompleteMultipartUpload xmlns="{namespace}">{body}</CompleteMultipartUpload>'
    return client.post(f"{path}?uploadId={upload}", content=content)


def test_parts_in_any_order_become_an_object(bucket: Bucket, client: httpx.Client) -> None:
    path = f"/{bucket.name}/a/x"
    upload = _start(client, path)
    parts = {3: b"end", 1: os.urandom(_PART), 2: os.urandom(_PART)}
    tags = {}
    for number, data in parts.items():
        answer = client.put(f"{path}?partNumber={number}&uploadId={upload}", content=data)
        tags[number] = answer.headers["etag"]
    replaced = os.urandom(_PART)
    wrong = tags[2]
    tags[2] = client.put(f"{path}?partNumber=2&uploadId={upload}", content=replaced).headers["etag"]
    listed = client.get(f"{path}?uploadId={upload}").text
    assert listed.count("<Part>") == 3
    assert bucket.names() == []
    refused = _complete(client, path, upload, [(1, tags[1]), (2, wrong), (3, tags[3])])
    assert (refused.status_code, "<Code>InvalidPart</Code>" in refused.text) == (400, True)
    assert "<Code>InvalidPartOrder</Code>" in _complete(client, path, upload, [(2, tags[2]), (1, tags[1])]).text
    tags[4] = client.put(f"{path}?partNumber=4&uploadId={upload}", content=b"4").headers["etag"]
    assert "<Code>EntityTooSmall</Code>" in _complete(client, path, upload, [(3, tags[3]), (4, tags[4])]).text
    del tags[4]
    done = _complete(client, path, upload, sorted(tags.items()))
    assert done.status_code == 200, done.text
    assert bucket.data("a/x").content == parts[1] + replaced + parts[3]
    resource = client.get(bucket.object_path("a/x")).json()
    assert (resource["contentType"], resource["metadata"], resource["componentCount"]) == ("text/x", {"k": "v"}, 3)
    assert _complete(client, path, upload, sorted(tags.items())).status_code == 404


def test_an_aborted_upload_is_gone(bucket: Bucket, client: httpx.Client) -> None:
    path = f"/{bucket.name}/x"
    upload = _start(client, path)
    assert client.put(f"{path}?partNumber=1&uploadId={upload}", content=b"1").status_code == 200
    assert client.delete(f"{path}?uploadId={upload}").status_code == 204
    assert client.put(f"{path}?partNumber=1&uploadId={upload}", content=b"1").status_code == 404
    assert client.put(f"{path}?partNumber=0&uploadId={upload}", content=b"1").status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<a>",
        b"<CompleteMultipartUpload/>",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><CompleteMultipartUpload>&a;</CompleteMultipartUpload>',
        b"<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>y</ETag></Part></CompleteMultipartUpload>",
    ],
)
def test_bad_completions_are_refused(bucket: Bucket, client: httpx.Client, body: bytes) -> None:
    path = f"/{bucket.name}/x"
    assert client.post(f"{path}?uploadId={_start(client, path)}", content=body).status_code == 400


@pytest.mark.parametrize(
    "given", [{"x-goog-custom-time": "yesterday"}, {"x-goog-meta-note": "n" * 9000}], ids=["time", "size"]
)
@pytest.mark.parametrize("form", [False, True], ids=["headers", "form"])
def test_what_the_json_api_refuses_of_an_object_is_refused(
    bucket: Bucket, client: httpx.Client, given: dict[str, str], form: bool
) -> None:
    if form:
        answer = client.post(f"/{bucket.name}", data={"key": "o", **given}, files={"file": b"x"})
    else:
        answer = client.put(f"/{bucket.name}/o", content=b"x", headers=given)
    assert answer.status_code == 400
    assert bucket.names() == []
