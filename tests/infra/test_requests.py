"""What is sent without the engine is what the provider sends: bodies as recorded from provider 9.35."""

from __future__ import annotations

from typing import Any

import pytest

from infra.embedded.registry import TYPES, find_type
from infra.embedded.resource_type import differences
from infra.embedded.rest import EmbeddedError
from infra.plain_values import plain
from tests.infra.evaluation import FULL, LOCAL, MINIMAL, PRODUCTION, evaluate

RECORDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "gcp:storage/bucket:Bucket": (
        {
            "name": "demo-outputs",
            "location": "us-central1",
            "storageClass": "STANDARD",
            "uniformBucketLevelAccess": True,
            "publicAccessPrevention": "enforced",
            "versioning": {"enabled": True},
            "softDeletePolicy": {"retentionDurationSeconds": 604800.0},
            "lifecycleRules": [
                {"action": {"type": "Delete"}, "condition": {"age": 30.0, "matchesPrefixes": ["tmp/"]}},
            ],
            "labels": {"env": "local", "goog-pulumi-provisioned": "true"},
        },
        {
            "iamConfiguration": {"publicAccessPrevention": "enforced", "uniformBucketLevelAccess": {"enabled": True}},
            "labels": {"env": "local", "goog-pulumi-provisioned": "true"},
            "lifecycle": {
                "rule": [{"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["tmp/"]}}]
            },
            "location": "us-central1",
            "name": "demo-outputs",
            "softDeletePolicy": {"retentionDurationSeconds": "604800"},
            "storageClass": "STANDARD",
            "versioning": {"enabled": True},
        },
    ),
    "gcp:vertex/aiEndpoint:AiEndpoint": (
        {
            "displayName": "tuned",
            "dedicatedEndpointEnabled": True,
            "labels": {"goog-pulumi-provisioned": "true"},
            "name": "1234567890",
            "location": "us-central1",
        },
        {"dedicatedEndpointEnabled": True, "displayName": "tuned", "labels": {"goog-pulumi-provisioned": "true"}},
    ),
    "gcp:monitoring/notificationChannel:NotificationChannel": (
        {"type": "email", "labels": {"email_address": "a@example.com"}, "project": "demo-project"},
        {"enabled": True, "labels": {"email_address": "a@example.com"}, "type": "email"},
    ),
    "gcp:billing/budget:Budget": (
        {
            "billingAccount": "000000-000000-000000",
            "amount": {"specifiedAmount": {"currencyCode": "USD", "units": "100"}},
            "budgetFilter": {"creditTypesTreatment": "INCLUDE_ALL_CREDITS", "projects": ["projects/123456789012"]},
            "thresholdRules": [{"spendBasis": "CURRENT_SPEND", "thresholdPercent": 0.5}],
        },
        {
            "amount": {"specifiedAmount": {"currencyCode": "USD", "units": "100"}},
            "budgetFilter": {"creditTypesTreatment": "INCLUDE_ALL_CREDITS", "projects": ["projects/123456789012"]},
            "thresholdRules": [{"spendBasis": "CURRENT_SPEND", "thresholdPercent": 0.5}],
        },
    ),
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": (
        {
            "workloadIdentityPoolId": "github",
            "workloadIdentityPoolProviderId": "github",
            "attributeCondition": "assertion.repository=='a/b'",
            "attributeMapping": {"attribute.repository": "assertion.repository", "google.subject": "assertion.sub"},
            "oidc": {"issuerUri": "https://token.actions.githubusercontent.com"},
        },
        {
            "attributeCondition": "assertion.repository=='a/b'",
            "attributeMapping": {"attribute.repository": "assertion.repository", "google.subject": "assertion.sub"},
            "oidc": {"issuerUri": "https://token.actions.githubusercontent.com"},
        },
    ),
}


@pytest.mark.parametrize("token", RECORDED)
def test_bodies_are_the_providers(token: str) -> None:
    inputs, body = RECORDED[token]
    assert find_type(token).body(plain(inputs)) == body


def test_every_type_of_the_program_is_known() -> None:
    joined = {"open-model-tuning:perimeterDryRun": "false"}
    assert used(LOCAL, LOCAL | joined) == set(TYPES)
    assert used(MINIMAL, FULL, PRODUCTION, FULL | joined) == set(TYPES)


def used(*configurations: dict[str, str]) -> set[str]:
    return {
        resource.type
        for config in configurations
        for resource in evaluate(config).resources
        if resource.custom and not resource.type.startswith("pulumi:providers")
    }


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(EmbeddedError, match="without the Pulumi engine"):
        find_type("gcp:compute/instance:Instance")


@pytest.mark.parametrize(
    ("wanted", "live", "last", "changes"),
    [
        ({"a": 1}, {"a": "1", "b": 2}, None, {}),
        ({"a": "1"}, {"a": 1}, None, {}),
        ({"a": True}, {}, None, {"a": True}),
        ({"a": False}, {}, None, {}),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, None, {}),
        ({"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": None}}),
        ({"a": [1]}, {"a": [1, 2]}, None, {"a": [1]}),
        ({"a": []}, {}, None, {}),
        ({}, {"a": 1}, {"a": 1}, {"a": None}),
        ({}, {"a": 1}, None, {}),
        ({}, {}, {"a": 1}, {}),
    ],
)
def test_differences(
    wanted: dict[str, Any], live: dict[str, Any], last: dict[str, Any] | None, changes: dict[str, Any]
) -> None:
    assert differences(wanted, live, last) == changes
