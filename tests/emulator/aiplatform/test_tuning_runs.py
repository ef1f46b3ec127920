"""Jobs that really train, wait and are cancelled."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from tests.emulator.aiplatform.vertex import Vertex

pytestmark = pytest.mark.training


def test_a_finished_job(tuned: tuple[Vertex, str]) -> None:
    vertex, name = tuned
    job = vertex.get(name)
    stats = job["tuningDataStats"]["supervisedTuningDataStats"]
    assert (stats["tuningDatasetExampleCount"], stats["tuningStepCount"]) == ("24", "6")
    assert int(stats["totalBillableTokenCount"]) > 24
    assert job["tunedModel"]["checkpoints"] == [
        {"checkpointId": "1", "epoch": "1", "step": "3"},
        {"checkpointId": "2", "epoch": "2", "step": "6"},
    ]
    assert "endpoint" not in job["tunedModel"]  # an open model has none until it is deployed
    assert job["emulator"]["standIn"] is True
    assert "tiny" in job["emulator"]["weights"]
    model = vertex.get(job["tunedModel"]["model"])
    final = f"gs://{vertex.project.outputs}/run/postprocess/node-0/checkpoints/final"
    assert (model["artifactUri"], model["displayName"], model["labels"]) == (final, "bierce", {"purpose": "test"})
    steps = [event for event in vertex.events(name) if event["kind"] == "step"]
    assert [event["step"] for event in steps] == [1, 2, 3, 4, 5, 6]
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert vertex.events(name, after=steps[1]["number"]) == vertex.events(name)[steps[1]["number"] :]
    assert len([event for event in vertex.events(name) if event["kind"] == "evaluation"]) >= 2


def test_the_published_files(tuned: tuple[Vertex, str]) -> None:
    vertex, name = tuned
    bucket = vertex.project.outputs
    listed = vertex.client.get(f"/storage/v1/b/{bucket}/o").json()["items"]
    files = {item["name"].removeprefix("run/postprocess/node-0/"): item for item in listed}
    for folder in ("checkpoint-1", "checkpoint-2", "final"):
        for file in ("config.json", "model.safetensors", "tokenizer.json"):
            assert f"checkpoints/{folder}/{file}" in files
    metrics = vertex.get(name)["gcsMetricsUri"].removeprefix(f"gs://{bucket}/").replace("/", "%2F")
    lines = vertex.client.get(f"/download/storage/v1/b/{bucket}/o/{metrics}?alt=media").text.splitlines()
    assert [json.loads(line)["step"] for line in lines if json.loads(line)["kind"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_continuing_from_tuned_weights_with_bad_lines_left_out(tuned: tuple[Vertex, str]) -> None:
    vertex, _ = tuned
    lines = ['{"prompt":"a","completion":"b"}'] * 4 + ["not json", '{"prompt":"a"}']
    training = vertex.upload(vertex.project.datasets, "some.jsonl", "\n".join(lines).encode())
    base = f"gs://{vertex.project.outputs}/run/postprocess/node-0/checkpoints/final/"
    body = vertex.body(training, customBaseModel=base, outputUri=f"gs://{vertex.project.outputs}/again/")
    body["supervisedTuningSpec"] |= {"exportLastCheckpointOnly": True}
    job = vertex.wait(vertex.create_job(body))
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    stats = job["tuningDataStats"]["supervisedTuningDataStats"]
    assert (stats["tuningDatasetExampleCount"], stats["totalTruncatedExampleCount"]) == ("6", "2")
    assert stats["truncatedExampleIndices"] == ["5", "6"]
    assert "checkpoints" not in job["tunedModel"]
    names = [
        item["name"]
        for item in vertex.client.get(f"/storage/v1/b/{vertex.project.outputs}/o?prefix=again").json()["items"]
    ]
    checkpoints = {name.split("/")[4] for name in names if "/checkpoints/" in name}
    assert checkpoints == {"final"}
    assert any(name.endswith("final/adapter/adapter_model.safetensors") for name in names)


def test_images_from_a_bucket_of_their_own(vertex: Vertex) -> None:
    """Text-only examples are left out once there is one image; so are examples whose image is missing."""
    from PIL import Image

    data = io.BytesIO()
    Image.new("RGB", (24, 24), "red").save(data, "PNG")
    picture = vertex.upload(vertex.project.images, "red.png", data.getvalue())

    def example(*parts: dict[str, Any]) -> str:
        question = {"role": "user", "content": [{"type": "text", "text": "colour?"}, *parts]}
        return json.dumps({"messages": [question, {"role": "assistant", "content": "red"}]})

    def image(uri: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": uri, "detail": "low"}}

    missing = f"gs://{vertex.project.images}/none.png"
    lines = [example(image(picture)) for _ in range(4)] + [example(), example(image(missing))]
    training = vertex.upload(vertex.project.datasets, "images.jsonl", "\n".join(lines).encode())
    body = vertex.body(training, baseModel="meta/llama4@llama-4-scout-17b-16e-instruct")
    job = vertex.wait(vertex.create_job(body))
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    stats = job["tuningDataStats"]["supervisedTuningDataStats"]
    assert (stats["tuningDatasetExampleCount"], stats["truncatedExampleIndices"]) == ("6", ["5", "6"])


def test_a_dataset_without_a_usable_line_fails_the_job(vertex: Vertex) -> None:
    training = vertex.upload(vertex.project.datasets, "bad.jsonl", b"not json\n")
    job = vertex.wait(vertex.create_job(vertex.body(training)))
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error"]["code"] == 3
    assert job["error"]["message"]


def long_body(vertex: Vertex, **fields: Any) -> dict[str, Any]:
    spec = {"tuningMode": "TUNING_MODE_FULL"}
    return vertex.body(vertex.dataset(64), spec=spec, hyperParameters={"epochCount": 40, "batchSize": 4}, **fields)


def test_quota_and_cancellation(vertex: Vertex) -> None:
    """One job at a time, in all regions together; a raised quota starts the next one, and so does a cancelled job."""
    waiting = "TUNING_JOB_STATE_WAITING_FOR_QUOTA"
    first = vertex.create_job(long_body(vertex))
    second = vertex.create_job(long_body(vertex), f"projects/{vertex.project.project}/locations/global")
    third = vertex.create_job(long_body(vertex))
    vertex.wait(first, {"TUNING_JOB_STATE_TUNING"})
    for name in (second, third):
        job = vertex.wait(name, {waiting})
        assert (job["state"], job["tuningJobState"], "startTime" in job) == ("JOB_STATE_PENDING", waiting, False)
    preference = {
        "service": "aiplatform.googleapis.com",
        "quotaId": "GlobalConcurrentManagedOssModelTuningJobs",
        "quotaConfig": {"preferredValue": "2"},
        "contactEmail": "me@example.com",
    }
    project = f"/v1/projects/{vertex.project.project}"
    vertex.client.post(f"{project}/services/cloudquotas.googleapis.com:enable", json={}).raise_for_status()
    path = f"{project}/locations/global/quotaPreferences"
    vertex.client.post(path, json=preference, params={"quotaPreferenceId": "more"}).raise_for_status()
    vertex.wait(second, {"JOB_STATE_RUNNING"})
    assert vertex.get(first)["state"] == "JOB_STATE_RUNNING"
    assert vertex.get(third)["tuningJobState"] == waiting
    assert vertex.client.post(f"/v1beta1/{first}:cancel").json() == {}
    assert vertex.get(first)["state"] in ("JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED")
    ended = vertex.wait(first)
    assert (ended["state"], ended["error"]["code"]) == ("JOB_STATE_CANCELLED", 1)
    assert "tunedModel" not in ended
    vertex.wait(third, {"JOB_STATE_RUNNING"})
    for name in (third, second):
        vertex.client.post(f"/v1/{name}:cancel", json={}).raise_for_status()
        assert vertex.wait(name)["state"] == "JOB_STATE_CANCELLED"
    assert vertex.get(f"{vertex.project.parent}/models") == {}


def test_a_waiting_job_can_be_cancelled(vertex: Vertex) -> None:
    first, second = vertex.create_job(long_body(vertex)), vertex.create_job(long_body(vertex))
    vertex.wait(second, {"TUNING_JOB_STATE_WAITING_FOR_QUOTA"})
    vertex.client.post(f"/v1beta1/{second}:cancel").raise_for_status()
    assert vertex.wait(second)["state"] == "JOB_STATE_CANCELLED"
    vertex.client.post(f"/v1beta1/{first}:cancel").raise_for_status()
    assert vertex.wait(first)["state"] == "JOB_STATE_CANCELLED"
