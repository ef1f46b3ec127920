"""The policy pack as the engine drives it: its own process and environment, spoken to over gRPC."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import empty_pb2, json_format, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import analyzer_pb2, analyzer_pb2_grpc

from infra.evaluation import evaluate
from infra.policy import ENVIRONMENT_HINT, RULES, PolicyResource, of_evaluation, violations
from tests.infra.evaluation import PRODUCTION

PACK = Path(__file__).resolve().parents[2] / "infra" / "policy"
PYTHON = PACK / ".venv" / "bin" / "python"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How the engine writes a text that it does not know before the deployment."""
TUNING_OUTPUTS = "tuning/demo-project-outputs/storage-objectUser"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason=f"needs the pack's own environment: {ENVIRONMENT_HINT}")


@dataclass(frozen=True, slots=True)
class Pack:
    """A running pack."""

    stub: Any

    def resource(self, resource: PolicyResource) -> list[tuple[str, str]]:
        request = analyzer_pb2.AnalyzeRequest(
            type=resource.type,
            urn=resource.urn,
            name=resource.name,
            properties=struct(resource.props),
            options=analyzer_pb2.AnalyzerResourceOptions(protect=resource.protect),
        )
        return said(self.stub.Analyze(request))

    def stack(self, resources: list[PolicyResource]) -> list[tuple[str, str]]:
        listed = [
            analyzer_pb2.AnalyzerResource(
                type=item.type,
                urn=item.urn,
                name=item.name,
                properties=struct(item.props),
                options=analyzer_pb2.AnalyzerResourceOptions(protect=item.protect),
            )
            for item in resources
        ]
        return said(self.stub.AnalyzeStack(analyzer_pb2.AnalyzeStackRequest(resources=listed)))


def struct(props: Any) -> struct_pb2.Struct:
    return json_format.ParseDict(props, struct_pb2.Struct())


def said(response: Any) -> list[tuple[str, str]]:
    return [(item.policyName, item.message) for item in response.diagnostics]


@pytest.fixture(scope="module")
def pack() -> Iterator[Pack]:
    import grpc  # type: ignore[import-untyped]

    process = subprocess.Popen([PYTHON, "-u", PACK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield Pack(analyzer_pb2_grpc.AnalyzerStub(channel))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def production() -> list[PolicyResource]:
    return of_evaluation(evaluate(PRODUCTION))


def worse(graph: list[PolicyResource], name: str, **props: Any) -> list[PolicyResource]:
    return [replace(item, props={**item.props, **props}) if item.name == name else item for item in graph]


def test_it_names_every_rule(pack: Pack) -> None:
    info = pack.stub.GetAnalyzerInfo(empty_pb2.Empty())
    assert info.name == "open-model-tuning"
    levels = {"mandatory": analyzer_pb2.MANDATORY, "advisory": analyzer_pb2.ADVISORY}
    assert {item.name: item.enforcementLevel for item in info.policies} == {
        rule.name: levels[rule.level] for rule in RULES
    }


def test_it_finds_in_resources_what_the_rules_find_here(pack: Pack, production: list[PolicyResource]) -> None:
    delete = [{"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefixes": ["tmp/"]}}]
    graph = worse(production, "outputs", lifecycleRules=delete, publicAccessPrevention="inherited", location="us-east1")
    graph = worse(graph, "aiplatform/demo-project-images/storage-objectUser", member="allUsers")
    of_resources = {rule.name for rule in RULES if rule.resource}
    found = sorted(violation for item in graph for violation in pack.resource(item))
    expected = sorted((v.rule, v.message) for v in violations(graph) if v.rule in of_resources)
    assert [name for name, _ in found] == [name for name, _ in expected]
    assert len(found) == 4
    for (_, message), (_, wanted) in zip(found, expected, strict=True):
        # The engine's numbers are all floating.
        assert wanted.split(": {")[0] in message


def test_it_finds_in_stacks_what_the_rules_find_here(pack: Pack, production: list[PolicyResource]) -> None:
    assert pack.stack(production) == []
    graph = [replace(item, protect=False) for item in production if item.name != TUNING_OUTPUTS]
    found = pack.stack([item for item in graph if not item.type.endswith(":Budget")])
    assert {name for name, _ in found} == {"production-protected", "agents-granted-everywhere", "budget-present"}
    assert any("outputs: the service agent gcp-sa-vertex-moss-ft" in message for _, message in found)


def test_what_is_not_known_yet_does_not_keep_a_rule_from_finding_the_rest(
    pack: Pack, production: list[PolicyResource]
) -> None:
    (bucket,) = (item for item in production if item.name == "outputs")
    unknown = replace(bucket, props={**bucket.props, "name": UNKNOWN, "uniformBucketLevelAccess": False})
    ((rule, message),) = pack.resource(unknown)
    assert rule == "bucket-uniform-access"
    assert "object ACLs" in message
    # A rule that needs what is not known stays quiet in the preview; `up` asks it again with the value.
    assert pack.resource(replace(bucket, props={**bucket.props, "publicAccessPrevention": UNKNOWN})) == []
