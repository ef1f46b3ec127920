"""What was in progress when the emulator was killed (-9) ends once, as if nothing had happened."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.emulator.aiplatform.vertex import Vertex
from tests.provisioning import Provisioned, provision

pytestmark = pytest.mark.training

ASK = {"instances": [{"prompt": "say 3", "max_tokens": 6, "temperature": 0, "raw_response": True}]}


@contextlib.contextmanager
def started(directory: Path) -> Iterator[str]:
    """Run an emulator on the directory and yield its address; kill it at the end, with no chance to tidy up."""
    ready = directory / "ready"
    ready.unlink(missing_ok=True)
    arguments = ["--directory", str(directory / "state"), "--port", "0", "--stand-in", "tiny"]
    environment = {**os.environ, "RUNNER_STATE_DIR": str(directory / "user")}
    process = subprocess.Popen(
        [sys.executable, "-m", "runner.emulator", *arguments, "--ready-file", str(ready)], env=environment
    )
    try:
        until(ready.exists, 60)
        yield ready.read_text()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


@contextlib.contextmanager
def connected(url: str, project: Provisioned) -> Iterator[Vertex]:
    with httpx.Client(base_url=url, timeout=180) as client:
        yield Vertex(project, client)


def until(condition: Callable[[], bool], seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def happened(vertex: Vertex, name: str, kind: str, step: int = 0) -> bool:
    return any(event["kind"] == kind and event.get("step", 0) >= step for event in vertex.events(name))


def test_a_job_and_a_deployment_survive_kills(tmp_path: Path) -> None:
    """Killed in the middle of training and of deploying, then again at the end of training, while it publishes."""
    with started(tmp_path) as url:
        project = provision(url, "survivor")
        with connected(url, project) as vertex:
            body = vertex.body(
                vertex.dataset(48),
                spec={"tuningMode": "TUNING_MODE_FULL"},
                hyperParameters={"epochCount": 8, "batchSize": 4},
            )
            name = vertex.create_job(body)
            until(lambda: happened(vertex, name, "step", 5))
            deploy = {
                "publisherModelName": "meta/llama3-2@llama-3.2-1b-instruct",
                "modelConfig": {"acceptEula": True},
                "endpointConfig": {"endpointUserId": "5"},
            }
            operation = vertex.post(f"{project.parent}:deploy", deploy)
            assert "done" not in operation.json()
    with started(tmp_path) as url, connected(url, project) as vertex:
        endpoint = vertex.finished(operation, seconds=180)["response"]["endpoint"]
        assert vertex.post(f"{endpoint}:predict", ASK).json()["predictions"]
        (deployed,) = vertex.get(endpoint)["deployedModels"]
        vertex.finished(vertex.post(f"{endpoint}:undeployModel", {"deployedModelId": deployed["id"]}))
        assert list((tmp_path / "state" / "deployments").iterdir()) == []
        until(lambda: not training(vertex, name) or happened(vertex, name, "done"))
    with started(tmp_path) as url, connected(url, project) as vertex:
        job = vertex.wait(name, seconds=180)
        assert job["state"] == "JOB_STATE_SUCCEEDED", job
        check_once(vertex, job)
        # What it worked with is deleted after the end is known.
        folder = tmp_path / "state" / "jobs" / name.rpartition("/")[2]
        until(lambda: not list(folder.glob("*/")), 20)


def training(vertex: Vertex, name: str) -> bool:
    return vertex.get(name).get("tuningJobState") in (
        "TUNING_JOB_STATE_WAITING_FOR_CAPACITY",
        "TUNING_JOB_STATE_TUNING",
    )


def check_once(vertex: Vertex, job: dict[str, object]) -> None:
    events = vertex.events(str(job["name"]))
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))
    assert [event["step"] for event in events if event["kind"] == "step"] == list(range(1, 97))
    assert [event["epoch"] for event in events if event["kind"] == "checkpoint"] == list(range(1, 9))
    assert len([event for event in events if event["kind"] == "done"]) == 1
    assert len([event for event in events if event.get("state") == "JOB_STATE_SUCCEEDED"]) == 1
    tuned = [
        model["name"] + "@1"
        for model in vertex.get(f"{vertex.project.parent}/models")["models"]
        if str(model.get("artifactUri", "")).startswith("gs://")
    ]
    assert tuned == [job["tunedModel"]["model"]]  # type: ignore[index]
    # Nothing was published twice: a second write of an object would have left the first one soft-deleted.
    deleted = vertex.client.get(f"/storage/v1/b/{vertex.project.outputs}/o?softDeleted=true").json()
    assert deleted.get("items", []) == []
