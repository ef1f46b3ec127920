"""What goes and what stays when a stack is destroyed without the engine, and how several share a state file."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import httpx
import pytest

from infra.embedded import destroy
from infra.embedded.obstacles import ObstacleError
from runner.errors import ConfigurationError
from tests.gcp.corrupting import CorruptingProxy, Exchange
from tests.infra.embedded_stack import GUARDRAILS, Stack
from tests.loopback import NO_TLS


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
        pytest.raises(ObstacleError, match=r"nothing was deleted.* has 1 deployed model") as caught,
    ):
        destroy(stack.state, project=stack.project, url=proxy.url)
    assert "`runner endpoints undeploy" in str(caught.value.hint)
    assert {seen.split()[0] for seen in proxy.seen} == {"GET"}


def test_a_job_that_has_not_ended_stops_it_before_anything_is_deleted(stack: Stack) -> None:
    stack.apply()
    lines = "".join(f'{{"prompt": "say {row}", "completion": "{row}"}}\n' for row in range(16))
    upload = f"{stack.url}/upload/storage/v1/b/{stack.project}-datasets/o?uploadType=media&name=train.jsonl"
    httpx.post(upload, content=lines.encode(), trust_env=False, verify=NO_TLS, timeout=120).raise_for_status()
    jobs = f"/v1beta1/projects/{stack.project}/locations/us-central1/tuningJobs"
    spec = {"trainingDatasetUri": f"gs://{stack.project}-datasets/train.jsonl"}
    outputs = f"gs://{stack.project}-outputs/run"
    body = {"baseModel": "meta/llama3_1@llama-3.1-8b", "supervisedTuningSpec": spec, "outputUri": outputs}
    (fault,) = stack.request("POST", "/_emulator/faults", {"faults": ["job:quota-wait=100000"]})["faults"]
    try:
        job = stack.request("POST", jobs, body)["name"]
        with pytest.raises(ObstacleError, match=r"nothing was deleted: .*has not ended and uses") as caught:
            stack.destroy()
        assert {problem.partition(":")[0] for problem in caught.value.problems} == {"Bucket datasets", "Bucket outputs"}
        assert f"`runner jobs cancel {job.rsplit('/', 1)[-1]}`" in str(caught.value.hint)
        assert stack.status(stack.account) == 200
        stack.request("POST", f"/v1beta1/{job}:cancel", {})
        while stack.request("GET", f"/v1beta1/{job}")["state"] != "JOB_STATE_CANCELLED":
            time.sleep(0.05)
    finally:
        stack.request("DELETE", f"/_emulator/faults/{fault['id']}")
    assert "Bucket outputs" in stack.destroy().deleted


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
