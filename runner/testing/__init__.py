"""An emulator for tests: `with emulator() as e:`, and the fixtures of `runner.testing.plugin` for pytest.

    from runner.testing import emulator

    with emulator() as e:
        job = runner.tune("train.jsonl", base_model=MODEL, max_cost=1).wait()

Inside, `import runner`, the command line in child processes, and Google's SDKs with `e.variables` work in a new project
of a new emulator. Afterwards everything is stopped and deleted.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner.api import connection
from runner.emulator import daemon
from runner.emulator.settings import EmulatorSettings
from runner.gcp.session import Session
from runner.infrastructure.provisioning import provision
from runner.local_processes import variables

__all__ = ["RunningEmulator", "emulator"]

_STEERING = ("RUNNER_CONTEXT", "RUNNER_PROJECT", "RUNNER_LOCATION", "RUNNER_VERTEX_URL", "RUNNER_STORAGE_URL")
"""Variables that would select another target than the emulator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningEmulator:
    """An emulator with a project."""

    url: str
    project: str
    location: str
    environment: Path
    """The environment document."""
    directory: Path
    """State directory of this emulator and of the commands that use it."""
    document: dict[str, Any]
    """The contents of the environment document."""

    @property
    def variables(self) -> dict[str, str]:
        """Return the variables that configure the command line and Google's SDKs for it."""
        return {
            "RUNNER_STATE_DIR": str(self.directory),
            "RUNNER_ENVIRONMENT": str(self.environment),
            "STORAGE_EMULATOR_HOST": self.url,
            "GOOGLE_VERTEX_BASE_URL": self.url,
            "GOOGLE_CLOUD_PROJECT": self.project,
            "GOOGLE_CLOUD_LOCATION": self.location,
        }

    def connect(self) -> Session:
        """Return a connection to it. Close it, or use it as a context manager."""
        return connection.connect(environment=str(self.environment))


@contextlib.contextmanager
def emulator(
    *,
    stand_in: Literal["auto", "smollm2", "tiny"] = "tiny",
    project: str = "test-project",
    location: str = "us-central1",
    concurrent_jobs: int = 1,
    faults: Sequence[str] = (),
    time_scale: float = 1.0,
) -> Iterator[RunningEmulator]:
    """Run an emulator with a new project in the context; `runner` uses it.

    Args:
        stand_in: the small model that is tuned; `tiny` is untrained and takes seconds.
        project: project ID.
        location: location of jobs and endpoints.
        concurrent_jobs: number of concurrent tuning jobs.
        faults: injected faults; see `runner explain faults`.
        time_scale: how many times faster its clock runs.

    Raises:
        EngineMissingError: the extras `local` or `infra` are not installed.
        RunnerError: it does not start, or the project cannot be set up.
    """
    directory = Path(tempfile.mkdtemp(prefix="runner-emulator-"))
    place = directory / "emulator"
    settings = EmulatorSettings(
        directory=place,
        stand_in=stand_in,
        concurrent_tuning_jobs=concurrent_jobs,
        faults=tuple(faults),
        time_scale=time_scale,
    )
    try:
        info, _ = daemon.start(settings, port=0)
        document = provision(info.url, place, project=project, location=location)
        running = RunningEmulator(
            url=info.url,
            project=project,
            location=location,
            environment=place / "environment.json",
            directory=directory,
            document=document,
        )
        with _variables(running.variables):
            yield running
    finally:
        daemon.stop(place)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _variables(wanted: Mapping[str, str]) -> Iterator[None]:
    """Set variables in the context, and let functions without a session connect again before and after."""
    connection.forget()
    try:
        with variables({**dict.fromkeys(_STEERING), **wanted}):
            yield
    finally:
        connection.forget()
