"""Plain REST calls of these tests."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import httpx

from tests.provisioning import Provisioned

TERMINAL = {"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"}


@dataclass(frozen=True, slots=True)
class Vertex:
    """One project's Vertex AI."""

    project: Provisioned
    client: httpx.Client

    def upload(self, bucket: str, name: str, content: bytes) -> str:
        response = self.client.post(
            f"/upload/storage/v1/b/{bucket}/o", params={"uploadType": "media", "name": name}, content=content
        )
        assert response.status_code == 200, response.text
        return f"gs://{bucket}/{name}"

    def dataset(self, rows: int = 16, name: str = "train.jsonl") -> str:
        lines = [json.dumps({"prompt": f"say {row}", "completion": f"number {row}"}) for row in range(rows)]
        return self.upload(self.project.datasets, name, "\n".join(lines).encode())

    def body(self, training: str | None = None, **fields: Any) -> dict[str, Any]:
        spec: dict[str, Any] = {
            "trainingDatasetUri": training or f"gs://{self.project.datasets}/train.jsonl",
            "tuningMode": "TUNING_MODE_PEFT_ADAPTER",
            "hyperParameters": {"epochCount": 1},
        }
        spec["hyperParameters"] |= fields.pop("hyperParameters", {})
        spec |= fields.pop("spec", {})
        return {
            "baseModel": "meta/llama3_1@llama-3.1-8b",
            "supervisedTuningSpec": spec,
            "outputUri": f"gs://{self.project.outputs}/run",
            **fields,
        }

    def post(self, path: str, body: Any = None, version: str = "v1beta1") -> httpx.Response:
        return self.client.post(f"/{version}/{path}", json=body if body is not None else {})

    def get(self, path: str, version: str = "v1beta1", **params: Any) -> dict[str, Any]:
        response = self.client.get(f"/{version}/{path}", params=params)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    def create_job(self, body: dict[str, Any], parent: str = "") -> str:
        response = self.post(f"{parent or self.project.parent}/tuningJobs", body)
        assert response.status_code == 200, response.text
        return str(response.json()["name"])

    def wait(self, name: str, states: set[str] | None = None, seconds: float = 150) -> dict[str, Any]:
        """Return the job once it is in one of the states or has ended."""
        deadline = time.monotonic() + seconds
        while True:
            job = self.get(name)
            if job["state"] in TERMINAL | (states or set()) or job.get("tuningJobState") in (states or set()):
                return job
            assert time.monotonic() < deadline, job
            time.sleep(0.05)

    def finished(self, operation: httpx.Response, seconds: float = 150) -> dict[str, Any]:
        """Return the operation of an answer once it is done, polled as the SDKs do."""
        assert operation.status_code == 200, operation.text
        name = operation.json()["name"]
        deadline = time.monotonic() + seconds
        while True:
            body = self.get(name, version="ui")
            if body.get("done"):
                return body
            assert time.monotonic() < deadline, body
            time.sleep(0.05)

    def events(self, name: str, after: int = 0) -> list[dict[str, Any]]:
        _, project, _, location, _, job = name.split("/")
        path = f"tuningJobs/{project}/{location}/{job}/events"
        return list(self.get(path, version="_emulator", after=after)["events"])

    def error(self, response: httpx.Response, http: int, status: str) -> str:
        assert response.status_code == http, response.text
        assert response.json()["error"]["status"] == status
        return str(response.json()["error"]["message"])
