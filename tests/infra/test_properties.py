"""What holds of the graph whatever the settings are."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.evaluation import NUMBER, Evaluation, evaluate
from infra.graph import to_json
from infra.settings.reader import NAMESPACE
from infra.settings.stack import Settings
from runner.catalog import load_catalog

REGIONS = [place.id for place in load_catalog().locations if place.id != "global"]
AGENTS = {
    f"serviceAccount:service-{NUMBER}@gcp-sa-aiplatform.iam.gserviceaccount.com",
    f"serviceAccount:service-{NUMBER}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com",
}
FORBIDDEN_TYPES = ("Binding", "IAMPolicy", "IamPolicy", "account/key:Key", "ACL", "AccessControl")
NAMES = st.from_regex(r"[a-z][a-z0-9-]{3,18}[a-z0-9]", fullmatch=True).filter(lambda name: "goog" not in name)
RUNS = st.from_regex(r"[a-z0-9-]{1,12}(/[a-z0-9-]{1,12}){0,2}", fullmatch=True)


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, str]:
    """Return a configuration without mistakes."""
    regions = draw(st.lists(st.sampled_from(REGIONS), min_size=1, max_size=3, unique=True))
    environment = draw(st.sampled_from(["", "dev", "prod"]))
    protect = draw(st.booleans())
    own: dict[str, Any] = {
        "environment": environment,
        "extraRegions": regions[1:],
        "protect": protect,
        "forceDestroy": draw(st.booleans()) and not protect and environment != "prod",
        "noncurrentVersionDays": draw(st.integers(0, 400)),
        "softDeleteDays": draw(st.sampled_from([7, 30, 90] if environment == "prod" else [0, 7, 30, 90])),
        "scratchDays": draw(st.integers(1, 400)),
        "serviceAgents": draw(st.sampled_from(["generate", "assume"])),
        "endpoint": draw(st.booleans()),
        "access": draw(st.sampled_from(["", "dedicatedEndpoint", "privateEndpoint"])),
        "idleGuard": draw(st.booleans()),
        "dataAccessAudit": draw(st.booleans()),
        "extraDataBuckets": [f"other-{index}" for index in range(draw(st.integers(0, 2)))],
        "kmsKeys": [
            f"projects/keys/locations/{region}/keyRings/r/cryptoKeys/k" for region in regions if draw(st.booleans())
        ],
        "labels": draw(st.dictionaries(st.sampled_from(["team", "cost"]), st.sampled_from(["a", "b"]))),
        "runnerImpersonators": draw(st.sampled_from([[], ["group:ml@example.com"]])),
        "notificationEmails": draw(st.sampled_from([[], ["ml@example.com"]])),
    }
    access = own.pop("access")
    if access and own["endpoint"]:
        own[access] = True
    kinds = ["datasets", "images", "outputs"]
    places = [*kinds, *(f"{region}/{kind}" for region in regions[1:] for kind in kinds)]
    own["buckets"] = {
        place: {"mode": draw(st.sampled_from(["create", "import", "attach"])), "name": f"given-{index}"}
        for index, place in enumerate(places)
        if draw(st.integers(0, 3)) == 0
    }
    if draw(st.booleans()):
        own |= {"githubRepository": "owner/repository", "githubRepositoryId": "12", "githubOwnerId": "34"}
    if draw(st.booleans()):
        own |= {"gitlabProject": "group/project", "gitlabProjectId": "56"}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in own.items()}
    return {
        "gcp:project": draw(NAMES),
        "gcp:region": regions[0],
        **{f"{NAMESPACE}:{key}": value for key, value in texts.items()},
    }


def may_delete(rule: dict[str, Any], name: str, *, live: bool) -> bool:
    """Tell whether a rule can ever delete an object, by Cloud Storage's way of matching: every condition holds."""
    condition = rule["condition"]
    if rule["action"]["type"] != "Delete":
        return False
    if condition.get("withState") == "ARCHIVED" and live:
        return False
    if condition.get("withState") == "LIVE" and not live:
        return False
    if {"daysSinceNoncurrentTime", "numNewerVersions", "noncurrentTimeBefore"} & set(condition) and live:
        return False
    prefixes, suffixes = condition.get("matchesPrefixes"), condition.get("matchesSuffixes")
    if prefixes is not None and not name.startswith(tuple(prefixes)):
        return False
    return suffixes is None or name.endswith(tuple(suffixes))


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(configurations(), RUNS)
def test_invariants(config: dict[str, str], run: str) -> None:
    stack = Settings.load(config)
    evaluation = evaluate(config)
    check_agents(stack, evaluation)
    check_grants(evaluation)
    check_buckets(stack, evaluation, run)
    check_shape(stack, evaluation)


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(configurations())
def test_the_same_settings_give_the_same_graph(config: dict[str, str]) -> None:
    assert to_json(evaluate(config)) == to_json(evaluate(dict(reversed(config.items()))))


def check_agents(stack: Settings, evaluation: Evaluation) -> None:
    granted = {
        (item.inputs["bucket"], item.inputs["member"])
        for item in evaluation.of_type(":BucketIAMMember")
        if item.inputs["role"] == "roles/storage.objectUser"
    }
    of_jobs = {spec.name for stamp in stack.stamps for spec in stamp.buckets if spec.kind != "contract"}
    for bucket in of_jobs | set(stack.extra_data_buckets):
        for agent in AGENTS:
            assert (bucket, agent) in granted
    projects = {(r.inputs["role"], r.inputs["member"]) for r in evaluation.of_type("projects/iAMMember:IAMMember")}
    assert {member for role, member in projects if role.endswith("erviceAgent")} == AGENTS

    # Nothing is granted to an agent before it was made, and each grant waits until Google knows it.
    made = {
        item.urn for kind in (":ServiceIdentity", ":WorkloadIdentityServiceAgent") for item in evaluation.of_type(kind)
    }
    for item in evaluation.resources:
        if item.inputs.get("member") in AGENTS:
            assert made <= set(item.dependencies), item.name
            assert item.hooks == ("google-eventual-consistency",)


def check_grants(evaluation: Evaluation) -> None:
    for item in evaluation.resources:
        assert not item.type.endswith(FORBIDDEN_TYPES), item.type
        if "role" in item.inputs:
            assert item.inputs["role"] not in {"roles/owner", "roles/editor", "roles/viewer"}
            assert not str(item.inputs["member"]).startswith("all")
            assert "*" not in str(item.inputs["member"])


def check_buckets(stack: Settings, evaluation: Evaluation, run: str) -> None:
    checkpoint = f"{run}/postprocess/node-0/checkpoints/final/adapter_model.safetensors"
    buckets = evaluation.of_type("bucket:Bucket")
    made = [spec for stamp in stack.stamps for spec in stamp.buckets if spec.mode != "attach"]
    assert {bucket.inputs["name"] for bucket in buckets} == {spec.name for spec in made}
    for bucket in buckets:
        assert bucket.inputs["uniformBucketLevelAccess"] is True
        assert bucket.inputs["publicAccessPrevention"] == "enforced"
        assert "retentionDurationSeconds" in bucket.inputs["softDeletePolicy"]
        assert len(bucket.inputs["name"]) <= 63
        kind = bucket.inputs["labels"]["content"]
        for rule in bucket.inputs["lifecycleRules"]:
            if kind == "outputs":
                # Wherever in the bucket a job writes, under tmp/ too.
                assert not may_delete(rule, checkpoint, live=True)
                assert not may_delete(rule, f"tmp/{checkpoint}", live=True)
            if rule["action"]["type"] == "Delete":
                condition = rule["condition"]
                assert condition.get("age", 0) > 0 or condition.get("daysSinceNoncurrentTime", 0) > 0
        if stack.environment == "prod":
            assert bucket.protect
            assert bucket.retain
            assert bucket.inputs["forceDestroy"] is False
        if bucket.import_id:
            assert bucket.protect
            assert bucket.inputs["forceDestroy"] is False


def check_shape(stack: Settings, evaluation: Evaluation) -> None:
    regions = {stamp.region for stamp in stack.stamps}
    for item in evaluation.resources:
        if item.custom and not item.type.startswith("pulumi:"):
            assert "pulumi:providers:gcp::google::" in item.provider
            assert "open-model-tuning:infra:" in item.parent
        location = item.inputs.get("location")
        assert location is None or location in regions
    for endpoint in evaluation.of_type(":AiEndpoint"):
        # The service refuses both; the traffic is the runner's, and the number outlives everything.
        assert not {"dedicatedEndpointEnabled", "privateServiceConnectConfig"} <= set(endpoint.inputs)
        assert endpoint.ignore_changes == ("trafficSplit",)
        assert re.fullmatch(r"[1-9][0-9]{9}", endpoint.inputs["name"])
    assert len(evaluation.of_type(":AiEndpoint")) == (len(regions) if stack.endpoint else 0)
    guard = [item for item in evaluation.resources if "cloudfunctions" in item.type or "cloudscheduler" in item.type]
    assert bool(guard) is stack.idle_guard
    pools = evaluation.of_type(":WorkloadIdentityPool")
    assert len(pools) == len([one for one in (stack.github, stack.gitlab) if one])
    keys = [(item.type, item.name) for item in evaluation.resources]
    assert len(keys) == len(set(keys))
