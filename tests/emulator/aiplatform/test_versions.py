"""Versions of models, their aliases, copies, policies; and the small methods around them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.emulator.aiplatform.vertex import Vertex


def _upload(vertex: Vertex, **body: Any) -> str:
    given = {"model": {"displayName": "m"}, **body}
    answer = vertex.post(f"{vertex.project.parent}/models:upload", given)
    return str(vertex.finished(answer)["response"]["model"])


@pytest.fixture
def versions(vertex: Vertex) -> str:
    """A model with three versions, the first of which is the default."""
    name = _upload(vertex)
    for _ in range(2):
        _upload(vertex, parentModel=name)
    return name


def _aliases(vertex: Vertex, name: str) -> dict[str, list[str]]:
    return {item["versionId"]: item["versionAliases"] for item in vertex.get(f"{name}:listVersions")["models"]}


def test_aliases_are_given_moved_and_taken_away(vertex: Vertex, versions: str) -> None:
    assert vertex.post(f"{versions}@2:mergeVersionAliases", {"versionAliases": ["golden", "best"]}).status_code == 200
    moved = vertex.post(f"{versions}@3:mergeVersionAliases", {"versionAliases": ["golden", "default"]}).json()
    assert (moved["versionId"], moved["versionAliases"]) == ("3", ["golden", "default"])
    vertex.post(f"{versions}@2:mergeVersionAliases", {"versionAliases": ["-best"]})
    assert _aliases(vertex, versions) == {"1": [], "2": [], "3": ["golden", "default"]}
    assert vertex.get(versions)["versionId"] == vertex.get(f"{versions}@golden")["versionId"] == "3"
    refused = vertex.post(f"{versions}@3:mergeVersionAliases", {"versionAliases": ["-default"]})
    assert "default" in vertex.error(refused, 400, "INVALID_ARGUMENT")
    vertex.error(vertex.post(f"{versions}@9:mergeVersionAliases", {"versionAliases": ["a"]}), 404, "NOT_FOUND")


def test_a_version_is_deleted_and_the_last_is_not(vertex: Vertex, versions: str) -> None:
    def delete(name: str) -> httpx.Response:
        return vertex.client.delete(f"/v1/{name}:deleteVersion")

    assert delete(f"{versions}@2").json()["done"] is True
    assert set(_aliases(vertex, versions)) == {"1", "3"}
    vertex.error(delete(f"{versions}@1"), 400, "FAILED_PRECONDITION")
    vertex.error(delete(versions), 400, "INVALID_ARGUMENT")
    vertex.error(delete(f"{versions}@2"), 404, "NOT_FOUND")
    assert delete(f"{versions}@3").status_code == 200
    assert "only version" in vertex.error(delete(f"{versions}@1"), 400, "FAILED_PRECONDITION")
    assert vertex.get(_upload(vertex, parentModel=versions))["versionId"] == "1"
    assert set(_aliases(vertex, versions)) == {"1", "4"}


def test_a_model_is_copied(vertex: Vertex, versions: str) -> None:
    parent = vertex.project.parent.replace("us-central1", "europe-west4")
    answer = vertex.post(f"{parent}/models:copy", {"sourceModel": f"{versions}@2", "modelId": "copied"})
    response = vertex.finished(answer)["response"]
    assert (response["model"].split("/")[3], response["model"].split("/")[-1]) == ("europe-west4", "copied")
    assert vertex.get(response["model"])["modelSourceInfo"] == {"copy": True}
    again = vertex.post(f"{parent}/models:copy", {"sourceModel": versions, "parentModel": response["model"]})
    assert vertex.finished(again)["response"]["modelVersionId"] == "2"
    assert vertex.post(f"{parent}/models:copy", {}).status_code == 400
    here = vertex.post(
        f"{vertex.project.parent}/models:copy", {"sourceModel": versions, "parentModel": response["model"]}
    )
    vertex.error(here, 400, "INVALID_ARGUMENT")


@pytest.mark.training
def test_the_checkpoints_of_a_tuned_model(tuned: tuple[Vertex, str]) -> None:
    vertex, name = tuned
    job = vertex.get(name)
    listed = vertex.get(f"{job['tunedModel']['model']}:listCheckpoints")["checkpoints"]
    assert [item["checkpointId"] for item in listed] == [
        item["checkpointId"] for item in job["tunedModel"]["checkpoints"]
    ]


def test_policies_of_endpoints_and_models(vertex: Vertex, versions: str) -> None:
    made = vertex.post(f"{vertex.project.parent}/endpoints", {"displayName": "e"}).json()["response"]["name"]
    for name in (made, versions):
        first = vertex.post(f"{name}:getIamPolicy", None).json()
        binding = {"role": "roles/aiplatform.user", "members": ["user:a@example.org"]}
        policy = {"bindings": [binding], "etag": first["etag"]}
        assert vertex.post(f"{name}:setIamPolicy", {"policy": policy}).json()["bindings"] == [binding]
        assert vertex.post(f"{name}:setIamPolicy", {"policy": policy}).status_code == 409
        held = vertex.post(f"{name}:testIamPermissions?permissions=aiplatform.endpoints.get").json()
        assert held == {"permissions": ["aiplatform.endpoints.get"]}
        vertex.error(vertex.post(f"{name}9:getIamPolicy"), 404, "NOT_FOUND")
    vertex.error(vertex.client.post(f"/v1/{made}:getIamPolicy"), 404, "NOT_FOUND")
    assert vertex.client.post(f"/v1/{versions}:getIamPolicy").status_code == 200


def test_an_endpoint_is_updated_by_an_operation(vertex: Vertex) -> None:
    name = vertex.post(f"{vertex.project.parent}/endpoints", {"displayName": "e"}).json()["response"]["name"]
    body = {"endpoint": {"clientConnectionConfig": {"inferenceTimeout": "60s"}}}
    shown = vertex.finished(vertex.post(f"{name}:update", body))["response"]
    assert shown["clientConnectionConfig"] == {"inferenceTimeout": "60s"}
    refused = vertex.post(f"{name}:update", {"endpoint": {"displayName": "f"}})
    assert "display_name" in vertex.error(refused, 400, "INVALID_ARGUMENT")


def test_locations(vertex: Vertex) -> None:
    parent = f"projects/{vertex.project.project}/locations"
    assert vertex.get(f"{parent}/us-central1")["locationId"] == "us-central1"
    assert {"us-central1", "global"} <= {one["locationId"] for one in vertex.get(parent)["locations"]}
    for path in ("us-central9", "us-central9/endpoints"):
        vertex.error(vertex.client.get(f"/v1beta1/{parent}/{path}"), 400, "INVALID_ARGUMENT")


def test_a_license_is_agreed_to_once(vertex: Vertex) -> None:
    path, body = f"projects/{vertex.project.project}/modelGardenEula", {"publisherModel": "meta/llama3_1@llama-3.1-8b"}
    assert "publisherModelEulaAcked" not in vertex.post(f"{path}:check", body).json()
    assert vertex.post(f"{path}:accept", body).json()["publisherModelEulaAcked"] is True
    assert vertex.post(f"{path}:check", body).json()["publisherModelEulaAcked"] is True
    vertex.error(vertex.post(f"{path}:accept", {"publisherModel": "nobody/nothing"}), 404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("text", "some"),
    [
        ("is_hf_wildcard(false)", True),
        ("is_hf_wildcard(true)", False),
        ("is_deployable(true) AND is_hf_wildcard(false)", True),
        ('model_user_id="llama3_1"', True),
        ("model_user_id=nothing", False),
    ],
)
def test_publishers_models_are_filtered(vertex: Vertex, text: str, some: bool) -> None:
    found = vertex.get("publishers/*/models", filter=text).get("publisherModels", [])
    assert bool(found) is some
    vertex.error(vertex.client.get("/v1beta1/publishers/*/models?filter=colour%3Dred"), 400, "INVALID_ARGUMENT")
    page = vertex.get("publishers/*/models", pageSize=2)
    assert (len(page["publisherModels"]), bool(page["nextPageToken"])) == (2, True)


@pytest.mark.parametrize("identifier", ["0123", "1234567890123456789", "Upper", "1abc", "a_b"])
def test_ids_of_endpoints_are_as_short_as_googles(vertex: Vertex, identifier: str) -> None:
    path = f"{vertex.project.parent}/endpoints?endpointId={identifier}"
    vertex.error(vertex.post(path, {"displayName": "x"}), 400, "INVALID_ARGUMENT")


@pytest.mark.parametrize("identifier", ["1abc", "-a", "Upper", "a" * 64])
def test_ids_of_models_begin_with_a_letter(vertex: Vertex, identifier: str) -> None:
    body = {"modelId": identifier, "model": {"displayName": "m"}}
    vertex.error(vertex.post(f"{vertex.project.parent}/models:upload", body), 400, "INVALID_ARGUMENT")


def test_labels_may_begin_with_a_digit(vertex: Vertex) -> None:
    body = {"displayName": "x", "labels": {"1st": "a", "größe": "ü"}}
    made = vertex.post(f"{vertex.project.parent}/endpoints", body).json()["response"]
    assert made["labels"] == body["labels"]


def test_vertex_lists_what_it_found(vertex: Vertex) -> None:
    refused = vertex.post(f"{vertex.project.parent}/endpoints", {"description": "x"})
    assert vertex.error(refused, 400, "INVALID_ARGUMENT") == (
        "List of found errors:\t1.Field: endpoint.display_name; Message: Required field is not set.\t"
    )


@pytest.mark.parametrize("spec", ["fullFineTuningSpec", "preferenceOptimizationSpec", "distillationSpec"])
def test_other_ways_of_tuning_are_known_and_not_here(vertex: Vertex, spec: str) -> None:
    body = {"baseModel": "meta/llama3_1@llama-3.1-8b", spec: {}}
    vertex.error(vertex.post(f"{vertex.project.parent}/tuningJobs", body), 400, "UNIMPLEMENTED")


def test_a_job_may_be_sent_back(vertex: Vertex) -> None:
    job = vertex.get(vertex.create_job(vertex.body()))
    again = {key: value for key, value in job.items() if key != "emulator"}
    assert vertex.create_job(again) != job["name"]
