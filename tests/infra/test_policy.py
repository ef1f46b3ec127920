"""Rules: silent on every committed stack, and each proven by a change of the graph that makes it fire."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.evaluation import evaluate
from infra.policy import RULES, PolicyResource, of_evaluation, violations
from infra.policy.__main__ import _policy, _resource
from infra.stack_files import configuration, stacks
from tests.infra.evaluation import FULL, LOCAL, MINIMAL, NUMBER, PRODUCTION

ROOT = Path(__file__).resolve().parents[2]
Graph = list[PolicyResource]


@pytest.fixture(scope="module")
def production() -> Graph:
    return of_evaluation(evaluate(PRODUCTION))


def changed(kind: str, **props: Any) -> Callable[[Graph], Graph]:
    """Return a mutation: the first resource of a kind, or the one of a name, gets other properties."""

    def mutate(graph: Graph) -> Graph:
        index = next(i for i, item in enumerate(graph) if item.type.endswith(kind) or item.name == kind)
        item = graph[index]
        return [*graph[:index], replace(item, props={**item.props, **props}), *graph[index + 1 :]]

    return mutate


def added(token: str, **props: Any) -> Callable[[Graph], Graph]:
    return lambda graph: [*graph, PolicyResource(type=token, name="added", props=props)]


def without(kind: str) -> Callable[[Graph], Graph]:
    return lambda graph: [item for item in graph if not item.type.endswith(kind) and item.name != kind]


def unprotected(graph: Graph) -> Graph:
    return [replace(item, protect=False) for item in graph]


DELETE_ALL = [{"action": {"type": "Delete"}, "condition": {"age": 30}}]
DELETE_SCRATCH = [{"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefixes": ["tmp/"]}}]
DELETE_VERSIONS_AT_ONCE = [
    {"action": {"type": "Delete"}, "condition": {"daysSinceNoncurrentTime": 0, "withState": "ARCHIVED"}}
]
POOL = f"principalSet://iam.googleapis.com/projects/{NUMBER}/locations/global/workloadIdentityPools/github"
AGENT = f"serviceAccount:service-{NUMBER}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com"
MUTATIONS: list[tuple[str, Callable[[Graph], Graph]]] = [
    ("bucket-public-access-prevention", changed("bucket:Bucket", publicAccessPrevention="inherited")),
    ("bucket-uniform-access", changed("bucket:Bucket", uniformBucketLevelAccess=False)),
    ("bucket-soft-delete-explicit", changed("bucket:Bucket", softDeletePolicy=None)),
    ("bucket-no-destructive-lifecycle", changed("outputs", lifecycleRules=DELETE_ALL)),
    ("bucket-no-destructive-lifecycle", changed("outputs", lifecycleRules=DELETE_SCRATCH)),
    ("bucket-no-destructive-lifecycle", changed("outputs", lifecycleRules=DELETE_VERSIONS_AT_ONCE)),
    ("location-allowed", changed("bucket:Bucket", location="us-east1")),
    ("location-allowed", changed(":AiEndpoint", location="europe-west1")),
    ("no-authoritative-iam", added("gcp:storage/bucketIAMBinding:BucketIAMBinding", role="roles/storage.objectUser")),
    ("no-authoritative-iam", added("gcp:projects/iAMPolicy:IAMPolicy")),
    ("no-authoritative-iam", added("gcp:storage/bucketACL:BucketACL")),
    ("no-primitive-roles", added("gcp:projects/iAMMember:IAMMember", role="roles/editor", member="user:a@b.c")),
    ("no-public-members", changed(":BucketIAMMember", member="allUsers")),
    ("no-service-account-keys", added("gcp:serviceaccount/key:Key")),
    (
        "no-project-wide-storage",
        added("gcp:projects/iAMMember:IAMMember", role="roles/storage.objectUser", member=AGENT),
    ),
    ("workload-identity-condition", changed(":WorkloadIdentityPoolProvider", attributeCondition=None)),
    (
        "workload-identity-condition",
        changed(":WorkloadIdentityPoolProvider", attributeCondition="assertion.repository == 'owner/repository'"),
    ),
    ("workload-identity-member", changed("serviceaccount/iAMMember:IAMMember", member=f"{POOL}/*")),
    (
        "workload-identity-member",
        changed("github-deploy-infra-up-push", member=f"{POOL}/attribute.branch/1234:refs/heads/main"),
    ),
    (
        "workload-identity-member",
        changed(
            "github-deploy-infra-up-push",
            member=f"{POOL}/attribute.use/1234:o/r/.github/workflows/w.yml@refs/heads/main:push:",
        ),
    ),
    ("labels-required", changed("contract", labels={})),
    ("production-protected", unprotected),
    ("production-protected", changed("bucket:Bucket", forceDestroy=True)),
    ("agents-granted-everywhere", without("tuning/demo-project-outputs/storage-objectUser")),
    (
        "agents-granted-everywhere",
        changed("aiplatform/demo-project-images/storage-objectUser", role="roles/storage.objectViewer"),
    ),
    ("budget-present", without(":Budget")),
    (
        "endpoint-inside-perimeter",
        added("gcp:accesscontextmanager/servicePerimeterResource:ServicePerimeterResource"),
    ),
]


@pytest.mark.parametrize("stack", stacks())
def test_committed_stacks_break_no_rule(stack: str) -> None:
    assert violations(of_evaluation(evaluate(configuration(stack)))) == []


@pytest.mark.parametrize("config", [MINIMAL, FULL, LOCAL, PRODUCTION])
def test_no_configuration_here_breaks_a_rule(config: dict[str, str]) -> None:
    assert violations(of_evaluation(evaluate(config))) == []


@pytest.mark.parametrize(("rule", "mutate"), MUTATIONS, ids=[f"{i}-{name}" for i, (name, _) in enumerate(MUTATIONS)])
def test_a_change_for_the_worse_is_found_by_its_rule(
    rule: str, mutate: Callable[[Graph], Graph], production: Graph
) -> None:
    found = violations(mutate(production))
    assert rule in {violation.rule for violation in found}
    assert all(violation.message and violation.resource for violation in found)
    levels = {item.name: item.level for item in RULES}
    assert all(violation.level == levels[violation.rule] for violation in found)


def test_every_rule_is_proven() -> None:
    assert {rule.name for rule in RULES} == {name for name, _ in MUTATIONS}


def test_a_stack_that_leaves_the_agent_out_breaks_a_rule() -> None:
    found = violations(of_evaluation(evaluate(MINIMAL | {"open-model-tuning:serviceAgents": "skip"})))
    assert {violation.rule for violation in found} == {"agents-granted-everywhere"}
    assert len(found) == 3


class EngineArguments:
    """What the engine's policy host hands to a resource policy."""

    def __init__(self, resource: PolicyResource) -> None:
        self.resource_type, self.name, self.urn = resource.type, resource.name, resource.urn
        self.props = resource.props
        self.opts = type("Options", (), {"protect": resource.protect})()


class Package:
    """The names of pulumi-policy that the pack uses: it keeps what it is given."""

    EnforcementLevel = str

    class ResourceValidationPolicy:
        def __init__(self, **given: Any) -> None:
            self.given = given

    StackValidationPolicy = ResourceValidationPolicy


def test_the_pack_reports_what_the_rules_find(production: Graph) -> None:
    worse = changed("bucket:Bucket", uniformBucketLevelAccess=False)(unprotected(production))
    reported: list[tuple[str, str]] = []
    for rule in RULES:
        given = _policy(rule, Package).given
        assert (given["name"], given["enforcement_level"]) == (rule.name, rule.level)

        def report(text: str, urn: str | None = None, name: str = rule.name) -> None:
            reported.append((name, text))

        if rule.resource:
            for item in worse:
                given["validate"](EngineArguments(item), report)
        else:
            arguments = type("Stack", (), {"resources": [EngineArguments(item) for item in worse]})()
            given["validate"](arguments, report)
    expected = [
        (v.rule, v.message if v.rule not in STACK_RULES else f"{v.resource}: {v.message}") for v in violations(worse)
    ]
    assert sorted(reported) == sorted(expected)
    assert _resource(EngineArguments(worse[0])) == worse[0]


STACK_RULES = {rule.name for rule in RULES if rule.stack}


def test_the_pack_says_what_it_needs() -> None:
    """The project's own environment cannot hold the package, which the pack's environment does."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "infra" / "policy")], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1
    assert "infra/policy/.venv/bin/pip install --require-hashes -r infra/policy/requirements.txt" in done.stderr
