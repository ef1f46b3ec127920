"""Fixtures of all tests: one emulator per test process, one provisioned project per test."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest
from hypothesis import HealthCheck, settings

from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from tests.gcp.flaky import FlakyProxy
from tests.projects import Tuned, environment_of, train_small
from tests.provisioning import Provisioned, provision

pytest_plugins = ["tests.skips", "tests.conformance.recorded"]

_numbers = itertools.count(1)

for _name in [name for name in os.environ if name.startswith(("RUNNER_", "GOOGLE_", "CLOUDSDK_", "STORAGE_EMULATOR"))]:
    # Nothing of the developer's own configuration may steer a test.
    del os.environ[_name]
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = os.devnull  # what tests count must not depend on what somebody has downloaded
if threading.current_thread() is threading.main_thread():
    # A shell that runs the tests in the background makes them, and what they start, deaf to Ctrl-C, which some test.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["NO_GCE_CHECK"] = "true"  # nothing looks for a metadata server that is not there
os.environ["NO_PROXY"] = "127.0.0.1,localhost"
# Properties pass on a busy machine too: nothing is counted in seconds.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


@pytest.fixture(autouse=True, scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make clients load one certificate of an authority instead of all: 0.1 s less for each session of Google's SDK.

    No test speaks TLS.
    """
    path = tmp_path_factory.mktemp("authority") / "authority.pem"
    path.write_text(certifi.contents().partition("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--google PROJECT`."""
    parser.addoption("--google", metavar="PROJECT", help="also run the tests marked `google`, against this project")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, with the reason, what this machine cannot run."""
    if not config.getoption("--google"):
        for item in items:
            if "google" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a Google Cloud project: --google PROJECT"))


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorServer]:
    """A running emulator whose stand-ins are tiny; shared by the tests of one process, which use a project each."""
    settings = EmulatorSettings(directory=tmp_path_factory.mktemp("emulator"), stand_in="tiny")
    with EmulatorServer(settings) as server:
        yield server


@pytest.fixture
def project(emulator: EmulatorServer) -> Provisioned:
    """A project of its own for one test, ready for tuning."""
    return provision(emulator.url, f"test-{os.getpid()}-{next(_numbers)}")


@pytest.fixture
def state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory that the command line and the library use."""
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(autouse=True, scope="session")
def own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Deployments under way are written down: not among the developer's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", str(tmp_path_factory.mktemp("own-state")))
        yield


@pytest.fixture
def session(project: Provisioned) -> Iterator[Session]:
    """A session on a project of its own. Jobs that it leaves are cancelled, so that no other test waits for them."""
    with Session(environment_of(project)) as opened:
        yield opened
        for job in tuning_jobs.list_jobs(opened):
            if not job.ended:
                tuning_jobs.cancel(opened, job.name)


@pytest.fixture
def proxy(emulator: EmulatorServer) -> Iterator[FlakyProxy]:
    with FlakyProxy(emulator.url) as running:
        yield running


@pytest.fixture
def through_proxy(session: Session, proxy: FlakyProxy) -> Iterator[Session]:
    """A session on the same project as `session`, whose Vertex AI requests pass the proxy."""
    with Session(dataclasses.replace(session.environment, vertex_url=proxy.url)) as opened:
        yield opened


@pytest.fixture(scope="session")
def tuned(emulator: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """One tuned model for the tests of a process."""
    return train_small(emulator, tmp_path_factory.mktemp("state"), f"library-{os.getpid()}")


@pytest.fixture
def tuned_session(tuned: Tuned) -> Iterator[Session]:
    with Session(tuned.environment) as opened:
        yield opened
