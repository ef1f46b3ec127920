"""Fixtures of the serving tests: one really tuned model, and what the service has, asked without this tool's code."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from runner.emulator.server import EmulatorServer
from runner.gcp import endpoints, failures, operations
from runner.gcp.session import Session
from runner.serving import deployment, recovery
from tests.cli.conftest import run
from tests.loopback import NO_TLS
from tests.projects import Tuned, train_small

__all__ = ["run"]

MACHINE = "g2-standard-12"


@dataclass(frozen=True, slots=True)
class Truth:
    """What the emulator holds of a project, asked plainly."""

    url: str
    parent: str

    def names(self) -> set[str]:
        """Return the full names of all endpoints, models and deployed models."""
        with httpx.Client(base_url=self.url, timeout=120, verify=NO_TLS) as client:
            found: set[str] = set()
            for collection in ("endpoints", "models"):
                answer = client.get(f"/v1beta1/{self.parent}/{collection}", params={"pageSize": "1000"})
                for item in answer.raise_for_status().json().get(collection, []):
                    found.add(item["name"])
                    found |= {f"{item['name']}/deployedModels/{one['id']}" for one in item.get("deployedModels", [])}
            return found


@pytest.fixture(scope="session")
def tuned(emulator: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """One tuned model for the serving tests of a process."""
    return train_small(emulator, tmp_path_factory.mktemp("state"), f"serving-{os.getpid()}")


@pytest.fixture
def truth(tuned: Tuned, emulator: EmulatorServer) -> Truth:
    return Truth(emulator.url, tuned.environment.parent)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state directory of this test's own."""
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def standing(tuned_session: Session) -> Iterator[str]:
    """The id of an endpoint that somebody else provisioned, emptied and deleted afterwards."""
    answer = tuned_session.http.post(
        f"/v1beta1/{tuned_session.environment.parent}/endpoints", json={"displayName": "standing"}
    )
    operation = answer.raise_for_status().json()
    name = operation["response"]["name"]
    yield name.rsplit("/", 1)[-1]
    for item in endpoints.get_endpoint(tuned_session, name).deployed_models:
        now = endpoints.get_endpoint(tuned_session, name)
        others = [one.id for one in now.deployed_models if one.id != item.id]
        traffic = {others[0]: 100} if others else {}
        operations.wait(
            tuned_session, endpoints.undeploy_model(tuned_session, name, item.id, traffic=traffic), timeout=60
        )
    operations.wait(tuned_session, endpoints.delete_endpoint(tuned_session, name), timeout=60)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, state: Path) -> None:
    """Retry and give up in tenths of the usual times."""
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(deployment, "LOOKUP_SECONDS", 0.3)
    monkeypatch.setattr(recovery, "SETTLE_SECONDS", 0.0)
