"""An emulator of its own for the tests of faults: what one test breaks must not break another's."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.gcp import failures, tuning_jobs
from runner.gcp.session import Session
from tests.loopback import NO_TLS
from tests.projects import environment_of
from tests.provisioning import Provisioned


class FaultyEmulator:
    """Arms faults over HTTP, as any other program would."""

    def __init__(self, server: EmulatorServer) -> None:
        self.server = server
        self.url = server.url
        self.http = httpx.Client(base_url=server.url, timeout=120, verify=NO_TLS)

    def arm(self, *texts: str) -> list[int]:
        response = self.http.post("/_emulator/faults", json={"faults": list(texts)})
        assert response.status_code == 200, response.text
        return [int(fault["id"]) for fault in response.json()["faults"]]

    def hits(self) -> list[int]:
        return [int(fault["hits"]) for fault in self.http.get("/_emulator/faults").json()["faults"]]


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorServer]:
    settings = EmulatorSettings(
        directory=tmp_path_factory.mktemp("faulty"), stand_in="tiny", concurrent_tuning_jobs=4, time_scale=60
    )
    with EmulatorServer(settings) as server:
        yield server


@pytest.fixture
def faulty(emulator: EmulatorServer) -> Iterator[FaultyEmulator]:
    """The emulator, with no fault left from before and none after."""
    made = FaultyEmulator(emulator)
    with made.http:
        made.http.delete("/_emulator/faults")
        yield made
        made.http.delete("/_emulator/faults")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the pauses between tries."""
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def session(project: Provisioned, faulty: FaultyEmulator) -> Iterator[Session]:
    """A session on a project of its own, whose jobs are cancelled in the end."""
    with Session(environment_of(project)) as opened:
        yield opened
        faulty.http.delete("/_emulator/faults")
        for job in tuning_jobs.list_jobs(opened):
            if not job.ended:
                tuning_jobs.cancel(opened, job.name)
