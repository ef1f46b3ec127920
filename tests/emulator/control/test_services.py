"""Switching APIs on and off, and the service agents that come of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.emulator import enablement, projects
from runner.emulator.errors import ApiError
from runner.emulator.iam import agents
from runner.emulator.server import EmulatorServer
from runner.emulator.serviceusage.known import TITLES, dependencies, dependents
from runner.emulator.settings import EmulatorSettings
from tests.emulator.control.conftest import Call

_AI = "aiplatform.googleapis.com"


def _enabled(call: Call, project: str) -> set[str]:
    names: set[str] = set()
    token = ""
    while True:
        answer = call("GET", f"/v1/projects/{project}/services?filter=state:ENABLED&pageSize=2&pageToken={token}")
        names |= {service["config"]["name"] for service in answer["services"]}
        token = answer.get("nextPageToken", "")
        if not token:
            return names


def test_a_new_project_has_the_basics_on_and_vertex_off(call: Call, bare: str) -> None:
    assert _enabled(call, bare) == set(enablement.ON_BY_DEFAULT)
    assert call("GET", f"/v1/projects/{bare}/services/{_AI}")["state"] == "DISABLED"


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_enabling_is_done_at_the_first_poll_and_only_once(call: Call, bare: str, version: str) -> None:
    operation = call("POST", f"/{version}/projects/{bare}/services/{_AI}:enable", {})
    assert operation["name"].startswith("operations/acf.")
    polled = call("GET", f"/{version}/{operation['name']}")
    assert polled["done"] is True
    assert polled["response"]["service"]["state"] == "ENABLED"
    again = call("POST", f"/{version}/projects/{bare}/services/{_AI}:enable", {})
    assert again["name"] == "operations/noop.DONE_OPERATION"
    assert call("GET", f"/{version}/{again['name']}")["done"] is True
    assert _AI in _enabled(call, bare)


def test_a_batch_is_enabled_whole_or_not_at_all(call: Call, bare: str) -> None:
    body = {"serviceIds": [_AI, "aiplatfrom.googleapis.com"]}
    error = call("POST", f"/v1/projects/{bare}/services:batchEnable", body, expect=403)["error"]
    assert error["details"][0]["reason"] == "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED"
    assert "aiplatfrom.googleapis.com" in error["message"]
    assert _AI not in _enabled(call, bare)
    for count in (0, 21):
        call("POST", f"/v1/projects/{bare}/services:batchEnable", {"serviceIds": [_AI] * count}, expect=400)
    call("POST", f"/v1/projects/{bare}/services:batchEnable", {"service_ids": [_AI]})
    names = f"names=projects/{bare}/services/{_AI}&names=projects/{bare}/services/run.googleapis.com"
    got = call("GET", f"/v1/projects/{bare}/services:batchGet?{names}")["services"]
    assert [service["state"] for service in got] == ["ENABLED", "DISABLED"]


def test_a_service_that_others_need_is_disabled_with_them_or_not(call: Call, bare: str) -> None:
    call("POST", f"/v1/projects/{bare}/services/container.googleapis.com:enable", {})
    assert {"compute.googleapis.com", "oslogin.googleapis.com"} <= _enabled(call, bare)
    path = f"/v1/projects/{bare}/services/compute.googleapis.com:disable"
    error = call("POST", path, {}, expect=400)["error"]
    assert error["status"] == "FAILED_PRECONDITION"
    assert "container.googleapis.com" in error["message"]
    call("POST", path, {"disableDependentServices": True, "checkIfServiceHasUsage": "SKIP"})
    assert not {"compute.googleapis.com", "container.googleapis.com"} & _enabled(call, bare)


def test_dependencies_are_known_services_without_a_circle() -> None:
    for service in TITLES:
        assert set(dependencies(service)) <= set(TITLES)
        assert service not in dependents(service)


@pytest.mark.parametrize(("path", "verb"), [("services/{0}:explode", "POST"), ("services?filter=name:x", "GET")])
def test_what_is_not_supported_is_refused(call: Call, bare: str, path: str, verb: str) -> None:
    expect = 404 if "explode" in path else 400
    call(verb, f"/v1/projects/{bare}/{path.format(_AI)}", expect=expect)


def test_require_names_the_project_and_the_way_out(emulator: EmulatorServer, bare: str) -> None:
    with pytest.raises(ApiError) as caught:
        emulator.emulator.store.read(lambda connection: enablement.require(connection, bare, _AI))
    error = caught.value
    assert (error.status, error.http) == ("PERMISSION_DENIED", 403)
    assert error.details[0]["reason"] == "SERVICE_DISABLED"
    assert projects.number_of(bare) in error.message


def test_enabling_makes_the_primary_agent_and_the_tuning_agent_takes_more(
    emulator: EmulatorServer, call: Call, bare: str
) -> None:
    number = call("GET", f"/v1/projects/{bare}")["projectNumber"]
    primary, tuning = agents.aiplatform_agent(number), agents.tuning_agent(number)

    def there() -> list[bool]:
        return emulator.emulator.store.read(
            lambda connection: [agents.exists(connection, email) for email in (primary, tuning)]
        )

    assert there() == [False, False]
    parent = f"projects/{number}/locations/global/serviceProducers/{_AI}"
    off = call("POST", f"/workloadidentity/v1/{parent}:generateServiceAgents", {"parent": parent}, expect=403)
    assert off["error"]["details"][0]["reason"] == "SERVICE_DISABLED"
    call("POST", f"/v1/projects/{bare}/services/{_AI}:enable", {})
    assert there() == [True, False]
    identity = call("POST", f"/v1beta1/projects/{bare}/services/{_AI}:generateServiceIdentity")
    assert identity["response"]["email"] == primary
    assert there() == [True, False]
    operation = call("POST", f"/workloadidentity/v1/{parent}:generateServiceAgents", {"parent": parent})
    made = call("GET", f"/workloadidentity/v1/{operation['name']}")["response"]["serviceAgents"]
    assert [agent["principal"] for agent in made] == [f"serviceAccount:{primary}", f"serviceAccount:{tuning}"]
    assert there() == [True, True]
    bindings = call("POST", f"/v1/projects/{bare}:getIamPolicy", {})["bindings"]
    assert {binding["role"]: binding["members"] for binding in bindings} == {
        "roles/aiplatform.serviceAgent": [f"serviceAccount:{primary}"],
        "roles/aiplatform.tuningServiceAgent": [f"serviceAccount:{tuning}"],
    }


def test_an_operation_that_never_was_is_not_found(call: Call, bare: str) -> None:
    assert call("GET", "/v1/operations/acf.p2-1-none", expect=404)["error"]["status"] == "NOT_FOUND"
    call("GET", f"/workloadidentity/v1/projects/{bare}/locations/global/operations/none", expect=404)


def test_projects_are_told_by_id_and_by_number(call: Call, bare: str) -> None:
    unknown = projects.number_of(bare)
    assert call("GET", f"/v1/projects/{unknown}", expect=403)["error"]["status"] == "PERMISSION_DENIED"
    first = call("GET", f"/v1/projects/{bare}")
    assert first["projectNumber"] == unknown
    assert len(unknown) == 12
    assert call("GET", f"/v1/projects/{unknown}") == first
    assert call("GET", f"/v3/projects/{unknown}")["projectId"] == bare
    assert call("GET", f"/compute/v1/projects/{unknown}")["name"] == bare
    assert call("GET", f"/v1/projects/{bare}/billingInfo")["billingAccountName"].startswith("billingAccounts/")
    call("GET", "/v1/projects/Not_A_Project", expect=400)


def test_the_state_outlives_the_server(tmp_path: Path) -> None:
    settings = EmulatorSettings(directory=tmp_path / "state", stand_in="tiny")
    with EmulatorServer(settings) as server:
        project = server.emulator.store.write_sync(lambda connection: projects.ensure(connection, "lasting"))
        server.emulator.store.write_sync(lambda connection: agents.generate(connection, project, _AI))
    with EmulatorServer(settings) as server:
        email = agents.tuning_agent(project.number)
        assert server.emulator.store.read(lambda connection: agents.exists(connection, email))
        assert server.emulator.store.read(lambda connection: projects.resolve(connection, project.number)) == project


def test_regions_are_listed_in_pages(call: Call, bare: str) -> None:
    names: list[str] = []
    token = ""
    while True:
        answer = call(
            "GET",
            f"/compute/v1/projects/{bare}/regions?maxResults=10&pageToken={token}&fields=items/name,nextPageToken",
        )
        names += [region["name"] for region in answer["items"]]
        token = answer.get("nextPageToken", "")
        if not token:
            break
    assert len(names) == len(set(names)) > 10
    assert "us-central1" in names
    assert call("GET", f"/compute/v1/projects/{bare}/regions/us-central1")["status"] == "UP"
    call("GET", f"/compute/v1/projects/{bare}/regions/mars-north1", expect=404)
