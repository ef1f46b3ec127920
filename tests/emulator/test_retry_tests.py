"""Retry tests: their protocol, and faults in the middle of data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from runner.emulator import retry_tests, services
from runner.emulator.errors import ApiError
from runner.emulator.faults import FaultSyntaxError, parse
from runner.emulator.server import EmulatorServer
from tests.provisioning import Provisioned

_KIB = 1024
_DATA = bytes(range(256)) * 4 * 300
"""300 KiB."""


@pytest.fixture
def client(emulator: EmulatorServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=emulator.url, timeout=120) as client:
        yield client


def _armed(client: httpx.Client, method: str, *instructions: str) -> tuple[str, dict[str, str]]:
    made = client.post("/retry_test", json={"instructions": {method: list(instructions)}})
    assert made.status_code == 200, made.text
    return made.json()["id"], {"x-retry-test-id": made.json()["id"]}


def _left(client: httpx.Client, test: str) -> list[str]:
    answer: dict[str, Any] = client.get(f"/retry_test/{test}").json()
    (instructions,) = answer["instructions"].values()
    assert answer["completed"] == (not instructions)
    return list(instructions)


def test_instructions_strike_the_test_s_requests_in_their_order(client: httpx.Client, project: Provisioned) -> None:
    test, header = _armed(client, "storage.buckets.list", "return-503", "return-429")
    url = f"/storage/v1/b?project={project.project}"
    assert client.get(url).status_code == 200
    assert client.get(f"/storage/v1/b/{project.datasets}", headers=header).status_code == 200
    assert _left(client, test) == ["return-503", "return-429"]
    assert [client.get(url, headers=header).status_code for _ in range(3)] == [503, 429, 200]
    assert _left(client, test) == []
    assert test in [one["id"] for one in client.get("/retry_tests").json()["retry_test"]]
    assert client.delete(f"/retry_test/{test}").text == f"Deleted {test}"
    for method in ("GET", "DELETE"):
        assert client.request(method, f"/retry_test/{test}").status_code == 404
    assert client.get(url, headers=header).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"instructions": []},
        {"instructions": {"storage.buckets.list": "return-503"}},
        {"instructions": {"storage.buckets.list": ["return-anything"]}},
        {"instructions": {"storage.buckets.list": ["return-299"]}},
        {"instructions": {"storage.buckets.dance": ["return-503"]}},
    ],
)
def test_what_cannot_be_done_is_refused(client: httpx.Client, body: dict[str, Any]) -> None:
    assert client.post("/retry_test", json=body).status_code == 400


def test_suites_skip_what_needs_grpc(client: httpx.Client) -> None:
    body: dict[str, Any] = {"instructions": {"storage.buckets.list": ["return-503"]}}
    assert client.post("/retry_test", json={**body, "transport": "grpc"}).status_code == 501
    assert client.post("/retry_test", json={**body, "transport": "http"}).status_code == 200


def test_what_only_suites_may_ask(client: httpx.Client, project: Provisioned) -> None:
    _, header = _armed(client, "storage.buckets.list", "return-503")
    bucket = f"/storage/v1/b/{project.datasets}"
    lock = {"ifMetagenerationMatch": client.get(bucket).json()["metageneration"]}
    for expected, headers in ((400, {}), (200, header)):
        assert client.get(f"{bucket}/iam/testPermissions", headers=headers).status_code == expected
        assert client.post(f"{bucket}/lockRetentionPolicy", params=lock, headers=headers).status_code == expected


def test_the_xml_api_counts_too(client: httpx.Client, project: Provisioned) -> None:
    test, header = _armed(client, "storage.objects.insert", "return-503")
    path = f"/{project.datasets}/x"
    assert [client.put(path, content=b"1", headers=header).status_code for _ in range(2)] == [503, 200]
    assert _left(client, test) == []


@pytest.mark.parametrize(
    ("instruction", "size"), [("return-broken-stream", 4), ("return-broken-stream-after-256K", 256 * _KIB)]
)
def test_a_download_breaks(client: httpx.Client, project: Provisioned, instruction: str, size: int) -> None:
    path = f"/{project.datasets}/x"
    assert client.put(path, content=_DATA).status_code == 200
    test, header = _armed(client, "storage.objects.get", instruction)
    got = bytearray()

    def read() -> None:
        with client.stream("GET", path, headers=header) as answer:
            assert answer.headers["content-length"] == str(len(_DATA))
            for piece in answer.iter_raw():
                got.extend(piece)

    with pytest.raises(httpx.RemoteProtocolError):
        read()
    assert bytes(got) == _DATA[:size]
    assert _left(client, test) == []
    assert client.get(path, headers=header).content == _DATA


def test_an_answer_that_is_shorter_is_left_alone(client: httpx.Client, project: Provisioned) -> None:
    path = f"/{project.datasets}/x"
    client.put(path, content=b"short")
    test, header = _armed(client, "storage.objects.get", "return-broken-stream-after-256K")
    assert client.get(path, headers=header).content == b"short"
    assert _left(client, test) == ["return-broken-stream-after-256K"]


def _start(client: httpx.Client, project: Provisioned) -> str:
    url = f"/upload/storage/v1/b/{project.datasets}/o?uploadType=resumable&name=x"
    return str(client.post(url, json={}).headers["location"])


def test_an_upload_is_refused_in_the_middle_and_goes_on(client: httpx.Client, project: Provisioned) -> None:
    test, header = _armed(client, "storage.objects.insert", "return-503-after-256K")
    location, total = _start(client, project), len(_DATA)
    whole = {"Content-Range": f"bytes 0-{total - 1}/{total}"}
    assert client.put(location, content=_DATA, headers={**header, **whole}).status_code == 503
    status = client.put(location, headers={**header, "Content-Range": f"bytes */{total}"})
    assert (status.status_code, status.headers["range"]) == (308, f"bytes=0-{256 * _KIB - 1}")
    rest = {"Content-Range": f"bytes {256 * _KIB}-{total - 1}/{total}"}
    assert client.put(location, content=_DATA[256 * _KIB :], headers={**header, **rest}).status_code == 200
    assert client.get(f"/{project.datasets}/x").content == _DATA
    assert _left(client, test) == []


def test_the_last_answer_is_cut(client: httpx.Client, project: Provisioned) -> None:
    test, header = _armed(client, "storage.objects.insert", "return-broken-stream-final-chunk-after-9B")
    location, total = _start(client, project), len(_DATA)
    with pytest.raises(httpx.RemoteProtocolError):
        client.put(location, content=_DATA, headers=header)
    assert client.put(location, headers={"Content-Range": f"bytes */{total}"}).json()["size"] == str(total)
    assert _left(client, test) == []


@pytest.mark.parametrize("instruction", ["return-reset-connection", "stall-for-0s-after-256K"])
def test_the_others(client: httpx.Client, project: Provisioned, instruction: str) -> None:
    test, header = _armed(client, "storage.objects.insert", instruction)
    path = f"/{project.datasets}/x"
    if instruction.startswith("return"):
        with pytest.raises(httpx.TransportError):
            client.put(path, content=_DATA, headers=header)
    assert client.put(path, content=_DATA, headers=header).status_code == 200
    assert client.get(path).content == _DATA
    assert _left(client, test) == []


def test_they_outlive_the_server(emulator: EmulatorServer, client: httpx.Client) -> None:
    from runner.emulator.fault_register import FILE_NAME, Faults

    test, _ = _armed(client, "storage.hmacKey.get", "return-503-after-256K")
    (again,) = Faults((), emulator.settings.directory / FILE_NAME).of_test(test)
    assert (again.asked, again.after) == ("storage.hmacKey.get return-503-after-256K", 256 * _KIB)
    client.delete(f"/retry_test/{test}")


@pytest.mark.parametrize("text", ["x.get:status-after=503,after=1", "x.get:drop=softly", "x.get:drop,after=x"])
def test_other_texts_are_no_faults(text: str) -> None:
    with pytest.raises(FaultSyntaxError):
        parse(text)


def test_every_method_has_its_name_in_the_suites() -> None:
    known = {method.id for method in services.all_methods()}
    names = ["bucket_acl.get", "default_object_acl.list", "object_acl.patch", "hmacKey.create", "serviceaccount.get"]
    names += ["notifications.insert", "buckets.testIamPermission", "buckets.lockRetentionPolicy", "objects.rewrite"]
    assert {retry_tests.method_of(f"storage.{name}") for name in names} <= known
    with pytest.raises(ApiError):
        retry_tests.fault_of("storage.objects.get", "return-5030")
