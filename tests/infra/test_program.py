"""What the program declares: the real classes of pulumi-gcp on Pulumi's own test monitor."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from infra.naming import endpoint_id, idle_guard_name
from infra.policy import of_evaluation, violations
from runner.cli.main import root
from runner.environment import resolve
from runner.errors import ConfigurationError
from tests.infra.evaluation import (
    ELSEWHERE,
    EVERYWHERE,
    FULL,
    MINIMAL,
    NUMBER,
    PRODUCTION,
    PROJECT,
    Evaluation,
    evaluate,
)

AGENTS = [
    f"serviceAccount:service-{NUMBER}@gcp-sa-aiplatform.iam.gserviceaccount.com",
    f"serviceAccount:service-{NUMBER}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com",
]
RUNNER = f"serviceAccount:tuning-runner@{PROJECT}.iam.gserviceaccount.com"
BUCKET_MEMBER = "gcp:storage/bucketIAMMember:BucketIAMMember"


@pytest.fixture(scope="module")
def minimal() -> Evaluation:
    return evaluate(MINIMAL)


@pytest.fixture(scope="module")
def full() -> Evaluation:
    return evaluate(FULL)


@pytest.fixture(params=["minimal", "full"])
def either(request: pytest.FixtureRequest) -> Evaluation:
    evaluation: Evaluation = request.getfixturevalue(request.param)
    return evaluation


@pytest.mark.parametrize("kind", ["datasets", "images", "outputs"])
@pytest.mark.parametrize("agent", AGENTS)
def test_both_agents_use_objects_of_every_bucket_of_a_job(either: Evaluation, agent: str, kind: str) -> None:
    granted = [
        resource
        for resource in either.of_type(BUCKET_MEMBER)
        if resource.inputs["bucket"] == f"{PROJECT}-{kind}"
        and resource.inputs["member"] == agent
        and resource.inputs["role"] == "roles/storage.objectUser"
    ]
    assert len(granted) == 1


def test_agents_see_nothing_of_the_contract(either: Evaluation) -> None:
    members = {r.inputs["member"] for r in either.of_type(BUCKET_MEMBER) if r.inputs["bucket"].endswith("-contract")}
    readers = {f"serviceAccount:tuning-{name}@{PROJECT}.iam.gserviceaccount.com" for name in ("preview", "plan")}
    assert members - {RUNNER} <= readers
    assert RUNNER in members


def test_buckets_are_closed_and_in_the_region_of_the_jobs(either: Evaluation) -> None:
    region = "us-central1" if either.outputs["environment"]["location"] == "us-central1" else "europe-west4"
    buckets = either.of_type("bucket:Bucket")
    assert [bucket.inputs["name"] for bucket in sorted(buckets, key=lambda item: item.name)] == [
        f"{PROJECT}-{kind}" for kind in ("contract", "datasets", "images", "outputs")
    ]
    for bucket in buckets:
        assert bucket.inputs["publicAccessPrevention"] == "enforced"
        assert bucket.inputs["uniformBucketLevelAccess"] is True
        assert bucket.inputs["location"] == region
        assert bucket.inputs["softDeletePolicy"] == {"retentionDurationSeconds": 7 * 86_400}
        assert bucket.inputs["versioning"] == {"enabled": bucket.name != "images"}


def test_no_lifecycle_rule_can_delete_a_checkpoint(either: Evaluation) -> None:
    for bucket in either.of_type("bucket:Bucket"):
        for rule in bucket.inputs["lifecycleRules"]:
            if rule["action"]["type"] != "Delete":
                continue
            condition = rule["condition"]
            noncurrent = condition["withState"] == "ARCHIVED" and condition.get("daysSinceNoncurrentTime", 0) > 0
            scratch = (
                bucket.inputs["labels"]["content"] == "datasets"
                and condition.get("matchesPrefixes") == ["tmp/"]
                and condition.get("age", 0) > 0
            )
            assert noncurrent or scratch


def test_nobody_is_owner_editor_or_the_public(either: Evaluation) -> None:
    grants = [r.inputs for r in either.resources if "role" in r.inputs]
    assert grants
    for grant in grants:
        assert grant["role"] not in {"roles/owner", "roles/editor", "roles/viewer"}
        assert grant["role"] != "roles/storage.admin" or "tuning-deploy@" in grant["member"]
        assert grant["member"] not in {"allUsers", "allAuthenticatedUsers"}


def test_grants_add_members_and_never_replace_others(either: Evaluation) -> None:
    types = {resource.type for resource in either.resources}
    assert not [token for token in types if token.endswith(("Binding", "Policy")) and "alertPolicy" not in token]
    assert not [token for token in types if token.endswith(("AccessControl", "ACL", "account/key:Key"))]


def test_the_runner_holds_one_role_on_the_project(either: Evaluation) -> None:
    roles = [r.inputs["role"] for r in either.of_type("projects/iAMMember:IAMMember") if r.inputs["member"] == RUNNER]
    assert [role.split("/", 2)[2] for role in roles] == ["roles/tuningRunner"]


def test_agents_keep_their_project_roles_when_the_stack_goes(either: Evaluation) -> None:
    grants = [r for r in either.of_type("projects/iAMMember:IAMMember") if r.inputs["member"] in AGENTS]
    assert {grant.inputs["role"] for grant in grants} == {
        "roles/aiplatform.serviceAgent",
        "roles/aiplatform.tuningServiceAgent",
    }
    assert all(grant.retain for grant in grants)


def test_every_resource_uses_the_stacks_provider_and_has_a_parent(either: Evaluation) -> None:
    for resource in either.resources:
        if resource.custom and not resource.type.startswith("pulumi:providers"):
            assert "pulumi:providers:gcp::google::" in resource.provider, resource.name
            assert "open-model-tuning:infra:" in resource.parent, resource.name


def test_names_are_unique_within_a_type(either: Evaluation) -> None:
    keys = [(resource.type, resource.name) for resource in either.resources]
    assert len(keys) == len(set(keys))


def test_guardrails_are_off_until_they_are_configured(minimal: Evaluation) -> None:
    off = ("Budget", "AlertPolicy", "NotificationChannel", "IAMAuditConfig", "SQuotaPreference", "WorkloadIdentityPool")
    assert [resource.type for resource in minimal.resources if resource.type.endswith(off)] == []
    assert "pipelines" not in minimal.outputs["environment"]


def test_configured_guardrails_are_made(full: Evaluation) -> None:
    budget = full.of_type(":Budget")[0].inputs
    assert budget["amount"] == {"specifiedAmount": {"currencyCode": "USD", "units": "100"}}
    assert budget["budgetFilter"]["projects"] == [f"projects/{NUMBER}"]
    assert full.of_type(":SQuotaPreference")[0].inputs["quotaConfig"] == {"preferredValue": "3"}
    assert {r.inputs["service"] for r in full.of_type(":IAMAuditConfig")} == {
        "aiplatform.googleapis.com",
        "storage.googleapis.com",
    }
    alerts = {item.name: item for item in full.of_type(":AlertPolicy")}
    assert set(alerts) == {"endpoint-idle", "idle-guard-failed", "job-failed", "job-waiting", "model-still-deployed"}
    idle, deployed = alerts["endpoint-idle"], alerts["model-still-deployed"]
    assert deployed.inputs["conditions"][0]["conditionThreshold"]["duration"] == "43200s"
    assert idle.inputs["combiner"] == "AND_WITH_MATCHING_RESOURCE"
    assert [set(condition) - {"displayName"} for condition in idle.inputs["conditions"]] == [
        {"conditionThreshold"},
        {"conditionAbsent"},
    ]


def test_alerts_on_logs_watch_the_guard_that_writes_them(full: Evaluation) -> None:
    function = full.of_type(":Function")[0].inputs["name"]
    schedule = full.of_type("cloudscheduler/job:Job")[0].inputs["name"]
    watched = {}
    for alert in full.of_type(":AlertPolicy"):
        for condition in alert.inputs["conditions"]:
            if "conditionMatchedLog" in condition:
                watched[alert.name] = condition["conditionMatchedLog"]["filter"]
                # The service takes one such condition in a policy, and wants its mails limited.
                assert len(alert.inputs["conditions"]) == 1
                assert alert.inputs["alertStrategy"]["notificationRateLimit"] == {"period": "300s"}
    assert f'service_name = "{function}"' in watched["job-failed"]
    assert f'service_name = "{function}"' in watched["job-waiting"]
    assert f'job_id = "{schedule}"' in watched["idle-guard-failed"]


def test_without_the_guard_no_alert_pretends_to_watch_jobs() -> None:
    for config in (FULL | {"open-model-tuning:idleGuard": "false"}, ELSEWHERE):
        names = {alert.name for alert in evaluate(config).of_type(":AlertPolicy")}
        assert names == {"endpoint-idle", "model-still-deployed"}


def test_every_alert_names_commands_that_exist(full: Evaluation) -> None:
    for alert in full.of_type(":AlertPolicy"):
        for line in re.findall(r"`runner ([^`]+)`", alert.inputs["documentation"]["content"]):
            context, command = click.Context(root), root
            for word in line.split():
                if not isinstance(command, click.Group):
                    break
                found = command.get_command(context, word)
                assert found is not None, line
                context, command = click.Context(found, parent=context), found  # type: ignore[assignment]


def test_the_guards_name_fits_whatever_the_prefix_is() -> None:
    for prefix in ("a" * 54, "9lives", "my-tuning", "a" * 40 + "-" * 10 + "b"):
        assert re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", idle_guard_name(prefix)), prefix
    assert idle_guard_name("my-tuning") == "my-tuning-idle-guard"
    assert idle_guard_name("a" * 54) != idle_guard_name("a" * 53)


def test_the_provider_acts_as_another_account_when_it_is_told_to(minimal: Evaluation) -> None:
    account = f"tuning-preview@{PROJECT}.iam.gserviceaccount.com"
    provider = evaluate(MINIMAL | {"gcp:impersonateServiceAccount": account}).of_type("pulumi:providers:gcp")[0].inputs
    assert provider["impersonateServiceAccount"] == account
    assert "impersonateServiceAccount" not in minimal.of_type("pulumi:providers:gcp")[0].inputs


def test_protected_buckets_and_their_key(full: Evaluation) -> None:
    for bucket in full.of_type("bucket:Bucket"):
        assert bucket.protect
        assert bucket.inputs["forceDestroy"] is False
        assert bucket.inputs["encryption"]["defaultKmsKeyName"].endswith("/cryptoKeys/k")
    grants = [r.inputs for r in full.of_type(":CryptoKeyIAMMember")]
    members = {grant["member"] for grant in grants if grant["cryptoKeyId"].endswith("/k")}
    assert members == {*AGENTS, f"serviceAccount:service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com"}


def test_every_region_has_buckets_agents_and_an_endpoint() -> None:
    production = evaluate(PRODUCTION)
    document = production.outputs["environment"]
    assert list(document["regions"]) == ["us-central1", "europe-west4"]
    assert document["regions"]["europe-west4"]["buckets"] == {
        "datasets": f"{PROJECT}-europe-west4-datasets",
        "images": f"{PROJECT}-europe-west4-images",
        "outputs": "old-outputs",
    }
    granted = {(r.inputs["bucket"], r.inputs["member"]) for r in production.of_type(BUCKET_MEMBER)}
    for region in document["regions"].values():
        for name in region["buckets"].values():
            assert {(name, agent) for agent in AGENTS} <= granted
    assert {("company-images", agent) for agent in AGENTS} <= granted
    places = {e.inputs["location"]: e.inputs["name"] for e in production.of_type(":AiEndpoint")}
    assert places == {region: endpoint_id(PROJECT, region, PROJECT) for region in ("us-central1", "europe-west4")}


def test_attached_and_imported_buckets() -> None:
    buckets = {bucket.inputs["name"]: bucket for bucket in evaluate(PRODUCTION).of_type("bucket:Bucket")}
    assert "company-datasets" not in buckets
    assert buckets["old-outputs"].import_id == "old-outputs"
    assert buckets["old-outputs"].inputs["forceDestroy"] is False
    assert all(bucket.protect and bucket.retain for bucket in buckets.values())
    loose = {"open-model-tuning:buckets": '{"outputs": {"mode": "import"}}', "open-model-tuning:forceDestroy": "true"}
    imported = next(b for b in evaluate(MINIMAL | loose).of_type("bucket:Bucket") if b.name == "outputs")
    assert imported.protect
    assert imported.inputs["forceDestroy"] is False


@pytest.mark.parametrize(("mode", "generated", "tuning"), [("assume", 0, True), ("skip", 0, False)])
def test_service_agents_can_be_assumed_or_left_out(mode: str, generated: int, tuning: bool) -> None:
    evaluation = evaluate(MINIMAL | {"open-model-tuning:serviceAgents": mode})
    assert len(evaluation.of_type(":WorkloadIdentityServiceAgent")) == generated
    members = {r.inputs["member"] for r in evaluation.of_type(BUCKET_MEMBER)}
    assert (AGENTS[1] in members) is tuning
    assert AGENTS[0] in members
    assert evaluation.outputs["environment"]["serviceAgents"]["tuning"] in AGENTS[1]


def test_every_resource_is_tried_again_while_google_learns_of_an_api_or_a_member(either: Evaluation) -> None:
    made = [r for r in either.resources if r.type.startswith("gcp:")]
    assert {r.type.rsplit(":", 1)[-1] for r in made} > {"Bucket", "BucketIAMMember", "AiEndpoint", "Account"}
    assert [r.name for r in made if r.hooks != ("google-eventual-consistency",)] == []


def test_the_idle_guard_has_three_accounts_and_a_schedule(minimal: Evaluation) -> None:
    function = minimal.of_type(":Function")[0].inputs
    assert function["serviceConfig"]["serviceAccountEmail"].startswith("tuning-idle-guard@")
    assert function["serviceConfig"]["environmentVariables"]["RUNNER_REGIONS"] == "us-central1"
    assert "tuning-idle-build@" in function["buildConfig"]["serviceAccount"]
    job = minimal.of_type("cloudscheduler/job:Job")[0].inputs
    assert job["schedule"] == "*/15 * * * *"
    invoker = minimal.of_type(":ServiceIamMember")[0].inputs
    assert invoker["member"] == f"serviceAccount:{job['httpTarget']['oidcToken']['serviceAccountEmail']}"
    assert invoker["role"] == "roles/run.invoker"
    source = next(r for r in minimal.of_type(":BucketObject") if r.name == "idle-guard-source").inputs
    assert {"main.py", "requirements.txt", "runner/serving/idle_guard.py", "runner/errors.py"} <= set(
        source["source"]["archive"]
    )


@pytest.mark.parametrize("config", [MINIMAL | {"open-model-tuning:idleGuard": "false"}, ELSEWHERE])
def test_the_idle_guard_can_be_left_out_and_is_not_made_for_other_servers(config: dict[str, str]) -> None:
    types = {resource.type for resource in evaluate(config).resources}
    assert not [name for name in types if "cloudfunctions" in name or "cloudscheduler" in name]


def test_a_perimeter_is_joined_as_a_dry_run_first(full: Evaluation) -> None:
    assert full.of_type(":ServicePerimeterDryRunResource")[0].inputs["resource"] == f"projects/{NUMBER}"
    real = evaluate(FULL | {"open-model-tuning:perimeterDryRun": "false"})
    assert real.of_type(":ServicePerimeterResource")[0].inputs["perimeterName"].endswith("/data")


def test_an_api_is_enabled_only_for_what_is_used(minimal: Evaluation, full: Evaluation) -> None:
    few = {r.inputs["service"] for r in minimal.of_type(":Service")}
    many = {r.inputs["service"] for r in full.of_type(":Service")}
    assert {"aiplatform.googleapis.com", "storage.googleapis.com"} <= few < many
    assert {"billingbudgets.googleapis.com", "cloudkms.googleapis.com", "sts.googleapis.com"} <= many - few
    assert all(r.inputs["disableOnDestroy"] is False for r in full.of_type(":Service"))


def test_the_endpoint_keeps_its_number() -> None:
    first, second = (evaluate(MINIMAL).of_type(":AiEndpoint")[0].inputs["name"] for _ in range(2))
    assert first == second == endpoint_id(PROJECT, "us-central1", PROJECT)
    assert endpoint_id(PROJECT, "europe-west4", PROJECT) != first


def test_endpoints_can_be_private_and_then_satisfy_the_rules_of_a_perimeter() -> None:
    for endpoint in evaluate(EVERYWHERE).of_type(":AiEndpoint"):
        assert endpoint.inputs["privateServiceConnectConfig"] == {
            "enablePrivateServiceConnect": True,
            "projectAllowlists": [PROJECT],
        }
        assert "dedicatedEndpointEnabled" not in endpoint.inputs
    assert violations(of_evaluation(evaluate(EVERYWHERE))) == []
    with pytest.raises(ConfigurationError, match="exclude each other"):
        evaluate(EVERYWHERE | {"open-model-tuning:dedicatedEndpoint": "true"})


def test_the_endpoint_can_be_left_out() -> None:
    evaluation = evaluate(MINIMAL | {"open-model-tuning:endpoint": "false"})
    assert evaluation.of_type(":AiEndpoint") == []
    assert evaluation.outputs["environment"]["endpoints"] == {}


def test_the_environment_document(minimal: Evaluation, tmp_path: Path) -> None:
    number = endpoint_id(PROJECT, "us-central1", PROJECT)
    expected = {
        "version": 1,
        "project": PROJECT,
        "projectNumber": NUMBER,
        "location": "us-central1",
        "buckets": {kind: f"{PROJECT}-{kind}" for kind in ("datasets", "images", "outputs", "contract")},
        "serviceAgents": {
            "aiplatform": f"service-{NUMBER}@gcp-sa-aiplatform.iam.gserviceaccount.com",
            "tuning": f"service-{NUMBER}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com",
        },
        "runnerServiceAccount": f"tuning-runner@{PROJECT}.iam.gserviceaccount.com",
        "endpoints": {"default": f"projects/{PROJECT}/locations/us-central1/endpoints/{number}"},
        "idleGuard": {"minutes": 15},
    }
    assert minimal.outputs["environment"] == expected
    published = next(r for r in minimal.of_type(":BucketObject") if r.name == "environment").inputs
    assert (published["bucket"], published["name"]) == (f"{PROJECT}-contract", "environment.json")
    assert json.loads(published["content"]) == expected
    file = tmp_path / "environment.json"
    file.write_text(published["content"])
    environment = resolve({"environment": str(file)})
    assert environment.images_bucket == f"{PROJECT}-images"
    assert environment.vertex_url is None
    assert environment.idle_guard_minutes == 15
