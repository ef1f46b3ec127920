"""What is there already is made again without harm, found by its title, or named with the command that takes it in."""

from __future__ import annotations

import json
import shlex

import pytest

from infra.addresses import emulator_endpoints
from infra.already_there import advice, import_command
from infra.consistency import TAKEN
from infra.embedded.registry import TYPES, find_type, named
from infra.embedded.resource_type import Context
from infra.embedded.rest import RequestError, Rest
from tests.infra.embedded_stack import GUARDRAILS, Stack
from tests.infra.stack_sweep import perimeter

FOUND_BY_TITLE = {"NotificationChannel", "AlertPolicy", "Budget"}
"""The service chooses their ids, and makes a second one: `runner infra up` looks for the first."""
AGAIN = {
    *("Service", "ServiceIdentity", "WorkloadIdentityServiceAgent", "BucketObject", "IAMAuditConfig"),
    *("BucketIAMMember", "IAMMember", "CryptoKeyIAMMember", "ServiceIamMember"),
}
"""Made again without harm."""
NAMED = {
    *("Bucket", "Account", "WorkloadIdentityPool", "WorkloadIdentityPoolProvider", "IAMCustomRole", "Function", "Job"),
    *("AiEndpoint", "SQuotaPreference", "ServicePerimeterResource", "ServicePerimeterDryRunResource"),
}


def kind(token: str) -> str:
    return token.rsplit(":", 1)[-1]


def test_every_kind_is_of_one_sort() -> None:
    assert {kind(token) for token in TYPES} == FOUND_BY_TITLE | AGAIN | NAMED


def test_what_is_refused_because_it_is_there_is_named_with_its_command(stack: Stack) -> None:
    stack.apply(**GUARDRAILS, perimeter=perimeter(stack.url))
    records = json.loads(stack.state.read_text())["stacks"][stack.project]["resources"]
    rest = Rest(emulator_endpoints(stack.url))
    context = Context(rest, stack.project, "us-central1", {})
    seen = set()
    for record in records:
        if (name := kind(record["type"])) in seen or name in FOUND_BY_TITLE:
            continue
        seen.add(name)
        if name in AGAIN:
            find_type(record["type"]).make(context, record["inputs"])
            assert named(record["type"], record["inputs"]) == ""
            continue
        with pytest.raises(RequestError) as caught:
            find_type(record["type"]).make(context, record["inputs"])
        assert TAKEN.search(f"googleapi: Error {caught.value.http}: {caught.value.said}"), caught.value
        urn = f"urn:pulumi:dev::open-model-tuning::a:b:Part${record['type']}::{record['name']}"
        told = advice(urn, record["inputs"], "parts")
        assert f"{record['id']} is there already" in told
        words = shlex.split(told.partition("pulumi alone: ")[2])
        assert words[:5] == ["pulumi", "import", record["type"], record["name"], record["id"]]
    rest.close()
    assert seen >= NAMED - {"ServicePerimeterResource"}


def test_the_command_names_parent_and_provider() -> None:
    urn = "urn:pulumi:dev::p::a:b:Platform$a:b:Buckets$gcp:storage/bucket:Bucket::my data"
    assert shlex.split(import_command(urn, "bucket", "buckets"))[3:] == [
        "my data",
        "bucket",
        *("--stack", "dev"),
        *("--parent", "buckets=urn:pulumi:dev::p::a:b:Platform$a:b:Buckets::buckets"),
        *("--provider", "google=urn:pulumi:dev::p::pulumi:providers:gcp::google"),
        *("--protect=false", "--generate-code=false", "--yes"),
    ]
