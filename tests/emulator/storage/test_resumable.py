"""Resumable uploads: placed by range, asked for, resumed, verified, cancelled."""

from __future__ import annotations

import base64
import os
import socket
import threading

import google_crc32c
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.storage.content_range import ContentRange, parse_content_range
from tests.emulator.storage.conftest import Bucket, attempt

_STEP = 256 * 1024


def _chunk(
    client: httpx.Client, location: str, data: bytes, span: str, method: str = "PUT", **headers: str
) -> httpx.Response:
    return client.request(method, location, content=data, headers={"Content-Range": f"bytes {span}", **headers})


@given(begin=st.integers(0, 99), length=st.integers(1, 99), rest=st.integers(0, 9) | st.none())
def test_content_ranges(begin: int, length: int, rest: int | None) -> None:
    end = begin + length
    total = "*" if rest is None else str(end + rest)
    expected = ContentRange(begin, end, None if rest is None else end + rest)
    assert parse_content_range(f"bytes {begin}-{end - 1}/{total}") == expected


@given(text=st.text(max_size=30) | st.from_regex(r"bytes [0-9*]{0,3}-?[0-9*]{0,3}/?[0-9*]{0,3}", fullmatch=True))
def test_any_content_range_is_understood_or_refused(text: str) -> None:
    span, status = attempt(lambda: parse_content_range(text))
    if span is None:
        assert status == 400
        return
    if span.begin is not None and span.end is not None:
        assert span.begin <= span.end


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_chunks_are_placed_by_their_range(bucket: Bucket, client: httpx.Client, method: str) -> None:
    data = os.urandom(3 * _STEP + 11)
    location = bucket.start("x", {"X-Upload-Content-Type": "text/x", "X-Upload-Content-Length": str(len(data))})
    assert location.startswith(str(client.base_url))
    status = _chunk(client, location, b"", "*/*")
    assert (status.status_code, status.headers.get("range")) == (308, None)
    first = _chunk(client, location, data[:_STEP], f"0-{_STEP - 1}/*", method)
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{_STEP - 1}")
    # The answer got lost: the client sends the same again, then a range that overlaps.
    assert _chunk(client, location, data[:_STEP], f"0-{_STEP - 1}/*", method).headers["range"] == f"bytes=0-{_STEP - 1}"
    second = _chunk(client, location, data[100 : 2 * _STEP], f"100-{2 * _STEP - 1}/{len(data)}", method)
    assert second.headers["range"] == f"bytes=0-{2 * _STEP - 1}"
    assert _chunk(client, location, b"", f"*/{len(data)}").headers["range"] == f"bytes=0-{2 * _STEP - 1}"
    gap = _chunk(client, location, data[-10:], f"{len(data) - 10}-{len(data) - 1}/{len(data)}", method)
    assert gap.status_code == 400
    assert bucket.data("x").status_code == 404
    last = _chunk(client, location, data[2 * _STEP :], f"{2 * _STEP}-{len(data) - 1}/{len(data)}", method)
    assert last.status_code == 200
    assert last.json()["contentType"] == "text/x"
    assert bucket.data("x").content == data
    again = _chunk(client, location, b"", "*/*")
    assert (again.status_code, again.json()["generation"]) == (200, last.json()["generation"])


def test_the_end_may_be_told_after_the_data(bucket: Bucket, client: httpx.Client) -> None:
    location = bucket.start("x")
    assert _chunk(client, location, b"a" * _STEP, f"0-{_STEP - 1}/*").status_code == 308
    assert _chunk(client, location, b"", f"*/{_STEP}").status_code == 200
    assert bucket.data("x").content == b"a" * _STEP


def test_nothing_is_an_object_too(bucket: Bucket, client: httpx.Client) -> None:
    assert _chunk(client, bucket.start("x"), b"", "*/0").json()["size"] == "0"
    assert client.put(bucket.start("y"), content=b"").json()["size"] == "0"
    assert bucket.names() == ["x", "y"]


@pytest.mark.parametrize("size", [5, 70_000])
def test_one_request_without_a_range_is_all_of_it(bucket: Bucket, client: httpx.Client, size: int) -> None:
    data = os.urandom(size)
    assert client.put(bucket.start("x"), content=data).status_code == 200
    assert bucket.data("x").content == data


def test_a_wrong_checksum_makes_no_object(bucket: Bucket, client: httpx.Client) -> None:
    data = os.urandom(_STEP + 5)
    location = bucket.start("x")
    assert _chunk(client, location, data[:_STEP], f"0-{_STEP - 1}/*").status_code == 308
    span = f"{_STEP}-{_STEP + 4}/{_STEP + 5}"
    wrong = _chunk(client, location, data[_STEP:], span, **{"X-Goog-Hash": "crc32c=AAAAAA=="})
    assert wrong.status_code == 400
    assert "doesn't match calculated CRC32C" in wrong.json()["error"]["message"]
    assert bucket.data("x").status_code == 404
    right = base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode()
    assert _chunk(client, location, data[_STEP:], span, **{"X-Goog-Hash": f"crc32c={right}"}).status_code == 200


def test_another_length_than_announced_is_refused(bucket: Bucket, client: httpx.Client) -> None:
    location = bucket.start("x", {"X-Upload-Content-Length": "7"})
    assert _chunk(client, location, b"12345", "0-4/5").status_code == 400
    assert bucket.names() == []


def test_preconditions_hold_at_the_start_and_at_the_end(bucket: Bucket, client: httpx.Client) -> None:
    location = bucket.start("x", ifGenerationMatch=0)
    bucket.stored("x", b"meanwhile")
    assert _chunk(client, location, b"12345", "0-4/5").status_code == 412
    refused = client.post(
        f"/upload{bucket.path}/o", params={"uploadType": "resumable", "name": "x", "ifGenerationMatch": 0}, json={}
    )
    assert refused.status_code == 412
    assert refused.json()["error"]["errors"][0]["reason"] == "conditionNotMet"
    assert bucket.data("x").content == b"meanwhile"


def test_a_cancelled_session_is_gone(bucket: Bucket, client: httpx.Client) -> None:
    location = bucket.start("x")
    assert _chunk(client, location, b"a" * _STEP, f"0-{_STEP - 1}/*").status_code == 308
    assert client.delete(location).status_code == 499
    assert _chunk(client, location, b"", "*/*").status_code == 499
    assert client.put(location.replace("upload_id=", "upload_id=0"), content=b"x").status_code == 404


def test_what_arrived_before_a_broken_connection_counts(bucket: Bucket, client: httpx.Client) -> None:
    data = os.urandom(3_000_000)
    location = bucket.start("x")
    host, port = location.removeprefix("http://").partition("/")[0].split(":")
    with socket.create_connection((host, int(port))) as connection:
        # A peer that has gone before it is accepted is nobody's, and is not answered.
        connection.sendall(f"GET /storage/v1/b?project=p-accepted HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        path = "/" + location.removeprefix("http://").partition("/")[2]
        head = f"PUT {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(data)}\r\n"
        head += f"Content-Range: bytes 0-{len(data) - 1}/{len(data)}\r\n\r\n"
        connection.sendall(head.encode() + data[:2_000_000])
    begin = 0
    for _ in range(100):
        status = _chunk(client, location, b"", "*/*")
        assert status.status_code == 308
        known = status.headers.get("range")
        begin = int(known.rpartition("-")[2]) + 1 if known else 0
        if begin == 2_000_000:
            break
    assert 0 < begin <= 2_000_000
    rest = _chunk(client, location, data[begin:], f"{begin}-{len(data) - 1}/{len(data)}")
    assert rest.status_code == 200
    assert bucket.data("x").content == data


def test_two_senders_of_one_chunk_do_no_harm(bucket: Bucket, client: httpx.Client) -> None:
    data = os.urandom(8_000_000)
    location = bucket.start("x")
    answers: list[int] = []

    def send() -> None:
        answers.append(
            httpx.put(
                location, content=data, headers={"Content-Range": f"bytes 0-{len(data) - 1}/{len(data)}"}, timeout=120
            ).status_code
        )

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200, 200, 200]
    assert bucket.data("x").content == data


@pytest.mark.parametrize("span", ["0-*/*", "0-*/{size}"])
@pytest.mark.parametrize("size", [0, 11, 2 * _STEP + 11])
def test_a_range_without_an_end_is_all_that_is_left(bucket: Bucket, client: httpx.Client, span: str, size: int) -> None:
    answer = _chunk(client, bucket.start("x"), b"a" * size, span.format(size=size))
    assert (answer.status_code, answer.json()["size"]) == (200, str(size))


def test_a_client_that_cannot_take_308_gets_200(bucket: Bucket, client: httpx.Client) -> None:
    location = bucket.start("x")
    no_308 = {"X-GUploader-No-308": "yes"}
    first = _chunk(client, location, b"a" * _STEP, f"0-{_STEP - 1}/*", **no_308)
    assert (first.status_code, first.headers["x-http-status-code-override"]) == (200, "308")
    assert first.headers["range"] == f"bytes=0-{_STEP - 1}"
    last = _chunk(client, location, b"a" * 9, f"{_STEP}-{_STEP + 8}/{_STEP + 9}", **no_308)
    assert last.json()["size"] == str(_STEP + 9)
    assert "x-http-status-code-override" not in last.headers


def test_gcloud_starts_uploads_at_its_own_path(bucket: Bucket, client: httpx.Client) -> None:
    start = client.post(f"/resumable/upload{bucket.path}/o", params={"uploadType": "resumable", "name": "x"}, json={})
    assert start.status_code == 200, start.text
    assert _chunk(client, start.headers["location"], b"abc", "0-2/3").json()["size"] == "3"
    assert bucket.data("x").content == b"abc"
