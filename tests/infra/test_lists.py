"""A list of the settings changes: what stands for the members that stay is left alone, what it grants above all."""

from __future__ import annotations

import functools
import itertools
import json
import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.evaluation import Evaluation, Registered, evaluate
from infra.graph import to_json
from infra.settings.reader import NAMESPACE
from infra.stack_files import configuration, stacks
from runner.emulator.server import EmulatorServer
from tests.infra.embedded_stack import Stack
from tests.infra.engine_order import after, grants, state
from tests.infra.evaluation import FULL

ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)
PROJECT = "demo-project"
HOME = "us-central1"
LISTS: dict[str, list[str]] = {
    "runnerImpersonators": ["user:ada@example.com", "group:ml@example.com", "user:cy@example.com"],
    "notificationEmails": ["ada@example.com", "bob@example.com", "cy@example.com"],
    "extraDataBuckets": ["company-a", "company-b", "company-c"],
    "extraRegions": ["europe-west4", "us-west1", "us-east5"],
    "kmsKeys": [f"projects/k/locations/{region}/keyRings/r/cryptoKeys/k" for region in (HOME, "us-west1", "us-east5")],
}  # fmt: skip
CHANGES = {
    "first removed": lambda items: items[1:],
    "middle removed": lambda items: [items[0], items[2]],
    "last removed": lambda items: items[:2],
    "reordered": lambda items: [items[2], items[0], items[1]],
    "one twice": lambda items: [items[0], items[0], items[1], items[2]],
    "emptied": lambda items: [],
}


def made(state_: Any = None, **lists: list[str]) -> Evaluation:
    """Evaluate a stack with pipelines, in the regions that its keys need."""
    given_ = {key: value for key, value in FULL.items() if not key.endswith(("protect", "kmsKeys", "Jobs"))}
    regions = lists.pop("extraRegions", LISTS["extraRegions"] if "kmsKeys" in lists else [])
    config = {**given_, "gcp:project": PROJECT, "gcp:region": HOME}
    for name, items in {"extraRegions": regions, **lists}.items():
        config[f"{NAMESPACE}:{name}"] = json.dumps(items)
    return evaluate(config, state=state_)


def settled(evaluation: Evaluation) -> dict[str, Any]:
    found: dict[str, Any] = to_json(evaluation)["resources"]
    return found


@functools.cache
def before_a_change(name: str) -> Evaluation:
    """Evaluate a stack with all members of a list; once for all changes of it."""
    return made(**{name: LISTS[name]})


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", LISTS)
def test_after_a_change_of_a_list_there_is_what_is_wanted(name: str, change: str) -> None:
    before = LISTS[name]
    now = CHANGES[change](before)
    old = before_a_change(name)
    new = made(state(old.resources), **{name: now})
    assert after(old.resources, new) == grants(new)
    if sorted(set(now)) == sorted(before) and name != "extraRegions":
        assert set(settled(new)) == set(settled(old))


def older(evaluation: Evaluation, lists: dict[str, list[str]]) -> list[Registered]:
    """Return the resources under the names that an older program gave them: by position, and by a bucket's part."""
    parts = {item.inputs["name"]: item.name for item in evaluation.of_type("bucket:Bucket")}
    parts |= {name: f"extra-{name}" for name in lists.get("extraDataBuckets", [])}

    def name_of(item: Registered) -> str:
        kind, _, rest = item.name.partition("/")
        if kind == "impersonator":
            return f"impersonator-{list(dict.fromkeys(lists['runnerImpersonators'])).index(rest)}"
        if kind == "email":
            return f"email-{list(dict.fromkeys(lists['notificationEmails'])).index(rest)}"
        if not item.type.endswith(":BucketIAMMember"):
            return item.name
        bucket, _, role = rest.partition("/")
        label = parts.get(bucket, "state")
        if role == "storage-legacyBucketReader":
            return f"{kind}-{label}-metadata"
        if kind in {"tuning", "aiplatform"} or label == "state" or kind == "preview":
            return f"{kind}-{label}"
        return f"{kind}-{label}-state" if role.endswith("runner-state") else f"{kind}-{label}-{role}"

    return [replace(item, name=name_of(item)) for item in evaluation.resources]


@st.composite
def two_lists(draw: st.DrawFn) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return each list before and after, in any order, with members twice."""
    names = ["runnerImpersonators", "notificationEmails", "extraDataBuckets"]

    def some() -> dict[str, list[str]]:
        chosen = {name: draw(st.lists(st.sampled_from(LISTS[name]), max_size=4)) for name in names}
        return chosen

    return some(), some()


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(two_lists(), st.booleans())
def test_any_change_of_lists_also_together_with_a_newer_program(
    lists: tuple[dict[str, list[str]], dict[str, list[str]]], newer: bool
) -> None:
    before, now = lists
    old = made(extraRegions=[], **before)
    resources = older(old, before) if newer else old.resources
    new = made(state(resources), extraRegions=[], **now)
    assert after(resources, new) == grants(new)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(two_lists())
def test_any_change_of_lists_without_the_engine(
    emulator: EmulatorServer, lists: tuple[dict[str, list[str]], dict[str, list[str]]]
) -> None:
    """The real apply: what is granted in the end is what a new stack would grant."""
    stack = Stack(emulator.url, f"listed-{os.getpid()}-{next(_numbers)}", Path(tempfile.mkdtemp()) / "state.json")
    before, now = (
        {**part, "extraDataBuckets": [f"{stack.project}-{name}" for name in part["extraDataBuckets"]]} for part in lists
    )
    others = [f"{stack.project}-{name}" for name in LISTS["extraDataBuckets"]]
    for name in others:
        stack.request("POST", "/storage/v1/b?project=company", {"name": name, "location": HOME})
    for part in (before, now):
        stack.apply(**{key: json.dumps(value) for key, value in part.items()})
    policy = stack.request("POST", f"{stack.account}:getIamPolicy", {})
    channels = stack.request("GET", f"/monitoring/v3/projects/{stack.project}/notificationChannels")
    members = {member for item in policy.get("bindings", []) for member in item["members"]}
    assert members == set(now["runnerImpersonators"])
    found = [item["labels"]["email_address"] for item in channels.get("notificationChannels", [])]
    assert sorted(found) == sorted(set(now["notificationEmails"]))
    opened = {name for name in others if "@" in json.dumps(stack.request("GET", f"/storage/v1/b/{name}/iam"))}
    assert opened == set(now["extraDataBuckets"])


def test_every_list_of_the_settings_is_changed_here() -> None:
    schema = yaml.safe_load((ROOT / "Pulumi.yaml").read_text("utf-8"))["config"]
    assert {name for name, key in schema.items() if key["type"] == "array"} == set(LISTS)


@pytest.mark.parametrize("name", [*stacks(), "full"])
def test_no_resource_is_named_by_a_position(name: str) -> None:
    """Each list of the stack the other way round gives every resource the same name and the same inputs."""
    config = FULL if name == "full" else configuration(name)
    turned = {
        key: json.dumps(json.loads(value)[::-1])
        if value.startswith("[") and not key.endswith("extraRegions")
        else value
        for key, value in config.items()
    }
    once, again = settled(evaluate(config)), settled(evaluate(turned))
    assert set(once) == set(again)
    for resource, entry in once.items():
        if "notificationChannels" not in json.dumps(entry) and "monitoringNotificationChannels" not in json.dumps(
            entry
        ):
            assert entry == again[resource]
    numbered = [key for key in once if re.search(r"(^| )[a-z-]+-\d+$", key) and not re.search(r"[a-z]+\d+$", key)]
    assert numbered == []


def test_a_grant_that_two_parts_ask_for_is_made_once() -> None:
    """A bucket of jobs that is named again as another bucket, and the state in the contract bucket."""
    config = {**FULL, f"{NAMESPACE}:stateBucket": "demo-project-contract"}
    config[f"{NAMESPACE}:extraDataBuckets"] = json.dumps(["demo-project-datasets"])
    found = [grant for item in evaluate(config).resources if "role" in item.inputs for grant in [_key(item)]]
    assert len(found) == len(set(found))


def _key(item: Registered) -> str:
    return json.dumps([item.type, item.inputs], sort_keys=True)


def test_addresses_of_people_are_compared_as_google_does() -> None:
    evaluation = made(runnerImpersonators=["user:Ada@Example.com", "user:ada@example.com"])
    assert [item.name for item in evaluation.resources if item.name.startswith("impersonator/")] == [
        "impersonator/user:ada@example.com"
    ]
