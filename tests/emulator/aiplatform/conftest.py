"""A client of one provisioned project, and one really tuned model for all tests that deploy."""

from __future__ import annotations

import os
from collections.abc import Iterator

import httpx
import pytest

from runner.emulator.server import EmulatorServer
from tests.emulator.aiplatform.vertex import Vertex
from tests.loopback import NO_TLS
from tests.provisioning import Provisioned, provision


@pytest.fixture
def vertex(project: Provisioned) -> Iterator[Vertex]:
    with httpx.Client(base_url=project.url, timeout=120, verify=NO_TLS) as client:
        yield Vertex(project, client)


@pytest.fixture(scope="session")
def tuned(emulator: EmulatorServer) -> Iterator[tuple[Vertex, str]]:
    """A project with a finished job of a tiny model, and the job's name."""
    project = provision(emulator.url, f"tuned-{os.getpid()}")
    with httpx.Client(base_url=project.url, timeout=120, verify=NO_TLS) as client:
        vertex = Vertex(project, client)
        training = vertex.dataset(24)
        validation = vertex.dataset(3, "validation.jsonl")
        body = vertex.body(
            training,
            spec={"tuningMode": "TUNING_MODE_FULL", "validationDatasetUri": validation},
            hyperParameters={"epochCount": 2, "batchSize": 8},
            labels={"purpose": "test"},
            tunedModelDisplayName="bierce",
        )
        name = vertex.create_job(body)
        assert vertex.wait(name)["state"] == "JOB_STATE_SUCCEEDED"
        yield vertex, name


@pytest.fixture(scope="module")
def deployed(tuned: tuple[Vertex, str]) -> tuple[Vertex, str]:
    """The tuned model, deployed through Model Garden; and its endpoint's name."""
    vertex, _ = tuned
    body = {
        "customModel": {"gcs_uri": f"gs://{vertex.project.outputs}/run/postprocess/node-0/checkpoints/final"},
        "modelConfig": {"model_display_name": "shown"},
        "endpointConfig": {"endpoint_display_name": "asked"},
        "deployConfig": {
            "dedicated_resources": {
                "machine_spec": {"machine_type": "g2-standard-12", "accelerator_type": 11, "accelerator_count": 1},
                "min_replica_count": 1,
            },
            "system_labels": {"a": "b"},
        },
    }
    operation = vertex.finished(vertex.post(f"{vertex.project.parent}:deploy", body))
    assert operation["response"]["@type"].endswith("v1beta1.DeployResponse")
    return vertex, str(operation["response"]["endpoint"])
