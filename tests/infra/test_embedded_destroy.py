"""What goes and what stays when a stack is destroyed without the engine, and how several share a state file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from infra.embedded import destroy
from infra.embedded.obstacles import ObstacleError
from runner.errors import ConfigurationError
from tests.gcp.corrupting import CorruptingProxy, Exchange
from tests.infra.embedded_stack import GUARDRAILS, Stack


def test_destroying_leaves_nothing_but_what_the_project_needs(stack: Stack) -> None:
    stack.apply(**GUARDRAILS)
    stack.request("POST", f"/upload/storage/v1/b/{stack.project}-outputs/o?uploadType=media&name=model/weights", {})
    result = stack.destroy()
    assert {name for name in result.deleted if name.startswith("Bucket ")} == {
        "Bucket contract",
        "Bucket datasets",
        "Bucket images",
        "Bucket outputs",
    }
    for kind in ("datasets", "images", "outputs", "contract"):
        assert stack.status(f"/storage/v1/b/{stack.project}-{kind}") == 404
    assert stack.status(stack.account) == 404
    assert stack.status(stack.endpoint) == 404
    channels = stack.request("GET", f"/monitoring/v3/projects/{stack.project}/notificationChannels")
    assert channels.get("notificationChannels", []) == []
    policy = stack.request("POST", f"/v1/projects/{stack.project}:getIamPolicy", {})
    roles = {binding["role"] for binding in policy["bindings"]}
    assert {"roles/aiplatform.serviceAgent", "roles/aiplatform.tuningServiceAgent"} <= roles
    assert not [role for role in roles if role.endswith("/tuningRunner")]
    assert not stack.state.exists()
    assert stack.apply().updated == ()


def test_protected_buckets_survive_and_are_named(stack: Stack) -> None:
    stack.apply(protect="true", forceDestroy="false")
    left = stack.destroy()
    buckets = {f"Bucket {kind}" for kind in ("contract", "datasets", "images", "outputs")}
    # What they need stays with them, and of the stack: here the APIs, which nothing ever switches off.
    assert {name for name in left.protected if not name.startswith("Service ")} == buckets
    assert not buckets & set(left.deleted)
    assert stack.status(stack.account) == 404
    with pytest.raises(ConfigurationError, match=r"would delete .* which is protected"):
        stack.apply(protect="true", forceDestroy="false", namePrefix=f"{stack.project}-b")
    again = stack.apply(protect="false")
    # Nothing that the refused program asked for besides was made.
    assert "Account runner" in again.created
    assert stack.status(stack.account) == 200
    assert buckets <= {*again.unchanged, *again.updated}
    gone = stack.destroy()
    assert gone.protected == ()
    assert buckets <= set(gone.deleted)
    assert not stack.state.exists()


def test_a_deployed_model_stops_it_before_anything_is_deleted(stack: Stack) -> None:
    stack.apply()

    def deployed(exchange: Exchange) -> bool:
        if exchange.method != "GET" or not exchange.path.endswith(stack.endpoint):
            return False
        exchange.content = json.dumps({**json.loads(exchange.content), "deployedModels": [{"id": "7"}]}).encode()
        return True

    with (
        CorruptingProxy(upstream=stack.url, answer=deployed) as proxy,
        pytest.raises(ObstacleError, match=r"nothing was deleted.* has 1 deployed models") as caught,
    ):
        destroy(stack.state, project=stack.project, url=proxy.url)
    assert "`runner endpoints undeploy" in str(caught.value.hint)
    assert {seen.split()[0] for seen in proxy.seen} == {"GET"}


def test_one_state_file_holds_several_projects(stack: Stack) -> None:
    other = replace(stack, project=f"{stack.project}-b")
    stack.apply()
    made = other.apply()
    assert made.deleted == ()
    assert stack.apply().unchanged
    other.destroy()
    assert stack.status(f"/storage/v1/b/{other.project}-datasets") == 404
    assert stack.status(f"/storage/v1/b/{stack.project}-datasets") == 200
    assert stack.destroy().deleted
    assert not stack.state.exists()
