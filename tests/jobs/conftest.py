"""Fixtures of the declarative half of jobs: manifests in a folder, a session with a contract bucket, a proxy."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.emulator.server import EmulatorServer
from runner.gcp import fleet, tuning_jobs
from runner.gcp.session import Session
from runner.jobs.outputs import ownership
from tests.cli.invocation import CommandLine
from tests.gcp.flaky import FlakyProxy
from tests.jobs.manifests.folder import Manifests
from tests.loopback import NO_TLS
from tests.projects import environment_of
from tests.provisioning import Provisioned, provision

_numbers = itertools.count(1)


def contract_bucket(project: Provisioned) -> str:
    """Make the bucket of the records."""
    import httpx

    name = f"{project.project}-contract"
    body = {"name": name, "location": project.location}
    httpx.post(
        f"{project.url}/storage/v1/b?project={project.project}", json=body, verify=NO_TLS, timeout=120
    ).raise_for_status()
    return name


def set_quota(project: Provisioned, jobs: int) -> None:
    """Grant a project so many concurrent tuning jobs."""
    import httpx

    base = f"{project.url}/v1/projects/{project.project}"
    httpx.post(
        f"{base}/services/cloudquotas.googleapis.com:enable", json={}, verify=NO_TLS, timeout=120
    ).raise_for_status()
    body = {
        "service": fleet.QUOTA_SERVICE,
        "quotaId": fleet.QUOTA_ID,
        "quotaConfig": {"preferredValue": str(jobs)},
        "contactEmail": "someone@example.com",
    }
    httpx.post(f"{base}/locations/global/quotaPreferences", json=body, verify=NO_TLS, timeout=120).raise_for_status()


@pytest.fixture
def session(project: Provisioned, state_directory: Path) -> Iterator[Session]:
    """A session on a project of its own. Jobs that it leaves are cancelled, so that no other test waits for them."""
    environment = dataclasses.replace(environment_of(project), contract_bucket=contract_bucket(project))
    with Session(environment) as opened:
        yield opened
        for job in tuning_jobs.list_jobs(opened):
            if not job.ended:
                tuning_jobs.cancel(opened, job.name)


@pytest.fixture
def untrained(emulator: EmulatorServer, state_directory: Path) -> Iterator[Session]:
    """A session on a project with a quota of 0: its jobs wait for ever, and take no time from the test."""
    project = provision(emulator.url, f"untrained-{os.getpid()}-{next(_numbers)}")
    set_quota(project, 0)
    environment = dataclasses.replace(environment_of(project), contract_bucket=contract_bucket(project))
    with Session(environment) as opened:
        yield opened


@pytest.fixture
def manifests(tmp_path: Path) -> Manifests:
    """An empty folder for manifests, with a small sound training file in it."""
    folder = tmp_path / "jobs"
    folder.mkdir()
    lines = [json.dumps({"prompt": f"What is {i}?", "completion": f"It is {i}."}) for i in range(12)]
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    return Manifests(folder)


@pytest.fixture
def proxy(emulator: EmulatorServer) -> Iterator[FlakyProxy]:
    with FlakyProxy(emulator.url) as running:
        yield running


@pytest.fixture
def untrained_through_proxy(untrained: Session, proxy: FlakyProxy) -> Iterator[Session]:
    """The same project as `untrained`, with every request through the proxy."""
    environment = dataclasses.replace(untrained.environment, vertex_url=proxy.url, storage_url=proxy.url)
    with Session(environment) as opened:
        yield opened


@pytest.fixture
def through_proxy(session: Session, proxy: FlakyProxy) -> Iterator[Session]:
    """The same project as `session`, with every request through the proxy."""
    environment = dataclasses.replace(session.environment, vertex_url=proxy.url, storage_url=proxy.url)
    with Session(environment) as opened:
        yield opened


@pytest.fixture
def no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Claims run out at once: whoever held one is known to be dead."""
    # Below zero because the service tells its time in whole seconds.
    monkeypatch.setattr(ownership, "LEASE_SECONDS", -5.0)


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, state_directory: Path, session: Session
) -> CommandLine:
    """Runs command lines in the project of `session`."""
    point_at(monkeypatch, session)
    monkeypatch.delenv("COLUMNS", raising=False)
    return CommandLine(capsys, monkeypatch)


@pytest.fixture
def idle(run: CommandLine, untrained: Session, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """Runs command lines in the project of `untrained`, whose jobs wait for ever."""
    point_at(monkeypatch, untrained)
    return run


def point_at(monkeypatch: pytest.MonkeyPatch, session: Session) -> None:
    environment = session.environment
    variables = {
        "RUNNER_PROJECT": environment.project,
        "RUNNER_PROJECT_NUMBER": environment.project_number,
        "RUNNER_LOCATION": environment.location,
        "RUNNER_DATASETS_BUCKET": environment.datasets_bucket,
        "RUNNER_OUTPUTS_BUCKET": environment.outputs_bucket,
        "RUNNER_CONTRACT_BUCKET": environment.contract_bucket,
        "RUNNER_VERTEX_URL": environment.vertex_url or "",
        "RUNNER_STORAGE_URL": environment.storage_url or "",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
