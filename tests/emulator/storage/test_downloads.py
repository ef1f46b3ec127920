"""Reading objects: ranges, headers, gzip."""

from __future__ import annotations

import gzip
import os
from email.utils import formatdate

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.errors import ApiError
from runner.emulator.storage.downloads import Span, header_value, http_date, parse_range
from tests.emulator.storage.conftest import Bucket, attempt


@given(begin=st.integers(0, 50), end=st.integers(0, 50), size=st.integers(0, 40))
def test_a_range_is_what_slicing_gives(begin: int, end: int, size: int) -> None:
    data = bytes(range(size))
    if end < begin:
        assert parse_range(f"bytes={begin}-{end}", size) is None
    elif begin >= size:
        with pytest.raises(ApiError) as refused:
            parse_range(f"bytes={begin}-{end}", size)
        assert refused.value.http == 416
        assert refused.value.headers["Content-Range"] == f"bytes */{size}"
    else:
        span = parse_range(f"bytes={begin}-{end}", size)
        assert span is not None
        assert data[span.begin : span.end] == data[begin : end + 1]


@given(count=st.integers(1, 60), size=st.integers(1, 40))
def test_a_suffix_range_is_the_end(count: int, size: int) -> None:
    assert parse_range(f"bytes=-{count}", size) == Span(max(0, size - count), size)


@given(header=st.text(max_size=30) | st.from_regex(r"bytes=[0-9, -]{0,20}", fullmatch=True), size=st.integers(0, 20))
def test_any_range_is_understood_or_ignored_or_refused(header: str, size: int) -> None:
    span, status = attempt(lambda: parse_range(header, size))
    assert status in (None, 416)
    assert span is None or 0 <= span.begin < span.end <= size


@given(text=st.text())
def test_no_header_value_can_end_its_line(text: str) -> None:
    value = header_value(text)
    assert not any(byte < 0x20 or byte == 0x7F for byte in value)


@pytest.mark.parametrize("size", [10, 300_000])
def test_ranges_over_the_wire(bucket: Bucket, size: int) -> None:
    data = os.urandom(size)
    bucket.stored("x", data)
    for header, first, expected in [
        ("bytes=2-5", 2, data[2:6]),
        ("bytes=7-", 7, data[7:]),
        ("bytes=-3", size - 3, data[-3:]),
    ]:
        answer = bucket.data("x", Range=header)
        assert (answer.status_code, answer.content) == (206, expected)
        assert answer.headers["content-range"] == f"bytes {first}-{first + len(expected) - 1}/{size}"
    assert bucket.data("x", Range=f"bytes={size}-").status_code == 416
    assert bucket.data("x", Range="bytes=0-1,3-4").content == data


def test_both_addresses_and_the_headers(bucket: Bucket, client: httpx.Client) -> None:
    resource = bucket.stored("a/ü", b"data")
    for answer in (
        bucket.data("a/ü"),
        client.get(f"/download{bucket.object_path('a/ü')}"),
        client.get(resource["mediaLink"]),
    ):
        assert answer.content == b"data"
        assert answer.headers["x-goog-hash"] == f"crc32c={resource['crc32c']},md5={resource['md5Hash']}"
        assert answer.headers["x-goog-generation"] == resource["generation"]
        assert answer.headers["x-goog-metageneration"] == "1"
        assert answer.headers["x-goog-stored-content-encoding"] == "identity"
        assert answer.headers["x-goog-stored-content-length"] == "4"
        assert answer.headers["etag"] == resource["etag"]


def test_metadata_cannot_add_headers(bucket: Bucket, client: httpx.Client) -> None:
    bucket.stored("x", b"data")
    evil = "text/plain\r\nSet-Cookie: a=b"
    assert client.patch(
        bucket.object_path("x"), json={"contentType": evil, "metadata": {"a\r\nb": "ü\r\nX: y"}}
    ).is_success
    answer = bucket.data("x")
    assert answer.content == b"data"
    assert "set-cookie" not in answer.headers
    assert "x" not in answer.headers


@pytest.mark.parametrize("size", [1000, 3_000_000])
def test_gzip_is_unpacked_only_for_those_who_do_not_take_it(bucket: Bucket, size: int) -> None:
    plain = os.urandom(size // 2) + b"a" * (size // 2)
    packed = gzip.compress(plain)
    bucket.stored("x.gz", packed, contentEncoding="gzip")
    with bucket.client.stream(
        "GET", bucket.object_path("x.gz"), params={"alt": "media"}, headers={"Accept-Encoding": "gzip"}
    ) as answer:
        assert b"".join(answer.iter_raw()) == packed
        assert answer.headers["content-encoding"] == "gzip"
    answer = bucket.data("x.gz", **{"Accept-Encoding": "identity"})
    assert answer.content == plain
    assert "content-encoding" not in answer.headers
    assert answer.headers["x-goog-stored-content-encoding"] == "gzip"


def test_a_reader_keeps_an_object_that_is_replaced_meanwhile(bucket: Bucket, client: httpx.Client) -> None:
    client.patch(bucket.path, json={"softDeletePolicy": {"retentionDurationSeconds": 0}})
    old = os.urandom(20_000_000)
    bucket.stored("x", old)
    with client.stream("GET", bucket.object_path("x"), params={"alt": "media"}) as answer:
        pieces = answer.iter_raw()
        received = next(pieces)
        with httpx.Client(base_url=str(client.base_url), timeout=120) as other:
            assert Bucket(other, bucket.name).put("x", b"new").status_code == 200
        received += b"".join(pieces)
    assert received == old
    assert bucket.data("x").content == b"new"


@given(st.integers(0, 2**33))
def test_dates_are_those_of_http(seconds: int) -> None:
    assert http_date(seconds) == formatdate(seconds, usegmt=True)
