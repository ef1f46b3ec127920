"""Dedicated endpoints: a DNS name and TLS of their own, checked against a certification authority made for the test."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.emulator.engine.launcher import Launcher
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.errors import UnreachableError
from runner.gcp import deployed, downloads, prediction, storage, uploads
from runner.gcp.session import Session
from runner.serving.deployment import deploy, undeploy
from runner.serving.plan import plan_deployment
from runner.serving.resources import Reach
from tests.cli.invocation import process
from tests.projects import Tuned, environment_of
from tests.provisioning import Provisioned, provision
from tests.serving import certificates
from tests.serving.conftest import MACHINE

pytestmark = pytest.mark.training

MESSAGES = [{"role": "user", "content": "What is 3?"}]
SERVICE_FORM = "{endpoint}.{location}-{number}.prediction.vertexai.goog"
"""What Google's own names look like."""


def _weights(tuned: Tuned, target: Provisioned) -> str:
    """Copy the tuned weights to another emulator and return their folder."""
    folder = f"gs://{target.outputs}/weights"
    with Session(tuned.environment) as here, Session(environment_of(target)) as there:
        for item in storage.list_objects(here, tuned.job.final_checkpoint_uri + "/"):
            name = item.uri.removeprefix(tuned.job.final_checkpoint_uri + "/")
            if "/" not in name:
                uploads.upload_bytes(there, downloads.read_bytes(here, item.uri), f"{folder}/{name}")
    return folder


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """An emulator with dedicated endpoints."""

    server: EmulatorServer
    project: Provisioned
    weights: str
    authority: Path


def _start(
    emulator: EmulatorServer, tuned: Tuned, directory: Path, host: str, certificate: certificates.Certificate
) -> Iterator[Place]:
    settings = EmulatorSettings(
        directory=directory / "emulator",
        stand_in="tiny",
        dedicated_certificate=certificate.certificate,
        dedicated_key=certificate.key,
        dedicated_host=host,
    )
    with EmulatorServer(settings) as server:
        # The serving processes of both come from one fork server, which has loaded torch already.
        server.emulator.launcher = emulator.emulator.launcher
        project = provision(server.url, "dedicated")
        yield Place(server, project, _weights(tuned, project), certificate.authority)
        server.emulator.launcher = Launcher()


@pytest.fixture(scope="module")
def place(emulator: EmulatorServer, tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("dedicated")
    yield from _start(emulator, tuned, directory, "localhost", certificates.make(directory / "tls", "localhost"))


def test_the_specifications_snippets_and_the_openai_client_run_unchanged(place: Place, tmp_path: Path) -> None:
    variables = {
        **os.environ,
        "EMULATOR": place.server.url,
        "PROJECT_ID": place.project.project,
        "REGION": place.project.location,
        "WEIGHTS": place.weights,
        "REQUESTS_CA_BUNDLE": str(place.authority),
        "SSL_CERT_FILE": str(place.authority),
        "NO_PROXY": "127.0.0.1,localhost",
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.serving.dedicated_snippet"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=200,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    body = json.loads(done.stdout.splitlines()[-1])
    assert body["dns"] == f"localhost:{place.server.emulator.settings.dedicated_port}"
    assert body["predictions"] == body["again"], "top_k 1 leaves no choice"
    assert isinstance(body["predictions"][0], str)
    assert body["raw"] == 200
    assert body["whole"] == body["streamed"]
    assert "dedicated DNS name" in body["refused"]


def test_the_runner_asks_a_dedicated_endpoint_and_checks_its_certificate(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Path
) -> None:
    environment = environment_of(place.project)
    with Session(environment) as session:
        made = deploy(session, plan_deployment(session, place.weights, machine_type=MACHINE), poll=0.2)
        assert made.dedicated_dns.startswith("localhost:")
        # Without the authority nobody vouches for the name.
        with pytest.raises(UnreachableError, match=r"(?i)certificate"):
            prediction.predict(session, made, [{"prompt": "What is 3?", "max_tokens": 2}])
        shared = session.http.post(f"/v1beta1/{made.name}:predict", json={"instances": [{"prompt": "x"}]})
        assert (shared.status_code, shared.json()["error"]["status"]) == (400, "FAILED_PRECONDITION")
    monkeypatch.setenv("SSL_CERT_FILE", str(place.authority))
    with Session(environment) as session:
        [said] = prediction.predict(session, made, [{"prompt": "What is 3?", "max_tokens": 2, "raw_response": True}])
        assert isinstance(said, str)
        whole = prediction.chat(session, endpoint=made, messages=MESSAGES, max_tokens=4, temperature=0)
        streamed = prediction.chat(session, endpoint=made, messages=MESSAGES, max_tokens=4, temperature=0, stream=True)
        assert "".join(piece.text for piece in streamed) == whole.text
        one = deployed.ask_deployed_model(session, made, made.deployed_models[0].id, MESSAGES, max_tokens=1)
        assert one["choices"]
        base = f"https://{made.dedicated_dns}/v1beta1"
        nothing_else = session.http.get(f"{base}/{environment.parent}/endpoints")
        assert nothing_else.status_code == 400
        other = session.http.post(
            f"https://127.0.0.1:{place.server.emulator.settings.dedicated_port}/v1beta1/{made.name}:predict",
            json={"instances": [{"prompt": "x"}]},
        )
        assert other.status_code == 421, "it is served at its own name only"
    monkeypatch.setenv("RUNNER_PROJECT", place.project.project)
    monkeypatch.setenv("RUNNER_VERTEX_URL", place.server.url)
    monkeypatch.setenv("RUNNER_STORAGE_URL", place.server.url)
    monkeypatch.setenv("RUNNER_TOKEN", "t")
    assert f"{base}/{made.name}" in process("endpoints", "show", made.id).out
    asked = process("predict", "What is 3?", "--endpoint", made.id, "--max-tokens", "2", "--format", "json")
    assert asked.code == 0, asked.err
    assert len(asked.document["predictions"]) == 1
    with Session(environment) as session:
        shared_one = deploy(
            session,
            plan_deployment(session, place.weights, machine_type=MACHINE, reach=Reach(access="shared")),
            poll=0.2,
        )
        assert shared_one.dedicated_dns == ""
        assert prediction.predict(session, shared_one, [{"prompt": "What is 3?", "max_tokens": 1}])
        undeploy(session, made, delete=True)
        undeploy(session, shared_one, delete=True)


def test_names_of_the_services_form_are_checked_against_the_certificate(
    emulator: EmulatorServer,
    tuned: Tuned,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    state: Path,
) -> None:
    resolve = socket.getaddrinfo

    def to_loopback(host: Any, *arguments: Any, **more: Any) -> Any:
        """Resolve the service's names to this machine, in this process only: no name server knows them here."""
        here = isinstance(host, str) and host.endswith(".prediction.vertexai.goog")
        return resolve("127.0.0.1" if here else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", to_loopback)
    number = provision(emulator.url, "dedicated").number
    certificate = certificates.make(tmp_path / "tls", f"*.us-central1-{number}.prediction.vertexai.goog")
    for place in _start(emulator, tuned, tmp_path, SERVICE_FORM, certificate):
        assert place.project.number == number, "a project's number comes from its name"
        monkeypatch.setenv("SSL_CERT_FILE", str(place.authority))
        with Session(environment_of(place.project)) as session:
            made = deploy(session, plan_deployment(session, place.weights, machine_type=MACHINE), poll=0.2)
            name = f"{made.id}.us-central1-{number}.prediction.vertexai.goog"
            assert made.dedicated_dns == f"{name}:{place.server.emulator.settings.dedicated_port}"
            assert prediction.predict(session, made, [{"prompt": "What is 3?", "max_tokens": 1}])
            with pytest.raises(httpx.ConnectError, match="certificate"):
                httpx.get(
                    f"https://{made.id}.elsewhere.prediction.vertexai.goog:{made.dedicated_dns.split(':')[1]}/",
                    timeout=120,
                )
            undeploy(session, made, delete=True)
