"""A project to look at: a job that was trained, an endpoint; and the command lines that only look."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.emulator.server import EmulatorServer
from runner.gcp import operations
from runner.gcp.session import Session
from tests.projects import train_small

LINES = (
    "jobs ls",
    "jobs show {job}",
    "jobs watch {job}",
    "jobs wait {job}",
    "jobs logs {job}",
    "jobs metrics {job}",
    "jobs why {job}",
    "jobs diff {job} {job}",
    "jobs compare {job}",
    "bill",
    "endpoints ls",
    "endpoints show {endpoint}",
    "checkpoints ls {job}",
    "leaks",
    "environment show",
    "models ls",
    "models show meta/llama3_1@llama-3.1-8b-instruct",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedAt:
    """What there is to look at, and the variables that lead there."""

    job: str
    endpoint: str
    variables: dict[str, str]

    def words(self, line: str) -> list[str]:
        """Return the words of one of `LINES`."""
        return line.format(job=self.job, endpoint=self.endpoint).split()


def looked_at(emulator: EmulatorServer, state: Path, project_id: str) -> LookedAt:
    """Train a small model in a new project and make an endpoint."""
    tuned = train_small(emulator, state, project_id)
    environment = tuned.environment
    with Session(environment) as session:
        made = session.http.post(f"/v1beta1/{environment.parent}/endpoints", json={"displayName": "looked-at"})
        endpoint = operations.wait(session, made.raise_for_status().json()["name"])["name"]
    variables = {
        "RUNNER_PROJECT": environment.project,
        "RUNNER_PROJECT_NUMBER": environment.project_number,
        "RUNNER_LOCATION": environment.location,
        "RUNNER_DATASETS_BUCKET": environment.datasets_bucket,
        "RUNNER_IMAGES_BUCKET": environment.images_bucket,
        "RUNNER_OUTPUTS_BUCKET": environment.outputs_bucket,
        "RUNNER_VERTEX_URL": emulator.url,
        "RUNNER_STORAGE_URL": emulator.url,
        "RUNNER_STATE_DIR": str(state),
    }
    return LookedAt(job=tuned.job.id, endpoint=str(endpoint).rsplit("/", 1)[-1], variables=variables)
