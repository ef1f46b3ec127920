"""The guards: who may talk to the emulator, and what an unknown request is told."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from runner.emulator.server import EmulatorServer, StateInUseError, UnsafeAddressError
from runner.emulator.settings import EmulatorSettings


def test_a_rebound_name_is_not_answered(emulator: EmulatorServer) -> None:
    answer = httpx.get(emulator.url + "/storage/v1/b?project=p", headers={"Host": "evil.example"}, timeout=120)
    assert answer.status_code == 421
    assert "evil.example" in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LOCALHOST"])
def test_names_of_this_machine_are_answered(emulator: EmulatorServer, name: str) -> None:
    port = emulator.url.rsplit(":", 1)[1]
    answer = httpx.get(
        emulator.url + "/storage/v1/b?project=test-guards", headers={"Host": f"{name}:{port}"}, timeout=120
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}])
def test_web_pages_are_refused(emulator: EmulatorServer, headers: dict[str, str]) -> None:
    answer = httpx.get(emulator.url + "/storage/v1/b?project=p", headers=headers, timeout=120)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_gets_no_cors(emulator: EmulatorServer) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = httpx.options(emulator.url + "/storage/v1/b", headers=headers, timeout=120)
    assert answer.status_code == 403
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_an_unsupported_method_names_itself(emulator: EmulatorServer) -> None:
    answer = httpx.get(emulator.url + "/v1/projects/p/locations/us-central1/featurestores", timeout=120)
    assert answer.status_code == 400  # 501 would be repeated by Go, Node and gcloud
    error = answer.json()["error"]
    assert error["status"] == "UNIMPLEMENTED"
    assert "GET /v1/projects/p/locations/us-central1/featurestores" in error["message"]
    assert "`runner explain emulator`" in error["message"]


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("GET", "/v1/projects/p/nothings"),
        ("PUT", "/v1beta1/projects/p/locations/us-central1/tuningJobs"),
        ("POST", "/v1/projects/p/locations/us-central1:recommendSpec"),
        ("POST", "/v1/projects/p/services/aiplatform.googleapis.com:generateServiceIdentity"),
        ("GET", "/v1/publishers/google/models"),
        ("GET", "/v7/projects/p"),
    ],
)
def test_what_google_does_not_have_is_not_found(emulator: EmulatorServer, verb: str, path: str) -> None:
    answer = httpx.request(verb, emulator.url + path, timeout=120)
    assert answer.status_code == 404
    assert answer.json()["error"]["status"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "path", ["/v2/projects/p/locations/l/services", "/v2/projects/p/logs", "/v1/projects/p/topics"]
)
def test_methods_of_services_that_are_not_here_are_refused(emulator: EmulatorServer, path: str) -> None:
    assert httpx.get(emulator.url + path, timeout=120).json()["error"]["status"] == "UNIMPLEMENTED"


def test_a_method_may_be_named_by_a_header(emulator: EmulatorServer) -> None:
    headers = {"X-HTTP-Method-Override": "GET"}
    answer = httpx.post(emulator.url + "/storage/v1/b?project=test-guards", headers=headers, timeout=120)
    assert answer.json()["kind"] == "storage#buckets"


def test_a_huge_json_body_is_refused(emulator: EmulatorServer) -> None:
    body = b'{"name": "' + b"a" * (33 * 1024 * 1024) + b'"}'
    answer = httpx.post(emulator.url + "/storage/v1/b?project=p", content=body, timeout=120)
    assert answer.status_code == 413


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_broken_json_is_a_400(emulator: EmulatorServer, body: bytes) -> None:
    answer = httpx.post(emulator.url + "/storage/v1/b?project=test-guards", content=body, timeout=120)
    assert answer.status_code == 400


def test_endless_headers_are_cut_off(emulator: EmulatorServer) -> None:
    host, port = emulator.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        received = b""
        try:
            for _ in range(2000):
                connection.sendall(b"X-Filler: " + b"a" * 1000 + b"\r\n")
            received = connection.recv(1000)
        except OSError:
            received = b""
    assert not received.startswith(b"HTTP/1.1 2")
    assert httpx.get(emulator.url + "/storage/v1/b?project=test-guards", timeout=120).status_code == 200


def test_a_token_is_demanded_where_there_is_one(tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(directory=tmp_path / "state", token="secret")) as server:
        url = server.url + "/storage/v1/b?project=test-guards"
        assert httpx.get(url, timeout=120).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer wrong"}, timeout=120).status_code == 401
        assert httpx.get(url, headers={"Authorization": "Bearer secret"}, timeout=120).status_code == 200


def test_only_loopback_without_a_token(tmp_path: Path) -> None:
    with (
        pytest.raises(UnsafeAddressError),
        EmulatorServer(EmulatorSettings(directory=tmp_path, host="0.0.0.0")),
    ):
        pass


def test_a_state_directory_has_one_server(tmp_path: Path) -> None:
    settings = EmulatorSettings(directory=tmp_path / "state")
    with EmulatorServer(settings), pytest.raises(StateInUseError), EmulatorServer(settings):
        pass
    with EmulatorServer(settings) as again:
        assert httpx.get(again.url + "/storage/v1/b?project=test-guards", timeout=120).status_code == 200


def test_the_state_is_private(tmp_path: Path) -> None:
    with EmulatorServer(EmulatorSettings(directory=tmp_path / "state")):
        assert (tmp_path / "state").stat().st_mode & 0o077 == 0
