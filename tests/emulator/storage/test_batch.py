"""Batches, partial responses, and many clients at once."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.emulator.field_selection import pick, selection
from runner.emulator.server import EmulatorServer
from runner.emulator.storage.batch import split
from tests.emulator.storage.conftest import Bucket, attempt


@pytest.mark.parametrize("newline", ["\r\n", "\n"])
def test_a_batch_answers_every_part_in_order(bucket: Bucket, client: httpx.Client, newline: str) -> None:
    for name in ("a", "b"):
        bucket.stored(name, b"data")
    requests = [
        newline.join([f"GET {client.base_url}{bucket.object_path('a')}?fields=name HTTP/1.1", "Accept: */*", "", ""]),
        f"DELETE {bucket.object_path('b')} HTTP/1.1{newline}{newline}",
        f"DELETE {bucket.object_path('none')} HTTP/1.1{newline}{newline}",
        newline.join([f"PATCH {bucket.object_path('a')} HTTP/1.1", "Content-Type: application/json", "", ""])
        + json.dumps({"metadata": {"k": "v"}}),
        f"GET /v1/projects/p HTTP/1.1{newline}{newline}",
    ]
    body = ""
    for number, request in enumerate(requests):
        head = newline.join(["--xyz", "Content-Type: application/http", f"Content-ID: <id+{number}>", "", ""])
        body += head + request + newline
    answer = client.post(
        "/batch/storage/v1", content=body + "--xyz--", headers={"Content-Type": "multipart/mixed; boundary=xyz"}
    )
    assert answer.status_code == 200
    boundary = answer.headers["content-type"].partition("boundary=")[2]
    parts = answer.text.split(f"--{boundary}")[1:-1]
    assert [part.partition("HTTP/1.1 ")[2][:3] for part in parts] == ["200", "204", "404", "200", "404"]
    assert all(f"<response-id+{number}>" in part for number, part in enumerate(parts))
    assert '{"name":"a"}' in parts[0]
    assert client.get(bucket.object_path("a")).json()["metadata"] == {"k": "v"}
    assert bucket.names() == ["a"]


def test_a_batch_has_its_limit(client: httpx.Client) -> None:
    part = "--b\r\nContent-Type: application/http\r\n\r\nGET /storage/v1/b/x HTTP/1.1\r\n\r\n\r\n"
    headers = {"Content-Type": "multipart/mixed; boundary=b"}
    assert client.post("/batch/storage/v1", content=part * 101 + "--b--", headers=headers).status_code == 400
    assert client.post("/batch/storage/v1", content="--b--", headers=headers).status_code == 400


@given(body=st.binary(max_size=200))
def test_any_batch_body_is_split_or_refused(body: bytes) -> None:
    parts, status = attempt(lambda: split(b"--b\r\n\r\nGET /x\r\n\r\n\r\n--b\n" + body, b"b"))
    assert (parts is not None and parts[0].target == "/x") or status == 400


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("name", {"name": "n"}),
        ("items(id,owner/a),next", {"items": [{"id": 1, "owner": {"a": 1}}, {"id": 2}], "next": "t"}),
        ("items/id", {"items": [{"id": 1}, {"id": 2}]}),
        ("items/owner(b)", {"items": [{"owner": {"b": 2}}, {}]}),
        ("items/id,items/owner/a", {"items": [{"id": 1, "owner": {"a": 1}}, {"id": 2}]}),
        ("items,items/id", {"items": [{"id": 1, "owner": {"a": 1, "b": 2}}, {"id": 2}]}),
        ("none", {}),
    ],
)
def test_fields(fields: str, expected: dict[str, Any]) -> None:
    value = {"name": "n", "items": [{"id": 1, "owner": {"a": 1, "b": 2}}, {"id": 2}], "next": "t"}
    assert pick(value, selection(fields)) == expected
    assert pick(value, selection("*")) == value


@given(fields=st.text("ab(),/* ", max_size=20))
def test_any_fields_are_read_or_refused(fields: str) -> None:
    tree, status = attempt(lambda: selection(fields))
    assert tree is not None or status == 400


def test_32_clients_at_once(emulator: EmulatorServer, bucket: Bucket) -> None:
    def work(index: int) -> int:
        with httpx.Client(base_url=emulator.url, timeout=60) as client:
            mine = Bucket(client, bucket.name)
            for number in range(6):
                data = os.urandom(4096 if number % 3 else 150_000)
                mine.stored(f"{index}/{number}", data)
                assert mine.data(f"{index}/{number}").content == data
                assert mine.names(prefix=f"{index}/", maxResults=1000) == [f"{index}/{n}" for n in range(number + 1)]
        return index

    with ThreadPoolExecutor(32) as pool:
        assert sorted(pool.map(work, range(32))) == list(range(32))
    assert len(bucket.names()) == 32 * 6
