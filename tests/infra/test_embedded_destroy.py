"""What goes and what stays when a stack is destroyed without the engine, and how several share a state file."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.errors import ConfigurationError
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
