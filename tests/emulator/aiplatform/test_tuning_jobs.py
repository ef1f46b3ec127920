"""Creating, reading, listing and cancelling jobs over HTTP; no job here gets as far as training."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.emulator.aiplatform.vertex import Vertex
from tests.provisioning import provision

KEY = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
ONLY_FULL = (
    "Tuning mode PEFT_ADAPTER is not supported for base model meta/llama3-2@llama-3.2-1b-instruct. "
    "The supported tuning modes are [FULL]"
)


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        ({"baseModel": "Qwen/Qwen3-8B"}, "INVALID_ARGUMENT", "Invalid open source publisher model resource name"),
        (
            {"baseModel": "google/gemma-3-4b-it"},
            "INVALID_ARGUMENT",
            "Invalid open source publisher model resource name",
        ),
        (
            {"baseModel": "meta/llama9@llama-9"},
            "INVALID_ARGUMENT",
            "PublisherModel publishers/meta/models/llama9@llama-9 does",
        ),
        ({"baseModel": ""}, "INVALID_ARGUMENT", "base_model"),
        ({"outputUri": ""}, "INVALID_ARGUMENT", "The output_uri field is required for this model."),
        ({"outputUri": "s3://bucket/x"}, "INVALID_ARGUMENT", "output_uri"),
        ({"outputUri": "gs://"}, "INVALID_ARGUMENT", "output_uri"),
        ({"customBaseModel": "/tmp/weights"}, "INVALID_ARGUMENT", "custom_base_model"),
        ({"supervisedTuningSpec": {}}, "INVALID_ARGUMENT", "training_dataset_uri"),
        ({"spec": {"trainingDatasetUri": "train.jsonl"}}, "INVALID_ARGUMENT", "training_dataset_uri"),
        ({"spec": {"trainingDatasetUri": "gs://bucket"}}, "INVALID_ARGUMENT", "names no object"),
        ({"spec": {"validationDatasetUri": "gs://bucket/"}}, "INVALID_ARGUMENT", "validation_dataset_uri"),
        ({"baseModel": "meta/llama3-2@llama-3.2-1b-instruct"}, "INVALID_ARGUMENT", ONLY_FULL),
        (
            {"baseModel": "meta/llama4@llama-4-scout-17b-16e-instruct", "spec": {"tuningMode": 1}},
            "INVALID_ARGUMENT",
            "[PEFT_ADAPTER]",
        ),
        (
            {"hyperParameters": {"adapterSize": "ADAPTER_SIZE_TWO"}},
            "INVALID_ARGUMENT",
            "Unsupported adapter size: 2. The supported sizes are [1, 4, 8, 16, 32]",
        ),
        (
            {"hyperParameters": {"adapterSize": 4}, "spec": {"tuningMode": "TUNING_MODE_FULL"}},
            "INVALID_ARGUMENT",
            "adapter_size",
        ),
        ({"hyperParameters": {"epochCount": -1}}, "INVALID_ARGUMENT", "epoch_count"),
        ({"hyperParameters": {"epochCount": "101"}}, "INVALID_ARGUMENT", "epoch_count"),
        ({"hyperParameters": {"learningRate": -0.1}}, "INVALID_ARGUMENT", "learning_rate"),
        ({"hyperParameters": {"batchSize": "-4"}}, "INVALID_ARGUMENT", "batch_size"),
        (
            {"hyperParameters": {"learningRateMultiplier": 2}},
            "INVALID_ARGUMENT",
            "Learning rate multiplier is not supported for base model",
        ),
        ({"hyperParameters": {"learningRateMultiplier": 2, "learningRate": 1}}, "INVALID_ARGUMENT", "Only one of"),
        (
            {"baseModel": None, "preTunedModel": {"tuned_model_name": "projects/p/locations/l/models/m"}},
            "INVALID_ARGUMENT",
            "base model name cannot be determined",
        ),
        ({"tunedModelDisplayName": "x" * 129}, "INVALID_ARGUMENT", "128"),
        ({"labels": {"Upper": "x"}}, "INVALID_ARGUMENT", "Invalid label 'Upper'"),
        ({"labels": {"k": "v" * 65}}, "INVALID_ARGUMENT", "Invalid label"),
        ({"encryptionSpec": {"kms_key_name": "key"}}, "INVALID_ARGUMENT", "KMS"),
        ({"encryptionSpec": {"kms_key_name": KEY}}, "FAILED_PRECONDITION", "us-central1"),
        ({"epochs": 3}, "INVALID_ARGUMENT", "Unknown name \"epochs\" at 'tuning_job': Cannot find field."),
    ],
)
def test_invalid_jobs_are_refused(vertex: Vertex, change: dict[str, Any], status: str, message: str) -> None:
    response = vertex.post(f"{vertex.project.parent}/tuningJobs", vertex.body(**change))
    assert message in vertex.error(response, 400, status)
    assert vertex.get(f"{vertex.project.parent}/tuningJobs") == {}


def test_location_must_offer_tuning(vertex: Vertex) -> None:
    response = vertex.post(f"projects/{vertex.project.project}/locations/us-east1/tuningJobs", vertex.body())
    assert "does not exist in location us-east1" in vertex.error(response, 400, "INVALID_ARGUMENT")


def test_cmek_is_refused_in_global(vertex: Vertex) -> None:
    key = {"kmsKeyName": "projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"}
    response = vertex.post(
        f"projects/{vertex.project.project}/locations/global/tuningJobs", vertex.body(encryptionSpec=key)
    )
    assert "global" in vertex.error(response, 400, "FAILED_PRECONDITION")


def test_output_bucket_must_be_in_the_jobs_region(vertex: Vertex) -> None:
    response = vertex.post(f"projects/{vertex.project.project}/locations/europe-west4/tuningJobs", vertex.body())
    assert "US-CENTRAL1" in vertex.error(response, 400, "FAILED_PRECONDITION")


def test_v1_does_not_know_open_models_fields(vertex: Vertex) -> None:
    body = vertex.body(hyperParameters={"learningRate": 1e-4}, customBaseModel="gs://b/x")
    message = vertex.error(vertex.post(f"{vertex.project.parent}/tuningJobs", body, "v1"), 400, "INVALID_ARGUMENT")
    for name in ("outputUri", "customBaseModel", "tuningMode", "learningRate"):
        assert f'Unknown name "{name}"' in message


def test_bodies_that_are_no_messages(vertex: Vertex) -> None:
    path = f"/v1beta1/{vertex.project.parent}/tuningJobs"
    for content in (b"[]", b"{", b'"x"', b"\xff", b"[" * 100_000):
        assert vertex.client.post(path, content=content).status_code == 400
    assert vertex.client.post(path, json={"supervisedTuningSpec": [1], "baseModel": {}}).status_code == 400
    assert vertex.client.post(path, content=b" " * (33 * 1024 * 1024)).status_code == 400


def test_a_disabled_api_refuses_every_method(vertex: Vertex) -> None:
    project = vertex.project.project
    vertex.client.post(f"/v1/projects/{project}/services/aiplatform.googleapis.com:disable").raise_for_status()
    parent = vertex.project.parent
    for method, path in [
        ("POST", "tuningJobs"), ("GET", "tuningJobs"), ("GET", "tuningJobs/1"), ("POST", "tuningJobs/1:cancel"),
        ("POST", "endpoints"), ("GET", "endpoints"), ("GET", "endpoints/1"), ("DELETE", "endpoints/1"),
        ("POST", "endpoints/1:predict"), ("POST", "endpoints/1:deployModel"), ("POST", "endpoints/1/chat/completions"),
        ("POST", "endpoints/openapi/chat/completions"), ("POST", "models:upload"), ("GET", "models"),
        ("GET", "models/1"), ("GET", "operations/1"),
    ]:  # fmt: skip
        answer = vertex.client.request(method, f"/v1beta1/{parent}/{path}", json={} if method == "POST" else None)
        assert answer.status_code == 403, (method, path, answer.text)
        assert answer.json()["error"]["details"][0]["reason"] == "SERVICE_DISABLED"
    for verb in ("deploy", "recommendSpec"):
        assert vertex.post(f"{parent}:{verb}").json()["error"]["details"][0]["reason"] == "SERVICE_DISABLED"


def test_unknown_jobs_are_not_found(vertex: Vertex) -> None:
    name = f"{vertex.project.parent}/tuningJobs/12345"
    message = vertex.error(vertex.client.get(f"/v1beta1/{name}"), 404, "NOT_FOUND")
    assert f"projects/{vertex.project.number}/locations/us-central1/tuningJobs/12345" in message
    vertex.error(vertex.post(f"{name}:cancel"), 404, "NOT_FOUND")
    vertex.error(vertex.client.delete(f"/v1beta1/{name}"), 404, "NOT_FOUND")


def test_names_carry_the_project_number_and_answer_to_the_id(vertex: Vertex) -> None:
    name = vertex.create_job(vertex.body())
    assert name.startswith(f"projects/{vertex.project.number}/locations/us-central1/tuningJobs/")
    identifier = name.rpartition("/")[2]
    assert vertex.get(f"{vertex.project.parent}/tuningJobs/{identifier}")["name"] == name
    assert vertex.get(name, version="v1")["name"] == name


def test_defaults_are_the_services(vertex: Vertex) -> None:
    body = vertex.body()
    del body["supervisedTuningSpec"]["hyperParameters"], body["supervisedTuningSpec"]["tuningMode"]
    spec = vertex.get(vertex.create_job(body))["supervisedTuningSpec"]
    assert spec["tuningMode"] == "TUNING_MODE_PEFT_ADAPTER"
    assert spec["hyperParameters"] == {"epochCount": "1", "learningRate": 1e-4, "adapterSize": "ADAPTER_SIZE_FOUR"}


def test_global_jobs(vertex: Vertex) -> None:
    parent = f"projects/{vertex.project.project}/locations/global"
    name = vertex.create_job(vertex.body(), parent)
    assert "/locations/global/" in name
    assert vertex.get(f"{parent}/tuningJobs")["tuningJobs"][0]["name"] == name
    assert vertex.get(f"{vertex.project.parent}/tuningJobs") == {}


def test_pages_and_filters(vertex: Vertex) -> None:
    # The dataset does not exist: these jobs end quickly.
    names = [
        vertex.create_job(vertex.body(labels={"n": str(number), "parity": "eo"[number % 2]})) for number in range(5)
    ]
    for name in names:
        vertex.wait(name)
    path = f"{vertex.project.parent}/tuningJobs"
    found: list[str] = []
    token = ""
    pages = 0
    while pages == 0 or token:
        page = vertex.get(path, pageSize=2, pageToken=token)
        assert len(page["tuningJobs"]) <= 2
        found += [job["name"] for job in page["tuningJobs"]]
        token, pages = page.get("nextPageToken", ""), pages + 1
    assert pages == 3
    assert found == names[::-1]  # newest first
    chosen = vertex.get(path, filter='labels.parity="e" AND NOT labels.n="2" AND state="JOB_STATE_FAILED"')
    assert [job["labels"]["n"] for job in chosen["tuningJobs"]] == ["4", "0"]
    assert vertex.get(path, filter='labels.n="9"') == {}
    assert vertex.get(path, filter="encryptionSpec:*") == {}  # every field of Google's definition
    vertex.error(vertex.client.get(f"/v1beta1/{path}", params={"filter": "colour=red"}), 400, "INVALID_ARGUMENT")
    vertex.error(vertex.client.get(f"/v1beta1/{path}", params={"pageToken": "x"}), 400, "INVALID_ARGUMENT")


def test_a_missing_dataset_fails_the_job(vertex: Vertex) -> None:
    job = vertex.wait(vertex.create_job(vertex.body()))
    assert job["state"] == "JOB_STATE_FAILED"
    assert job["error"]["code"] == 5  # google.rpc.Code.NOT_FOUND
    assert f"gs://{vertex.project.datasets}/train.jsonl" in job["error"]["message"]
    assert job["endTime"] >= job["startTime"] >= job["createTime"]
    assert "tuningJobState" not in job
    kinds = [event.get("detail", event["state"]) for event in vertex.events(job["name"])]
    assert kinds == ["JOB_STATE_PENDING", "TUNING_JOB_STATE_PROCESSING_DATASET", "JOB_STATE_FAILED"]


def test_a_missing_bucket_fails_the_job(vertex: Vertex) -> None:
    job = vertex.wait(vertex.create_job(vertex.body("gs://no-such-bucket-anywhere/x.jsonl")))
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 5)
    assert "no-such-bucket-anywhere" in job["error"]["message"]


@pytest.mark.parametrize(("rows", "message"), [(8, "25%"), (5001, "5000")])
def test_a_validation_set_beyond_the_limits_fails_the_job(vertex: Vertex, rows: int, message: str) -> None:
    training = vertex.upload(
        vertex.project.datasets, "t.jsonl", b'{"prompt":"a","completion":"b"}\n' * rows * 3 + b" " * rows * 60
    )
    validation = vertex.upload(
        vertex.project.datasets, "v.jsonl", b'{"prompt":"a","completion":"b"}\n' * rows * (1 if rows > 5000 else 3)
    )
    job = vertex.wait(vertex.create_job(vertex.body(training, spec={"validationDatasetUri": validation})))
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 3)
    assert message in job["error"]["message"]


def grant(vertex: Vertex, bucket: str, agent: str, role: str) -> None:
    member = f"serviceAccount:service-{vertex.project.number}@gcp-sa-{agent}.iam.gserviceaccount.com"
    other = "aiplatform" if agent == "vertex-moss-ft" else "vertex-moss-ft"
    full = f"serviceAccount:service-{vertex.project.number}@gcp-sa-{other}.iam.gserviceaccount.com"
    bindings = [{"role": "roles/storage.objectUser", "members": [full]}]
    if role:
        bindings.append({"role": role, "members": [member]})
    vertex.client.put(f"/storage/v1/b/{bucket}/iam", json={"bindings": bindings}).raise_for_status()


@pytest.mark.parametrize("agent", ["vertex-moss-ft", "aiplatform"])
@pytest.mark.parametrize(
    ("kind", "role", "permission"),
    [
        ("datasets", "", "storage.objects.get"),
        ("datasets", "roles/storage.objectCreator", "storage.objects.get"),
        ("outputs", "roles/storage.objectViewer", "storage.objects.create"),
    ],
)
def test_a_missing_permission_fails_the_job_and_is_named(
    vertex: Vertex, agent: str, kind: str, role: str, permission: str
) -> None:
    vertex.dataset()
    bucket = f"{vertex.project.project}-{kind}"
    grant(vertex, bucket, agent, role)
    job = vertex.wait(vertex.create_job(vertex.body()))
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 7)
    principal = f"service-{vertex.project.number}@gcp-sa-{agent}.iam.gserviceaccount.com"
    assert f"{principal} does not have {permission} access" in job["error"]["message"]
    assert f"//storage.googleapis.com/projects/_/buckets/{bucket}" in job["error"]["message"]
    metadata = job["error"]["details"][0]["metadata"]
    assert (metadata["principal"], metadata["permission"]) == (principal, permission)


def test_the_image_bucket_needs_its_own_grant(vertex: Vertex) -> None:
    """Images in another bucket than the dataset: both accounts need the role on both buckets."""
    picture = vertex.upload(vertex.project.images, "a.png", b"x")
    question = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": picture}}]}
    example = {"messages": [question, {"role": "assistant", "content": "b"}]}
    training = vertex.upload(vertex.project.datasets, "images.jsonl", json.dumps(example).encode())
    grant(vertex, vertex.project.images, "vertex-moss-ft", "")
    model = "meta/llama4@llama-4-scout-17b-16e-instruct"
    job = vertex.wait(vertex.create_job(vertex.body(training, baseModel=model)))
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 7)
    assert f"buckets/{vertex.project.images}" in job["error"]["message"]
    assert "vertex-moss-ft" in job["error"]["message"]


def test_a_service_account_of_ones_own_needs_the_access_instead(vertex: Vertex) -> None:
    vertex.dataset()
    account = f"me@{vertex.project.project}.iam.gserviceaccount.com"
    job = vertex.wait(vertex.create_job(vertex.body(serviceAccount=account)))
    assert job["error"]["message"].startswith(f"{account} does not have storage.objects.get access")


def test_a_first_job_makes_the_service_agents(vertex: Vertex) -> None:
    """Until then a bucket's policy cannot name them."""
    project = f"{vertex.project.project}-new"
    number = vertex.client.get(f"/v1/projects/{project}").json()["projectNumber"]
    enable = {"serviceIds": ["aiplatform.googleapis.com"]}
    vertex.client.post(f"/v1/projects/{project}/services:batchEnable", json=enable).raise_for_status()
    agent = f"serviceAccount:service-{number}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com"
    policy = {"bindings": [{"role": "roles/storage.objectUser", "members": [agent]}]}
    path = f"/storage/v1/b/{vertex.project.datasets}/iam"
    assert vertex.client.put(path, json=policy).status_code == 400
    vertex.create_job(vertex.body(), f"projects/{project}/locations/us-central1")
    assert vertex.client.put(path, json=policy).status_code == 200


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no files"),
        (["model.safetensors"], "config.json"),
        (["config.json"], "weights"),
        (["adapter_config.json", "adapter_model.safetensors"], "merged weights"),
    ],
)
def test_unusable_custom_weights_fail_the_job(vertex: Vertex, files: list[str], message: str) -> None:
    vertex.dataset()
    for file in files:
        vertex.upload(vertex.project.datasets, f"weights/{file}", b"{}")
    job = vertex.wait(vertex.create_job(vertex.body(customBaseModel=f"gs://{vertex.project.datasets}/weights/")))
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 3)
    assert message in job["error"]["message"]


def test_cancelling_a_finished_job_changes_nothing(vertex: Vertex) -> None:
    name = vertex.create_job(vertex.body())
    job = vertex.wait(name)
    for version in ("v1", "v1beta1"):
        assert vertex.client.post(f"/{version}/{name}:cancel").json() == {}  # no body, as google-genai sends it
    assert vertex.get(name) == job


def test_projects_do_not_see_each_other(vertex: Vertex) -> None:
    name = vertex.create_job(vertex.body())
    other = provision(vertex.project.url, f"{vertex.project.project}-b")
    identifier = name.rpartition("/")[2]
    with httpx.Client(base_url=vertex.project.url, timeout=120) as client:
        assert client.get(f"/v1beta1/{other.parent}/tuningJobs").json() == {}
        assert client.get(f"/v1beta1/{other.parent}/tuningJobs/{identifier}").status_code == 404
