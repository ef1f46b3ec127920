"""Tuning jobs by plain REST calls: quicker than any client."""

from __future__ import annotations

import time
from typing import Any

from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned

ENDED = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}


def jobs_path(project: Provisioned) -> str:
    return f"/v1beta1/{project.parent}/tuningJobs"


def job_body(project: Provisioned, name: str = "a-job") -> dict[str, Any]:
    return {
        "baseModel": "meta/llama3_1@llama-3.1-8b",
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"gs://{project.datasets}/train.jsonl",
            "tuningMode": "TUNING_MODE_PEFT_ADAPTER",
        },
        "outputUri": f"gs://{project.outputs}/run",
        "tunedModelDisplayName": name,
    }


def created(
    faulty: FaultyEmulator,
    project: Provisioned,
    name: str = "a-job",
    *,
    content: bytes = b'{"prompt": "a", "completion": "b"}\n',
    fate: str = "",
) -> dict[str, Any]:
    """Upload a training file and create a job on it, with a fault for it."""
    headers = {"x-emulator-fault": fate} if fate else {}
    upload = f"/upload/storage/v1/b/{project.datasets}/o?uploadType=media&name=train.jsonl"
    faulty.http.post(upload, content=content).raise_for_status()
    response = faulty.http.post(jobs_path(project), json=job_body(project, name), headers=headers)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def until(faulty: FaultyEmulator, name: str, *states: str, seconds: float = 150) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        job: dict[str, Any] = faulty.http.get(f"/v1beta1/{name}").json()
        if job["state"] in states or job.get("tuningJobState", "").removeprefix("TUNING_JOB_STATE_") in states:
            return job
        assert time.monotonic() < deadline, job
        assert job["state"] not in ENDED, job
        time.sleep(0.02)


def job_of(faulty: FaultyEmulator, project: Provisioned, fault: str, name: str = "a-job", **fields: Any) -> str:
    """Return the id of a new job with a fate."""
    return str(created(faulty, project, name, fate=fault, **fields)["name"]).rsplit("/", 1)[-1]


def ended(faulty: FaultyEmulator, project: Provisioned, fault: str, name: str = "a-job", **fields: Any) -> str:
    """Return the id of a job that has failed as it was to."""
    job = job_of(faulty, project, fault, name, **fields)
    until(faulty, f"{project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED")
    return job
