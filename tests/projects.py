"""Provisioned projects for the library: their environment, a dataset in them, a model tuned there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.emulator.server import EmulatorServer
from runner.environment import Environment, service_agents_of
from runner.gcp import uploads
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following import watching
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from tests.provisioning import Provisioned, provision

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def environment_of(project: Provisioned) -> Environment:
    """Return the environment that names a provisioned project."""
    return Environment(
        project=project.project,
        project_number=project.number,
        location=project.location,
        datasets_bucket=project.datasets,
        images_bucket=project.images,
        outputs_bucket=project.outputs,
        service_agents=service_agents_of(project.number),
        vertex_url=project.url,
        storage_url=project.url,
        token="a-token",
    )


def upload_dataset(session: Session, examples: int = 16, name: str = "train.jsonl") -> str:
    """Upload a small training file and return its address."""
    lines = [json.dumps({"prompt": f"What is {i}?", "completion": f"It is {i}."}) for i in range(examples)]
    uri = f"gs://{session.environment.datasets_bucket}/{name}"
    return uploads.upload_bytes(session, ("\n".join(lines) + "\n").encode(), uri).uri


@dataclass(frozen=True, slots=True)
class Tuned:
    """A job that has really been trained, and where."""

    environment: Environment
    job: TuningJob
    updates: tuple[watching.JobUpdate, ...]
    """What a watch of it reported."""


def train_small(emulator: EmulatorServer, state: Path, project_id: str) -> Tuned:
    """Train a small model in a new project."""
    project = provision(emulator.url, project_id)
    environment = environment_of(project)
    updates: list[watching.JobUpdate] = []
    with Session(environment) as opened, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", str(state))
        spec = TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(opened), epochs=2, display_name="small")
        job = submission.submit(opened, spec)
        done = watching.wait(opened, job.id, 300, progress=updates.append)
    return Tuned(environment, done, tuple(updates))
