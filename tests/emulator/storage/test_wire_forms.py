"""The same request in the spelling of each client: flags, slashes, heads, empty messages, entity tags."""

from __future__ import annotations

import base64
import json
from random import Random

import google_crc32c
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.storage.listing import compile_glob
from runner.emulator.storage.parameters import boolean
from tests.emulator.storage.conftest import Bucket, attempt

_STEP = 256 * 1024


@given(st.sampled_from(["true", "false"]), st.randoms(use_true_random=False))
def test_a_flag_is_read_in_any_case(word: str, random: Random) -> None:
    spelled = "".join(random.choice([letter.upper(), letter]) for letter in word)
    assert boolean({"flag": spelled}, "flag") is (word == "true")


@given(st.text(max_size=6))
def test_any_other_flag_is_refused(text: str) -> None:
    flag, status = attempt(lambda: boolean({"flag": text}, "flag"))
    known = {"true", "false", "0", "1", ""}
    assert (status == 400) == (text.lower() not in known)
    assert flag in (True, False, None)


@pytest.mark.parametrize("spelled", ["true", "True", "TRUE", "1"])
def test_lists_know_every_client_s_true(bucket: Bucket, client: httpx.Client, spelled: str) -> None:
    bucket.stored("gone", b"1")
    assert client.delete(bucket.object_path("gone")).status_code == 204
    assert bucket.names(softDeleted=spelled) == ["gone"]
    assert client.patch(bucket.path, json={"versioning": {"enabled": True}}).status_code == 200
    bucket.stored("x", b"1")
    bucket.stored("x", b"2")
    assert bucket.names(versions=spelled) == ["x", "x"]
    assert bucket.names(versions=spelled.lower().replace("true", "False").replace("1", "0")) == ["x"]
    assert client.get(f"{bucket.path}/o", params={"versions": "perhaps"}).status_code == 400


@pytest.mark.parametrize("path", ["/storage/v1/b/?project={project}", "{bucket}/", "{bucket}/o/", "{object}/"])
def test_a_slash_at_the_end_changes_nothing(bucket: Bucket, client: httpx.Client, path: str) -> None:
    bucket.stored("x", b"data")
    project = bucket.name.removesuffix("-datasets")
    url = path.format(project=project, bucket=bucket.path, object=bucket.object_path("x"))
    answer = client.get(url)
    assert (answer.status_code, answer.json()) == (200, client.get(url.replace("/?", "?").removesuffix("/")).json())


def test_a_head_tells_what_a_get_would(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"data")
    for path in (bucket.path, f"{bucket.path}/o", bucket.object_path("x"), f"{bucket.object_path('x')}?alt=media"):
        head, get = client.head(path), client.get(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
    assert client.head(bucket.object_path("none")).status_code == 404


@pytest.mark.parametrize("path", ["rewriteTo", "copyTo"])
def test_null_is_a_message_without_fields(bucket: Bucket, client: httpx.Client, path: str) -> None:
    bucket.stored("x", b"data")
    url = f"{bucket.object_path('x')}/{path}/b/{bucket.name}/o/y"
    assert client.post(url, content=b"null", headers={"Content-Type": "application/json"}).status_code == 200
    assert bucket.data("y").content == b"data"


def test_entity_tags_are_conditions(bucket: Bucket, client: httpx.Client) -> None:
    path, etag = bucket.object_path("x"), bucket.stored("x", b"data")["etag"]
    for tags in (f'"{etag}"', etag, f'"other", "{etag}"', "*"):
        assert client.get(path, headers={"If-Match": tags}).status_code == 200
        assert client.get(path, headers={"If-None-Match": tags}).status_code == 304
        assert client.patch(path, json={}, headers={"If-None-Match": tags}).status_code == 412
    for method in ("GET", "PATCH", "DELETE"):
        assert client.request(method, path, headers={"If-Match": '"other"'}).status_code == 412
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    assert (
        bucket.client.post(
            f"/upload{bucket.path}/o?uploadType=media&name=x", content=b"2", headers={"If-None-Match": "*"}
        ).status_code
        == 412
    )
    known = client.get(bucket.path).json()["etag"]
    assert client.get(bucket.path, headers={"If-None-Match": known}).status_code == 304
    assert client.patch(bucket.path, json={}, headers={"If-Match": "other"}).status_code == 412
    assert client.delete(bucket.path, headers={"If-Match": "other"}).status_code == 412
    xml = f"/{bucket.name}/x"
    tag = client.get(xml).headers["etag"]
    assert client.get(xml, headers={"If-None-Match": tag}).status_code == 304
    assert client.put(xml, content=b"2", headers={"If-Match": '"other"'}).status_code == 412
    written = client.head(xml).headers["last-modified"]
    assert client.get(xml, headers={"If-Modified-Since": written}).status_code == 304
    assert client.get(xml, headers={"If-Unmodified-Since": "Mon, 01 Jan 2024 00:00:00 GMT"}).status_code == 412
    assert bucket.data("x").content == b"data"


@pytest.mark.parametrize("where", ["start", "end"])
@pytest.mark.parametrize("size", [9, _STEP + 9])
def test_a_checksum_counts_wherever_it_is_announced(
    bucket: Bucket, client: httpx.Client, where: str, size: int
) -> None:
    data = b"a" * size
    right = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    for announced, status in ((right, 200), ("AAAAAA==", 400)):
        body = {"crc32c": announced if where == "start" else right}
        start = client.post(f"/upload{bucket.path}/o?uploadType=resumable&name=x", json=body)
        final = {"X-Goog-Hash": f"crc32c={announced if where == 'end' else right}"}
        location = start.headers["location"]
        if size > _STEP:
            client.put(location, content=data[:_STEP], headers={"Content-Range": f"bytes 0-{_STEP - 1}/*"})
            final["Content-Range"] = f"bytes {_STEP}-{size - 1}/{size}"
        assert client.put(location, content=data[_STEP:] or data, headers=final).status_code == status


def test_a_small_chunk_must_be_the_last(bucket: Bucket, client: httpx.Client) -> None:
    location = bucket.start("x")
    small = client.put(location, content=b"a" * 1000, headers={"Content-Range": "bytes 0-999/*"})
    assert small.status_code == 400
    assert "is required to be equal or greater than 262144" in small.json()["error"]["message"]
    assert client.put(location, content=b"a" * 1000, headers={"Content-Range": "bytes 0-999/1000"}).status_code == 200


def test_media_errors_are_plain_text(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"data")
    answers = {
        404: client.get(f"/download{bucket.object_path('none')}?alt=media"),
        416: client.get(f"{bucket.object_path('x')}?alt=media", headers={"Range": "bytes=9-"}),
    }
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-type"].startswith("text/html")
        assert "{" not in answer.text
    assert answers[404].text == f"No such object: {bucket.name}/none"


@pytest.mark.parametrize(
    ("accepted", "packed"), [("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=0", False), ("br", False)]
)
def test_gzip_is_unpacked_for_those_who_do_not_take_it(
    bucket: Bucket, client: httpx.Client, accepted: str, packed: bool
) -> None:
    bucket.stored(
        "x", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xcbH\xcd\xc9\xc9\x07\x00\x86\xa6\x106\x05\x00\x00\x00"
    )
    client.patch(bucket.object_path("x"), json={"contentEncoding": "gzip"})
    answer = bucket.data("x", **{"Accept-Encoding": accepted})
    assert (answer.content, "content-encoding" in answer.headers) == (b"hello", packed)


def test_a_composed_object_has_its_own_type_and_may_take_its_sources_with_it(
    bucket: Bucket, client: httpx.Client
) -> None:
    for name in ("a", "b"):
        client.put(f"/{bucket.name}/{name}", content=name.encode(), headers={"Content-Type": "text/plain"})
    body = {"sourceObjects": [{"name": "a"}, {"name": "b"}], "destination": {}}
    made = client.post(f"{bucket.object_path('ab')}/compose", json=body).json()
    assert "contentType" not in made
    assert bucket.names() == ["a", "ab", "b"]
    append = {"sourceObjects": [{"name": "ab"}, {"name": "b"}], "deleteSourceObjects": True}
    assert client.post(f"{bucket.object_path('ab')}/compose", json=append).status_code == 200
    assert bucket.names() == ["a", "ab"]
    assert bucket.data("ab").content == b"abb"


def test_null_deletes_a_context(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"data")
    path = bucket.object_path("x")
    client.patch(path, json={"contexts": {"custom": {"a": {"value": "1"}, "b": {"value": "2"}}}})
    after = client.patch(path, json={"contexts": {"custom": {"a": None}}}).json()
    assert list(after["contexts"]["custom"]) == ["b"]


@pytest.mark.parametrize(
    ("glob", "taken", "left"),
    [
        ("**/x", ["x", "a/x", "a/b/x"], ["ax", "a/xy"]),
        ("a/**/x", ["a/x", "a/b/c/x"], ["ax", "b/x"]),
        ("a/**", ["a/x", "a/b/x"], ["a", "b/a/x"]),
        ("*/x", ["a/x", "/x"], ["x", "a/b/x"]),
        ("**.{png,jpg}", ["a/b.png", "c.jpg"], ["a/b.gif"]),
    ],
)
def test_globs(glob: str, taken: list[str], left: list[str]) -> None:
    pattern = compile_glob(glob)
    assert [name for name in taken + left if pattern.match(name)] == taken


@pytest.mark.parametrize("path", ["/batch", "/batch/storage/v1"])
def test_a_batch_goes_to_either_address(bucket: Bucket, client: httpx.Client, path: str) -> None:
    bucket.stored("x", b"data")
    content = f"--b\r\nContent-Type: application/http\r\n\r\nGET {bucket.object_path('x')} HTTP/1.1\r\n\r\n\r\n--b--"
    answer = client.post(path, content=content, headers={"Content-Type": "multipart/mixed; boundary=b"})
    assert json.loads(answer.text.rpartition("\r\n\r\n{")[2].partition("\r\n--")[0].join(["{", ""]))["name"] == "x"


@pytest.mark.parametrize("host", ["storage.googleapis.com", "storage.googleapis.com:80", "localhost:9"])
def test_the_host_may_name_the_bucket(bucket: Bucket, client: httpx.Client, host: str) -> None:
    there = {"Host": f"{bucket.name}.{host}"}
    assert client.put("/a/b%2Fc", content=b"data", headers=there).status_code == 200
    assert client.get("/a/b/c", headers=there).content == b"data"
    assert bucket.names() == ["a/b/c"]
    for path in ("/", "/?list-type=2", "?prefix=a/"):
        listed = client.get(path, headers=there)
        assert (listed.status_code, "<Key>a/b/c</Key>" in listed.text) == (200, True), path
    # The JSON API has no such form: its paths are names of objects here.
    assert client.get(f"/storage/v1/b/{bucket.name}", headers=there).status_code == 404
    assert client.delete("/a/b/c", headers=there).status_code == 204


@pytest.mark.parametrize(
    "host", ["x.evil.example", "storage.googleapis.com.evil.example", "evilstorage.googleapis.com"]
)
def test_no_other_host_is_served(client: httpx.Client, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 421


def test_a_body_that_is_no_json_by_its_own_words_is_refused(bucket: Bucket, client: httpx.Client) -> None:
    """Of Google's APIs, only Cloud Storage looks at the type."""
    body = json.dumps({"labels": {"team": "ml"}}).encode()

    def patched(kind: str | None) -> httpx.Response:
        return client.patch(bucket.path, content=body, headers={} if kind is None else {"Content-Type": kind})

    for kind in (None, "application/json", "application/json; charset=UTF-8"):
        assert patched(kind).status_code == 200, kind
    for kind, reason, said in (
        ("text/plain", "badContent", "Unsupported content with type: text/plain"),
        ("image/png", "badContent", "Unsupported content with type: image/png"),
        ("application/x-www-form-urlencoded", "parseError", "This API does not support parsing form-encoded input."),
    ):
        answer = patched(kind)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["message"], error["errors"][0]["reason"]) == (said, reason)
