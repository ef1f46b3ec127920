"""The specification's job as manifest, in one line and in Python, as docs/manifests.md has them: one request."""

from __future__ import annotations

import dataclasses
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.gcp import tuning_jobs, uploads
from runner.gcp.session import Session
from tests.cli.invocation import CommandLine
from tests.gcp.flaky import FlakyProxy
from tests.jobs.conftest import point_at

ROOT = Path(__file__).parents[3]
SECTION = (
    (ROOT / "docs" / "manifests.md").read_text().split("## The specification's job, three ways")[1].split("\n## ")[0]
)


@pytest.fixture
def watched(
    idle: CommandLine, untrained: Session, proxy: FlakyProxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    """A session whose requests are seen, with weights and data of one's own in its bucket."""
    environment = dataclasses.replace(untrained.environment, vertex_url=proxy.url, storage_url=proxy.url)
    point_at(monkeypatch, Session(environment))
    with Session(environment) as session:
        for name, content in (
            ("my-weights/config.json", b"{}"),
            ("my-weights/tokenizer.json", b"{}"),
            ("my-weights/model.safetensors", b"weights"),
            ("train.jsonl", b"".join(b'{"prompt": "What is %d?", "completion": "It is."}\n' % i for i in range(20))),
            ("validation.jsonl", b'{"prompt": "What is 100?", "completion": "It is."}\n'),
        ):
            uploads.upload_bytes(session, content, f"gs://{environment.outputs_bucket}/{name}")
        yield session


def example(language: str, session: Session) -> str:
    """Return an example of the documentation, with the name of a bucket that exists."""
    text = SECTION.split(f"```{language}\n")[1].split("```")[0]
    return text.replace("gs://my-bucket", f"gs://{session.environment.outputs_bucket}")


def created(proxy: FlakyProxy) -> dict[str, Any]:
    """Return the body of the last create, without what tells the ways apart: names and labels of this tool."""
    body: dict[str, Any] = json.loads([body for line, body in proxy.bodies if line.endswith("/tuningJobs")][-1])
    return {key: value for key, value in body.items() if key not in ("labels", "tunedModelDisplayName")}


def _make_room(session: Session) -> None:
    """End every job: a folder has one at a time."""
    for job in tuning_jobs.list_jobs(session):
        if not job.ended:
            tuning_jobs.cancel(session, job.name)
    while not all(job.ended for job in tuning_jobs.list_jobs(session)):
        pass


def test_the_same_request_three_ways(
    idle: CommandLine, watched: Session, proxy: FlakyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = watched.environment.outputs_bucket
    wanted = {
        "baseModel": "meta/llama3_1@llama-3.1-8b",
        "customBaseModel": f"gs://{bucket}/my-weights",
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"gs://{bucket}/train.jsonl",
            "validationDatasetUri": f"gs://{bucket}/validation.jsonl",
            "tuningMode": "TUNING_MODE_FULL",
        },
        "outputUri": f"gs://{bucket}/output",
    }
    (tmp_path / "job.yaml").write_text(example("yaml", watched))
    applied = idle("apply", "-f", str(tmp_path / "job.yaml"), "--quota", "9", "--format", "json")
    assert applied.code == 0, applied.err
    manifest = created(proxy)
    parameters = manifest["supervisedTuningSpec"].pop("hyperParameters")
    assert int(parameters["epochCount"]) == 3
    assert manifest == wanted

    _make_room(watched)
    program, *arguments = shlex.split(example("sh", watched))
    assert program == "runner"
    submitted = idle(*arguments, "--format", "json")
    assert submitted.code == 0, submitted.err
    assert submitted.document["created"] is True
    line = created(proxy)

    _make_room(watched)
    monkeypatch.setenv("RUNNER_STATE_DIR", str(tmp_path / "another-machine"))
    code = example("python", watched).replace(
        "submit_once(session, spec)", "submit_once(session, spec, force_new=True)"
    )
    names: dict[str, Any] = {}
    exec(compile(code, "docs/manifests.md", "exec"), names)  # noqa: S102 - what the documentation tells people to run
    assert names["job"].state == "JOB_STATE_PENDING"
    python = created(proxy)

    for body in (line, python):
        assert body["supervisedTuningSpec"].pop("hyperParameters") == parameters
        assert body == wanted
    assert sum(line.endswith("/tuningJobs") for line in proxy.requests if line.startswith("POST")) == 3
