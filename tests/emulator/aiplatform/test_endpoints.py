"""Endpoints, models and operations without a serving process."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.emulator.aiplatform.vertex import Vertex

CHECKPOINT = "postprocess/node-0/checkpoints/final"


def create(vertex: Vertex, name: str = "one", **query: Any) -> dict[str, Any]:
    answer = vertex.client.post(f"/v1/{vertex.project.parent}/endpoints", json={"displayName": name}, params=query)
    operation = vertex.finished(answer)
    assert operation["response"].pop("@type") == "type.googleapis.com/google.cloud.aiplatform.v1.Endpoint"
    assert operation["metadata"]["@type"].endswith("v1.CreateEndpointOperationMetadata")
    endpoint: dict[str, Any] = operation["response"]
    return endpoint


def test_an_endpoint_lives_and_dies(vertex: Vertex) -> None:
    endpoint = create(vertex, endpointId="1234567890")
    name = f"projects/{vertex.project.number}/locations/us-central1/endpoints/1234567890"
    assert endpoint["name"] == name
    assert vertex.get(name) == vertex.get(f"{vertex.project.parent}/endpoints/1234567890", version="v1") == endpoint
    assert "dedicatedEndpointEnabled" not in endpoint
    body = {"displayName": "two", "labels": {"k": "v"}, "description": "not in the mask"}
    changed = vertex.client.patch(f"/v1beta1/{name}", json=body, params={"updateMask": "displayName,labels"}).json()
    assert (changed["displayName"], changed["labels"], "description" in changed) == ("two", {"k": "v"}, False)
    assert changed["etag"] != endpoint["etag"]
    gone = vertex.finished(vertex.client.delete(f"/v1/{name}"))
    assert gone["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    vertex.error(vertex.client.get(f"/v1/{name}"), 404, "NOT_FOUND")
    vertex.error(vertex.client.delete(f"/v1/{name}"), 404, "NOT_FOUND")


def test_an_endpoint_is_made_once(vertex: Vertex) -> None:
    create(vertex, endpointId="7")
    path = f"/v1/{vertex.project.parent}/endpoints"
    again = vertex.client.post(path, json={"displayName": "x"}, params={"endpointId": "7"})
    vertex.error(again, 409, "ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("body", "query"),
    [({}, {}), ({"displayName": "x" * 129}, {}), ({"displayName": "x"}, {"endpointId": "No"}), ({"display": "x"}, {})],
)
def test_invalid_endpoints_are_refused(vertex: Vertex, body: dict[str, Any], query: dict[str, str]) -> None:
    answer = vertex.client.post(f"/v1/{vertex.project.parent}/endpoints", json=body, params=query)
    vertex.error(answer, 400, "INVALID_ARGUMENT")


def test_patch_refuses_fixed_fields_stale_etags_and_foreign_traffic(vertex: Vertex) -> None:
    endpoint = create(vertex)

    def patch(mask: str, **body: Any) -> Any:
        return vertex.client.patch(f"/v1/{endpoint['name']}", json=body, params={"updateMask": mask} if mask else {})

    vertex.error(patch("", displayName="x"), 400, "INVALID_ARGUMENT")
    vertex.error(patch("encryptionSpec", encryptionSpec={"kmsKeyName": "k"}), 400, "INVALID_ARGUMENT")
    vertex.error(patch("displayName", displayName="x", etag="old"), 409, "ABORTED")
    vertex.error(patch("trafficSplit", trafficSplit={"5": 100}), 400, "INVALID_ARGUMENT")
    assert vertex.get(endpoint["name"]) == endpoint


def test_listing_endpoints(vertex: Vertex) -> None:
    for name in ("b", "a", "c"):
        create(vertex, name)
    path = f"{vertex.project.parent}/endpoints"
    assert [item["displayName"] for item in vertex.get(path)["endpoints"]] == ["c", "a", "b"]
    ordered = vertex.get(path, "v1", orderBy="display_name", pageSize=2)
    assert [item["displayName"] for item in ordered["endpoints"]] == ["a", "b"]
    rest = vertex.get(path, "v1", orderBy="display_name", pageSize=2, pageToken=ordered["nextPageToken"])
    assert [item["displayName"] for item in rest["endpoints"]] == ["c"]
    assert len(vertex.get(path, filter='display_name="a"')["endpoints"]) == 1


def test_an_endpoint_without_models_cannot_answer(vertex: Vertex) -> None:
    endpoint = create(vertex)
    for verb in (":predict", ":rawPredict", ":streamRawPredict", "/chat/completions"):
        answer = vertex.post(f"{endpoint['name']}{verb}", {"instances": [{}]})
        assert "traffic_split" in vertex.error(answer, 400, "FAILED_PRECONDITION")
    vertex.error(vertex.post(f"{endpoint['name']}0:predict", {"instances": [{}]}), 404, "NOT_FOUND")


def upload(vertex: Vertex, **body: Any) -> dict[str, Any]:
    model = {"displayName": "m", "artifactUri": f"gs://{vertex.project.outputs}/w", **body.pop("model", {})}
    operation = vertex.finished(vertex.post(f"{vertex.project.parent}/models:upload", {"model": model, **body}))
    assert operation["response"]["@type"].endswith("v1beta1.UploadModelResponse")
    response: dict[str, Any] = operation["response"]
    return response


def test_models_and_their_versions(vertex: Vertex) -> None:
    first = upload(vertex, model={"labels": {"k": "v"}})
    name = first["model"]
    second = upload(vertex, parentModel=name, model={"versionAliases": ["newer"]})
    assert (first["modelVersionId"], second["modelVersionId"], second["model"]) == ("1", "2", name)
    assert vertex.get(name)["versionId"] == "1"
    assert vertex.get(f"{name}@2")["versionAliases"] == ["newer"]
    assert vertex.get(f"{name}@newer", version="v1")["versionId"] == "2"
    assert vertex.get(f"{name}@default")["versionId"] == "1"
    vertex.error(vertex.client.get(f"/v1/{name}@3"), 404, "NOT_FOUND")
    assert [item["versionId"] for item in vertex.get(f"{name}:listVersions")["models"]] == ["1", "2"]
    assert len(vertex.get(f"{vertex.project.parent}/models", filter="labels.k=v")["models"]) == 1
    patched = vertex.client.patch(f"/v1beta1/{name}", json={"labels": {"a": "b"}}, params={"updateMask": "labels"})
    assert patched.json()["labels"] == {"a": "b"}
    assert vertex.get(f"{name}@2").get("labels") is None
    vertex.finished(vertex.client.delete(f"/v1/{name}"))
    vertex.error(vertex.client.get(f"/v1/{name}"), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 2}, "1 NVIDIA_L4"),
        ({"machineType": "g2-standard-12", "acceleratorType": 9, "acceleratorCount": 1}, "NVIDIA_A100_80GB"),
        ({"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4"}, "together"),
        ({"machineType": "g2-standard-12", "acceleratorCount": 1}, "together"),
        ({"acceleratorType": "NVIDIA_L4", "acceleratorCount": 1}, "machine_type"),
        ({"machineType": "g9-standard-1"}, "g9-standard-1"),
    ],
)
def test_machines_and_accelerators_must_fit(vertex: Vertex, spec: dict[str, Any], message: str) -> None:
    endpoint, model = create(vertex), upload(vertex)["model"]
    deployed = {"model": model, "dedicatedResources": {"machineSpec": spec}}
    answer = vertex.post(f"{endpoint['name']}:deployModel", {"deployedModel": deployed})
    assert message in vertex.error(answer, 400, "INVALID_ARGUMENT")


def test_deploy_model_refuses_what_it_cannot_serve(vertex: Vertex) -> None:
    endpoint = create(vertex)
    path = f"{endpoint['name']}:deployModel"
    vertex.error(vertex.post(path, {"deployedModel": {}}), 400, "INVALID_ARGUMENT")
    missing = f"{vertex.project.parent}/models/1"
    vertex.error(vertex.post(path, {"deployedModel": {"model": missing}}), 404, "NOT_FOUND")
    foreign = upload(vertex, model={"containerSpec": {"imageUri": "gcr.io/me/sklearn:1"}})["model"]
    vertex.error(vertex.post(path, {"deployedModel": {"model": foreign}}), 400, "UNIMPLEMENTED")
    empty = vertex.finished(vertex.post(f"{vertex.project.parent}/models:upload", {"model": {"displayName": "e"}}))
    deployed = {"model": empty["response"]["model"]}
    vertex.error(vertex.post(path, {"deployedModel": deployed}), 400, "FAILED_PRECONDITION")
    wrong_split = {"deployedModel": {"model": upload(vertex)["model"]}, "trafficSplit": {"0": 60}}
    vertex.error(vertex.post(path, wrong_split), 400, "INVALID_ARGUMENT")


@pytest.mark.training
def test_a_deployment_of_missing_weights_fails_its_operation(vertex: Vertex) -> None:
    endpoint, model = create(vertex), upload(vertex)["model"]
    answer = vertex.post(f"{endpoint['name']}:deployModel", {"deployedModel": {"model": model}})
    operation = vertex.finished(answer)
    assert operation["error"]["code"] == 3
    assert f"gs://{vertex.project.outputs}/w" in operation["error"]["message"]
    vertex.finished(vertex.client.delete(f"/v1/{endpoint['name']}"))  # nothing of it is left on the endpoint


@pytest.mark.parametrize(
    ("files", "message"),
    [([], "no files"), (["model.safetensors"], "config.json"), (["config.json", "tokenizer.json"], "weights")],
)
def test_model_garden_looks_at_the_weights(vertex: Vertex, files: list[str], message: str) -> None:
    for file in files:
        vertex.upload(vertex.project.outputs, f"{CHECKPOINT}/{file}", b'{"model_type":"llama"}')
    body: dict[str, Any] = {"customModel": {"gcsUri": f"gs://{vertex.project.outputs}/{CHECKPOINT}"}}
    assert message in vertex.error(vertex.post(f"{vertex.project.parent}:deploy", body), 400, "INVALID_ARGUMENT")
    body = {"gcsUri": f"gs://{vertex.project.outputs}/{CHECKPOINT}"}
    assert message in vertex.error(vertex.post(f"{vertex.project.parent}:recommendSpec", body), 400, "INVALID_ARGUMENT")
    assert vertex.get(f"{vertex.project.parent}/endpoints") == {}
    assert vertex.get(f"{vertex.project.parent}/models") == {}


def test_model_garden_refuses_unknown_sources(vertex: Vertex) -> None:
    def deploy(**body: Any) -> Any:
        return vertex.post(f"{vertex.project.parent}:deploy", body)

    vertex.error(deploy(), 400, "INVALID_ARGUMENT")
    both = {"customModel": {"gcs_uri": "gs://bucket/x"}, "publisherModelName": "publishers/a/models/b@c"}
    vertex.error(deploy(**both), 400, "INVALID_ARGUMENT")
    vertex.error(deploy(customModel={"gcs_uri": "/tmp/x"}), 400, "INVALID_ARGUMENT")
    vertex.error(deploy(customModel={"gcs_uri": "gs://no-such-bucket-anywhere/x"}), 404, "NOT_FOUND")
    vertex.error(deploy(publisherModelName="publishers/meta/models/llama9@x"), 404, "NOT_FOUND")
    vertex.error(deploy(huggingFaceModelId="qwen/qwen3-0.6b"), 400, "UNIMPLEMENTED")


def test_recommended_machines_follow_the_architecture(vertex: Vertex) -> None:
    for file, content in (("config.json", b'{"model_type":"llama"}'), ("model.safetensors", b"")):
        vertex.upload(vertex.project.outputs, f"{CHECKPOINT}/{file}", content)
    uri = f"gs://{vertex.project.outputs}/{CHECKPOINT}"
    body = {"gcsUri": uri, "checkMachineAvailability": True, "checkUserQuota": True}
    answer = vertex.post(f"{vertex.project.parent}:recommendSpec", body).json()
    assert answer["recommendations"][0]["spec"]["machineSpec"] == {
        "machineType": "g2-standard-12",
        "acceleratorType": "NVIDIA_L4",
        "acceleratorCount": 1,
    }
    assert answer["recommendations"][0]["userQuotaState"] == "QUOTA_STATE_USER_HAS_QUOTA"
    vertex.upload(vertex.project.outputs, f"{CHECKPOINT}/config.json", b'{"model_type":"bert"}')
    refused = vertex.post(f"{vertex.project.parent}:recommendSpec", {"gcsUri": uri})
    assert "'bert'" in vertex.error(refused, 400, "INVALID_ARGUMENT")


def test_publisher_models(vertex: Vertex) -> None:
    one = vertex.get("publishers/meta/models/llama3_1%40llama-3.1-8b")
    assert (one["name"], one["versionId"]) == ("publishers/meta/models/llama3_1", "llama-3.1-8b")
    option = one["supportedActions"]["multiDeployVertex"]["multiDeployVertex"][0]
    assert option["dedicatedResources"]["machineSpec"]["machineType"] == "g2-standard-12"
    assert len(vertex.get("publishers/*/models", listAllVersions="True")["publisherModels"]) >= 8
    vertex.error(vertex.client.get("/v1beta1/publishers/meta/models/llama9@x"), 404, "NOT_FOUND")


def test_operations_are_found_under_every_version(vertex: Vertex) -> None:
    answer = vertex.client.post(f"/v1/{vertex.project.parent}/endpoints", json={"displayName": "x"}).json()
    nested = answer["name"]
    endpoint, _, identifier = nested.partition("/operations/")
    beta = json.loads(json.dumps(answer).replace("aiplatform.v1.", "aiplatform.v1beta1."))
    for version, shown in (("v1", answer), ("v1beta1", beta), ("ui", answer)):
        assert vertex.get(nested, version=version) == shown
        assert vertex.get(f"{vertex.project.parent}/operations/{identifier}", version=version) == shown
    assert vertex.get(f"{endpoint}/operations") == {"operations": [beta]}
    assert vertex.post(f"{nested}:wait?timeout=1.5s").json() == beta
    assert vertex.post(f"{nested}:cancel").json() == {}
    vertex.error(vertex.client.get(f"/ui/{endpoint}/operations/1"), 404, "NOT_FOUND")
    vertex.error(vertex.post(f"{nested}:wait?timeout=soon"), 400, "INVALID_ARGUMENT")


def test_emulator_status(vertex: Vertex) -> None:
    status = vertex.client.get("/_emulator/status").json()
    assert status["version"]
    assert isinstance(status["jobsRunning"], list)


@pytest.mark.parametrize("after", ["-1", "x", "9" * 20])
def test_events_need_a_number(vertex: Vertex, after: str) -> None:
    path = f"/_emulator/tuningJobs/{vertex.project.project}/us-central1/1/events"
    assert vertex.client.get(path, params={"after": after}).status_code == 400
