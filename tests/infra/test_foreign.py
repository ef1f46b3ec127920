"""What has a name of the stack and was made by somebody else is refused before anything is changed; its own is not."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any

import pytest

from infra.addresses import emulator_endpoints
from infra.embedded import apply
from infra.embedded.apply import configuration
from infra.embedded.registry import find_type
from infra.embedded.resource_type import Context, TakenError
from infra.embedded.rest import Rest
from infra.evaluation import Registered, evaluate
from tests.infra.cutting import Cutting
from tests.infra.embedded_stack import GUARDRAILS, Stack
from tests.infra.stack_sweep import inventory, perimeter
from tests.infra.test_already_there import NAMED, kind

EVERYTHING = {**GUARDRAILS, "gitlabProject": "group/project", "gitlabProjectId": "9"}
FIRST = ("Bucket", "WorkloadIdentityPool", "BucketObject", "Account")
"""What others are made in or of."""
ONE_FOR_ALL = {"ServicePerimeterResource", "ServicePerimeterDryRunResource"}
"""An entry says the same whoever wrote it."""


def _rank(item: Registered) -> tuple[bool, str, str]:
    return kind(item.type) not in FIRST, item.type, item.name


def foreign(context: Context, stack: Stack) -> list[str]:
    """Make everything that has a name of the stack as somebody else would; return it as `Type name`."""
    config = configuration(stack.url, project=stack.project, location="us-central1", config=EVERYTHING)
    wanted = [item for item in evaluate(config).resources if kind(item.type) in {*NAMED, "BucketObject"} - ONE_FOR_ALL]
    audits = evaluate(config).of_type(":IAMAuditConfig")
    for service in ("iam", "aiplatform", "monitoring", "cloudscheduler", "cloudfunctions", "cloudquotas", "run"):
        enable = f"projects/{stack.project}/services/{service}.googleapis.com:enable"
        context.rest.call("serviceusage", "POST", enable, {})
    made = []
    for item in sorted(wanted, key=_rank):
        inputs: dict[str, Any] = {**item.inputs, "labels": {"team": "others"}}
        if kind(item.type) == "BucketObject":
            context.rest.upload(inputs["bucket"], {"name": inputs["name"]}, b"{}")
            made += ["BucketObject environment"] if "content" in inputs else []  # an archive is named by its content
            continue
        title = find_type(item.type).title
        if title:
            inputs[title] = "Of somebody else"
        find_type(item.type).make(context, inputs)
        made.append(f"{kind(item.type)} {item.name}")
    for item in audits:
        find_type(item.type).make(context, {**item.inputs, "auditLogConfigs": [{"logType": "ADMIN_READ"}]})
        made.append(f"{kind(item.type)} {item.name}")
    return made


def test_what_somebody_else_made_is_refused_before_anything_is_changed(stack: Stack) -> None:
    with contextlib.closing(Rest(emulator_endpoints(stack.url))) as rest:
        made = foreign(Context(rest, stack.project, "us-central1", {}), stack)
    assert {item.split()[0] for item in made} >= NAMED - ONE_FOR_ALL
    before = inventory(stack.url, stack.project)
    with Cutting(stack.url) as watched, pytest.raises(TakenError) as caught:
        apply(watched.url, project=stack.project, config=EVERYTHING, state=stack.state)
    assert watched.changes == []
    error = caught.value
    assert sorted(problem.partition(":")[0] for problem in error.problems) == sorted(made)
    assert all("exists, and " in problem for problem in error.problems)
    for setting in ("buckets", "namePrefix", "identitySuffix", "runnerAccountId", "concurrentTuningJobs"):
        assert f"open-model-tuning:{setting}" in str(error.hint)
    assert (error.code, error.to_json()["problems"]) == ("taken", error.problems)
    assert inventory(stack.url, stack.project) == before
    assert not stack.state.exists()


def test_what_the_stack_made_is_recognised_after_its_state_is_lost(stack: Stack) -> None:
    config = {**EVERYTHING, "perimeter": perimeter(stack.url)}
    first = stack.apply(**config)
    before = inventory(stack.url, stack.project)
    # What is destroyed keeps its name for a while.
    for lose in (stack.state.unlink, stack.destroy):
        lose()
        again = stack.apply(**config)
        assert (sorted(again.created), again.updated, again.deleted) == (sorted(first.created), (), ())
        assert inventory(stack.url, stack.project) == before


def test_a_second_stack_of_a_project_takes_nothing_from_the_first(stack: Stack) -> None:
    second = replace(stack, name="second")  # in the same file
    stack.apply(**EVERYTHING)
    before = inventory(stack.url, stack.project)
    with pytest.raises(TakenError, match=r"Bucket contract: .* exists, and this stack did not create it"):
        second.apply(**EVERYTHING)  # the same names altogether
    config = {**EVERYTHING, "namePrefix": f"{stack.project}-b", "concurrentTuningJobs": "0"}
    with pytest.raises(TakenError) as caught:
        second.apply(**config)
    kinds = {problem.split()[0] for problem in caught.value.problems}
    assert kinds == {"Account", "IAMCustomRole", "WorkloadIdentityPool", "WorkloadIdentityPoolProvider"}
    assert inventory(stack.url, stack.project) == before
    made = second.apply(**config, identitySuffix="b")
    assert made.updated == ()
    gone = second.destroy()
    assert {item.split()[0] for item in gone.deleted} >= kinds | {"Bucket", "AlertPolicy", "NotificationChannel"}
    left = inventory(stack.url, stack.project)
    assert {key: left[key] for key in before if key != "iam"} == {key: before[key] for key in before if key != "iam"}


def test_an_alert_is_recognised_behind_any_number_of_others(stack: Stack) -> None:
    stack.apply(notificationEmails='["ml@example.com"]')
    alerts = f"/monitoring/v3/projects/{stack.project}/alertPolicies"
    one = next(item for item in stack.request("GET", alerts)["alertPolicies"] if "alertStrategy" not in item)
    other = {key: one[key] for key in ("combiner", "conditions", "documentation")}
    for number in range(100):
        stack.request("POST", alerts, {**other, "displayName": f"Other {number}"})
    stack.state.unlink()
    stack.apply(notificationEmails='["ml@example.com"]')
    titles = [item["displayName"] for item in stack.request("GET", f"{alerts}?pageSize=1000")["alertPolicies"]]
    assert len(titles) == len(set(titles))


def test_what_a_stack_of_another_prefix_left_deleted_is_brought_back(stack: Stack) -> None:
    other, config = replace(stack, name="other"), {"idleGuard": "false"}
    other.apply(**config, namePrefix=f"{stack.project}-b")
    other.destroy()
    assert "IAMCustomRole runner-role" in stack.apply(**config).updated
    stack.destroy()
    role = f"/v1/projects/{stack.project}/roles/tuningRunner"
    stack.request("POST", f"{role}:undelete", {})
    stack.request("PATCH", f"{role}?updateMask=title", {"title": "Of somebody else"})
    stack.request("DELETE", role)
    with pytest.raises(TakenError, match=r"tuningRunner was deleted, and the service keeps its ID for a while"):
        stack.apply(**config)
