"""Batch prediction: a file in, a file out, by a model that really answers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.aiplatform.vertex import Vertex

pytestmark = pytest.mark.training


def _body(vertex: Vertex, model: str, source: str, **changes: Any) -> dict[str, Any]:
    return {
        "displayName": "batch",
        "model": model,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [source]}},
        "outputConfig": {
            "predictionsFormat": "jsonl",
            "gcsDestination": {"outputUriPrefix": f"gs://{vertex.project.outputs}/batch"},
        },
        **changes,
    }


def _objects(vertex: Vertex, directory: str) -> dict[str, list[Any]]:
    bucket, _, prefix = directory.removeprefix("gs://").partition("/")
    items = vertex.client.get(f"/storage/v1/b/{bucket}/o", params={"prefix": prefix}).json()["items"]
    read = {}
    for item in items:
        content = vertex.client.get(f"/storage/v1/b/{bucket}/o/{item['name'].replace('/', '%2F')}?alt=media").text
        read[item["name"].rpartition("/")[2]] = [json.loads(line) for line in content.splitlines()]
    return read


def test_a_file_of_instances_becomes_a_file_of_predictions(tuned: tuple[Vertex, str]) -> None:
    vertex, name = tuned
    model = vertex.get(name)["tunedModel"]["model"]
    prompts = [{"prompt": f"say {row}", "max_tokens": 4, "temperature": 0, "raw_response": True} for row in range(5)]
    lines = [*prompts, {"prompt": "x", "max_tokens": -1}]
    source = vertex.upload(vertex.project.datasets, "batch/in.jsonl", "\n".join(map(json.dumps, lines)).encode())
    response = vertex.post(f"{vertex.project.parent}/batchPredictionJobs", _body(vertex, model, source))
    assert response.status_code == 200, response.text
    job = vertex.wait(response.json()["name"])
    assert (job["state"], job["completionStats"]) == (
        "JOB_STATE_SUCCEEDED",
        {"successfulCount": "5", "failedCount": "1"},
    ), job
    read = _objects(vertex, job["outputInfo"]["gcsOutputDirectory"])
    results = read["prediction.results-00000-of-00001"]
    assert [line["instance"] for line in results] == prompts
    assert all(isinstance(line["prediction"], str) for line in results)
    (error,) = read["prediction.errors_stats-00000-of-00001"]
    assert error["instance"] == lines[-1]
    assert "max_tokens" in error["error"]["message"]
    listed = vertex.get(f"{vertex.project.parent}/batchPredictionJobs", filter='display_name="batch"')
    assert job["name"] in [item["name"] for item in listed["batchPredictionJobs"]]
    vertex.finished(vertex.client.delete(f"/v1beta1/{job['name']}"))
    vertex.error(vertex.client.get(f"/v1beta1/{job['name']}"), 404, "NOT_FOUND")


def test_a_batch_can_be_cancelled(tuned: tuple[Vertex, str]) -> None:
    vertex, name = tuned
    model = vertex.get(name)["tunedModel"]["model"]
    source = vertex.upload(vertex.project.datasets, "batch/in.jsonl", b'{"prompt": "x"}')
    made = vertex.post(f"{vertex.project.parent}/batchPredictionJobs", _body(vertex, model, source)).json()["name"]
    vertex.error(vertex.client.delete(f"/v1beta1/{made}"), 400, "FAILED_PRECONDITION")
    assert vertex.post(f"{made}:cancel").json() == {}
    assert vertex.get(made)["state"] == "JOB_STATE_CANCELLED"
    assert vertex.post(f"{made}:cancel").json() == {}


def test_what_is_missing_fails_the_job(tuned: tuple[Vertex, str]) -> None:
    vertex, name = tuned
    model = vertex.get(name)["tunedModel"]["model"]
    path = f"{vertex.project.parent}/batchPredictionJobs"
    for source, said in ((f"gs://{vertex.project.datasets}/none.jsonl", "No object"), ("gs://no-such-b/x", "bucket")):
        job = vertex.wait(vertex.post(path, _body(vertex, model, source)).json()["name"])
        assert job["state"] == "JOB_STATE_FAILED"
        assert said in job["error"]["message"]


@pytest.mark.parametrize(
    ("change", "http", "status"),
    [
        ({"displayName": ""}, 400, "INVALID_ARGUMENT"),
        ({"model": "publishers/google/models/gemma3"}, 400, "UNIMPLEMENTED"),
        ({"inputConfig": {"instancesFormat": "csv"}}, 400, "UNIMPLEMENTED"),
        ({}, 404, "NOT_FOUND"),
    ],
)
def test_batches_that_cannot_be_are_refused(vertex: Vertex, change: dict[str, Any], http: int, status: str) -> None:
    body = {**_body(vertex, f"{vertex.project.parent}/models/1", "gs://bucket/x"), **change}
    vertex.error(vertex.post(f"{vertex.project.parent}/batchPredictionJobs", body), http, status)
