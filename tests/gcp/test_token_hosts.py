"""No answer, and nothing that others can write, makes up a host that an access token is sent to."""

from __future__ import annotations

import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner import addresses
from runner.environment import Environment
from runner.errors import ConfigurationError, GoogleApiError, RunnerError, UnreachableError
from runner.gcp import curves, deployed, endpoints, operations, prediction, storage, tuning_jobs, uploads
from runner.gcp.rest import ConnectError, RestClient
from runner.gcp.session import Session
from tests.local_server import Handler, LocalServer

SECRET = "ya29.secret"
CONTENT = b"0123456789"
PARENT = "projects/demo/locations/us-central1"
Answer = Callable[[Handler], tuple[int, dict[str, Any], dict[str, str]]]


@dataclass(slots=True)
class Service(LocalServer):
    """Answers each request as `answers` says, and remembers who was asked with a token."""

    answers: Answer | None = None
    tokens: list[str] = field(default_factory=list)
    """Method and path of each request that had the token."""

    def handler(self) -> type[Handler]:
        server = self

        class Answering(Handler):
            def answer(self) -> None:
                self.body()
                if SECRET in self.headers.get("authorization", ""):
                    server.tokens.append(f"{self.command} {self.path}")
                status, body, headers = server.answers(self) if server.answers else (200, {}, {})
                self.send_json(status, body, headers)

        return Answering


class Hosts:
    """The hosts that this process looks up. Only numbers of this machine are found, so nothing leaves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        resolve = socket.getaddrinfo

        def look_up(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
            with self._lock:
                self.asked.append((str(host), int(port or 0)))
            if host not in {"127.0.0.1", "::1"}:
                raise socket.gaierror(socket.EAI_NONAME, "not in this test")
            return resolve(host, port, *arguments, **more)

        monkeypatch.setattr(socket, "getaddrinfo", look_up)

    def foreign(self, *own: str) -> list[str]:
        """Return those that are neither Google's, nor the model's own, nor among `own`: host:port."""
        found = {f"{host}:{port}" for host, port in self.asked} - set(own)
        return sorted(found - {name for name in found if name.endswith((".googleapis.com:443", ".googleapis.com:0"))})


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> Hosts:
    return Hosts(monkeypatch)


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        yield server


@pytest.fixture
def thief() -> Iterator[Service]:
    with Service() as server:
        yield server


def environment(url: str) -> Environment:
    return Environment(project="demo", location="us-central1", vertex_url=url, storage_url=url, token=SECRET)


def authority(url: str) -> str:
    return url.removeprefix("http://")


def elsewhere(own: str, other: str) -> list[str]:
    """Return addresses that look as if they led from `own` to `other`, both HOST:PORT."""
    host, port = other.split(":")
    return [
        f"http://{other}/up?upload_id=1",
        f"https://{other}/up?upload_id=1",
        f"//{other}/up?upload_id=1",
        f"///{other}/up?upload_id=1",
        f"@{other}/up?upload_id=1",
        f":x@{other}/up?upload_id=1",
        f".evil.example@{other}/up?upload_id=1",
        f"http://{own}@{other}/up?upload_id=1",
        f"http://{own}\\@{other}/up?upload_id=1",
        f"http:@{other}/up?upload_id=1",
        f"http:{other}/up?upload_id=1",
        f"@[::ffff:{host}]:{port}/up?upload_id=1",
        f"@{host}%2e:{port}/up?upload_id=1",
        f"@①②⑦.0.0.1:{port}/up?upload_id=1",
        f"\t@{other}/up?upload_id=1",
        f"%40{other}/up?upload_id=1",
        ".evil.example/up?upload_id=1",
        "evil.example/up?upload_id=1",
        "0/up?upload_id=1",
        "?upload_id=1",
        "http://[/up?upload_id=1",
        "http://a]/up?upload_id=1",
    ]


@pytest.mark.parametrize("number", range(22))
def test_an_uploads_address_is_a_path_of_the_service(
    number: int, service: Service, thief: Service, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "SMALL_BYTES", 4)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "file").write_bytes(CONTENT)
    address = elsewhere(authority(service.url), authority(thief.url))[number]

    def answers(asked: Handler) -> tuple[int, dict[str, Any], dict[str, str]]:
        # A header is Latin-1; what is not goes as the bytes of its UTF-8.
        said = {"location": address.encode().decode("latin-1")}
        return (200, {}, said) if asked.command == "POST" else (404, {}, {})

    service.answers = answers
    with Session(environment(service.url)) as session, pytest.raises(RunnerError):
        uploads.upload_file(session, tmp_path / "file", "gs://bucket/name")
    assert thief.tokens == []
    assert hosts.foreign(authority(service.url)) == []
    assert all(line.split(" ")[1].startswith("/") for line in service.tokens)


def test_a_noted_upload_is_a_path_of_the_service(
    service: Service, thief: Service, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "SMALL_BYTES", 4)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "file").write_bytes(CONTENT)

    def answers(asked: Handler) -> tuple[int, dict[str, Any], dict[str, str]]:
        return (200, {}, {"location": "/up?upload_id=1"}) if asked.command == "POST" else (403, {}, {})

    service.answers = answers
    with Session(environment(service.url)) as session:
        with pytest.raises(RunnerError):
            uploads.upload_file(session, tmp_path / "file", "gs://bucket/name")
        [record] = (tmp_path / "state" / "uploads").glob("*.json")
        noted = json.loads(record.read_text())
        record.write_text(json.dumps({**noted, "address": f"@{authority(thief.url)}/up?upload_id=1"}))
        with pytest.raises(RunnerError):
            uploads.upload_file(session, tmp_path / "file", "gs://bucket/name")
    assert thief.tokens == []
    assert hosts.foreign(authority(service.url)) == []


def _document(dns: str, name: str = f"{PARENT}/endpoints/7") -> dict[str, Any]:
    return {"name": name, "dedicatedEndpointEnabled": True, "dedicatedEndpointDns": dns, "deployedModels": []}


DEDICATED = [
    "evil.example",
    "7.us-central1-1.prediction.vertexai.goog.evil.example",
    "evil.example/7.us-central1-1.prediction.vertexai.goog",
    "evil.example#.prediction.vertexai.goog",
    "evil.example?.prediction.vertexai.goog",
    "evil.example\\.prediction.vertexai.goog",
    "7.us-central1-1.prediction.vertexai.goog@evil.example",
    "evil.example:443@7.us-central1-1.prediction.vertexai.goog",
    "8.us-central1-1.prediction.vertexai.goog",
    "7.europe-west4-1.prediction.vertexai.goog",
    "prediction.vertexai.goog",
    "7.us-central1-1.prediction.vertexai.goog:8443",
    "7。us-central1-1.prediction.vertexai.goog",
    "7.us-central1-1.prediction.vertexai.goog.",
    "x.7.us-central1-1.prediction.vertexai.goog",
    "storage.googleapis.com",
    "metadata.google.internal",
    "169.254.169.254",
    "127.0.0.1:9",
    "[::1]:9",
    "localhost:9",
    "//evil.example",
    "http://evil.example",
]


@pytest.mark.parametrize("dns", DEDICATED)
def test_a_dedicated_endpoint_has_a_name_of_its_own_at_google(dns: str, hosts: Hosts) -> None:
    """Google's form is {endpoint}.{location}-{uid}.prediction.vertexai.goog; the endpoint is this one."""
    google = Environment(project="demo", location="us-central1", token=SECRET)
    endpoint = endpoints.Endpoint(name=f"{PARENT}/endpoints/7", id="7", dedicated_dns=dns)
    with Session(google) as session:
        asking: list[Callable[[], object]] = [
            lambda: prediction.predict(session, endpoint, [{"prompt": "x"}]),
            lambda: prediction.chat(session, endpoint=endpoint, messages=[]),
            lambda: list(prediction.chat(session, endpoint=endpoint, messages=[], stream=True)),
            lambda: deployed.ask_deployed_model(session, endpoint, "1", []),
        ]
        for ask in asking:
            with pytest.raises(GoogleApiError, match="dedicated"):
                ask()
    assert hosts.asked == []


@pytest.mark.parametrize("uid", ["1234567", "fasttryout"])
def test_a_dedicated_endpoint_is_asked_at_its_own_name(uid: str, hosts: Hosts) -> None:
    google = Environment(project="demo", location="us-central1", token=SECRET)
    dns = f"7.us-central1-{uid}.prediction.vertexai.goog"
    endpoint = endpoints.Endpoint(name=f"{PARENT}/endpoints/7", id="7", dedicated_dns=dns)
    with Session(google) as session, pytest.raises(UnreachableError):
        prediction.predict(session, endpoint, [{"prompt": "x"}], repeat=False)
    assert hosts.asked == [(dns, 443)]


PLACES = [
    "evil.example#", "evil.example?", "evil.example\\", "evil.example:443#", "@evil.example#", "a@evil.example",
    "x.evil.example", "[::1]#", "evil.example%23", "US-CENTRAL1", "us-central1\n", "éu-west1",
]  # fmt: skip


@pytest.mark.parametrize("location", PLACES)
def test_a_location_becomes_no_other_host(location: str, hosts: Hosts, service: Service) -> None:
    """Names of jobs, of experiments and in run manifests say a location, which is a part of its service's address."""
    with Session(Environment(project="demo", location="us-central1", token=SECRET)) as session:
        reading: list[Callable[[], object]] = [
            lambda: session.at("demo", location),
            lambda: tuning_jobs.get(session, f"projects/demo/locations/{location}/tuningJobs/1"),
            lambda: curves.curves_of(session, f"projects/demo/locations/{location}/metadataStores/a/contexts/b"),
        ]
        for read in reading:
            with pytest.raises((ConfigurationError, GoogleApiError)):
                read()
    assert hosts.asked == []


SIGNS = st.text(st.sampled_from("az09.-:@/[]%#?\\ \t;&=_~①。é"), max_size=24)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(scheme=st.sampled_from(["http://", "https://", "//", "", "ftp://", "HTTPS://"]), text=SIGNS)
def test_whatever_an_address_is_made_of_the_token_goes_to_no_stranger(
    scheme: str, text: str, service: Service, hosts: Hosts
) -> None:
    """The client itself holds to it, whoever puts an address together."""
    hosts.asked.clear()
    session = Session(environment(service.url))
    with session:
        for address in (scheme + text, service.url + text, f"https://us-central1-aiplatform.googleapis.com{text}"):
            try:
                session.http.get(address)
            except ConnectError:
                continue
    assert hosts.foreign(authority(service.url)) == []


def test_a_client_with_a_login_sends_it_to_its_own_service_only(service: Service, thief: Service) -> None:
    with RestClient(service.url, login=lambda *, fresh: SECRET) as client:
        assert client.get("/x").is_success
        assert client.get(f"{service.url}/x").is_success
        for address in elsewhere(authority(service.url), authority(thief.url)):
            with suppress(ConnectError):
                client.get(address if "://" in address else service.url + address)
    assert thief.tokens == []
    assert service.tokens[:2] == ["GET /x", "GET /x"]


@pytest.mark.parametrize(
    "name",
    [
        "@127.0.0.1:9/operations/1",
        f"{PARENT}/operations/1/../../endpoints/7",
        f"{PARENT}/operations/1?x",
        f"{PARENT}/operations/1#x",
        "http://evil.example/operations/1",
        f"{PARENT}/operations/%2e%2e",
    ],
)
def test_an_operations_name_is_a_name(name: str, service: Service, hosts: Hosts) -> None:
    service.answers = lambda _: (200, {"name": name}, {})
    with Session(environment(service.url)) as session, pytest.raises(GoogleApiError, match="name the operation"):
        operations.wait(session, endpoints.delete_endpoint(session, "7"), timeout=1)
    assert service.tokens == [f"DELETE /v1beta1/{PARENT}/endpoints/7"]


@pytest.mark.parametrize(
    "item",
    [
        f"{PARENT}/endpoints/../models/7",
        f"{PARENT}/endpoints/7?force=true",
        f"{PARENT}/endpoints/7#",
        f"{PARENT}/endpoints/%2e%2e/models/7",
        f"x@evil.example/{PARENT}/endpoints/7",
        f"{PARENT}/endpoints/7/deployedModels/8",
        f"{PARENT}/endpoints/",
        f"../{PARENT}/endpoints/7",
    ],
)
def test_what_a_list_names_can_be_asked_for_by_that_name(item: str, service: Service) -> None:
    service.answers = lambda _: (200, {"endpoints": [{"name": item}]}, {})
    with Session(environment(service.url)) as session, pytest.raises(GoogleApiError, match="an item of endpoints"):
        endpoints.list_endpoints(session)


def test_links_in_answers_are_not_followed(service: Service, thief: Service, hosts: Hosts) -> None:
    links = dict.fromkeys(("selfLink", "mediaLink", "nextLink", "uri", "location"), f"{thief.url}/x")

    def answers(asked: Handler) -> tuple[int, dict[str, Any], dict[str, str]]:
        body = {"bucket": "bucket", "name": "name", "size": "0", "crc32c": "AAAAAA==", "generation": "1", **links}
        listed = {"kind": "storage#objects", "items": [body], "nextPageToken": "@" + authority(thief.url), **links}
        if "/o/" in asked.path:
            return 200, body, {"link": f"<{thief.url}/x>; rel=next", "content-location": f"{thief.url}/x"}
        return 200, listed if "pageToken" not in asked.path else {"kind": "storage#objects"}, {}

    service.answers = answers
    with Session(environment(service.url)) as session:
        assert len(storage.list_objects(session, "gs://bucket/")) == 1
        assert storage.stat(session, "gs://bucket/name") is not None
    assert thief.tokens == []
    assert hosts.foreign(authority(service.url)) == []


@pytest.mark.parametrize(
    ("url", "googles"),
    [
        ("https://storage.googleapis.com", True),
        ("https://us-central1-aiplatform.googleapis.com:443", True),
        ("http://storage.googleapis.com", False),
        ("https://storage.googleapis.com:8443", False),
        ("https://googleapis.com.evil.example", False),
        ("https://evilgoogleapis.com", False),
        ("https://storage.googleapis.com.", False),
        ("https://.googleapis.com", False),
        ("https://a@storage.googleapis.com", False),
    ],
)
def test_which_addresses_are_googles(url: str, googles: bool) -> None:
    scheme, _, name = url.partition("://")
    assert addresses.is_googles(scheme, name) is googles


def test_an_environment_has_no_location_that_is_an_address() -> None:
    good = Environment(project="demo", location="us-central1")
    for location in PLACES:
        with pytest.raises(ConfigurationError, match="location"):
            dataclasses.replace(good, location=location)
    for project in ("evil.example#", "a/b", "a?b", "a b"):
        with pytest.raises(ConfigurationError, match="project"):
            dataclasses.replace(good, project=project)
