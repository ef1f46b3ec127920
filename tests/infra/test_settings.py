"""Configuration: every mistake at once, each with its key."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.naming import endpoint_id
from infra.settings.stack import Settings, keys
from runner.errors import ConfigurationError


def load(**given: str) -> Settings:
    return Settings.load({"gcp:project": "demo-project"} | {f"open-model-tuning:{k}": v for k, v in given.items()})


def problems(values: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        Settings.load(values)
    return caught.value.problems


def test_a_project_is_enough() -> None:
    settings = load()
    assert (settings.project, settings.region, settings.name_prefix) == ("demo-project", "us-central1", "demo-project")
    assert settings.budget is None
    assert settings.notification_emails == ()


def test_all_mistakes_are_reported_at_once() -> None:
    found = problems(
        {
            "gcp:region": "us-east1",
            "open-model-tuning:labels": '{"Team": "ML"}',
            "open-model-tuning:softDeleteDays": "3",
            "open-model-tuning:budgetAmount": "10",
            "open-model-tuning:protect": "yes",
            "open-model-tuning:notificationEmails": '["nobody"]',
            "open-model-tuning:scratchDays": "soon",
            "open-model-tuning:labells": "{}",
            "gcp:storageCustomEndpoint": "http://127.0.0.1:8085/storage/v1",
            "open-model-tuning:identitySuffix": "TooLong",
            "gcp:zone": "us-central1-a",
            "gcp:vertexCustomEndpoint": "http://127.0.0.1:8085/v1/",
            "gcp:impersonateServiceAccount": "tuning-preview",
        }
    )
    expected = [
        "gcp:project",
        "gcp:region",
        ":labels key",
        ":labels value",
        ":softDeleteDays",
        ":budgetAmount needs",
        ":protect is 'yes'",
        "'nobody'",
        ":scratchDays is 'soon'",
        ":labells is not a setting",
        "gcp:storageCustomEndpoint",
        ":identitySuffix is 'TooLong'",
        "gcp:zone would have no effect",
        "gcp:vertexCustomEndpoint would have no effect",
        "gcp:impersonateServiceAccount is 'tuning-preview'",
    ]
    for fragment in expected:
        assert len([problem for problem in found if fragment in problem]) == 1, fragment
    assert len(found) == len(expected)


@pytest.mark.parametrize(
    ("key", "value", "fragment"),
    [
        ("namePrefix", "Upper", "lower-case"),
        ("namePrefix", "a" * 60, "leave room"),
        ("namePrefix", "my-google-data", "refuses"),
        ("kmsKeys", '["k"]', "projects/P"),
        ("kmsKeys", '["projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"]', "the buckets are in us-central1"),
        ("serviceAgents", "maybe", "generate, assume, skip"),
        ("extraRegions", '["us-east1"]', "tuning runs in"),
        ("extraRegions", '["us-central1"]', "gcp:region already"),
        ("extraRegions", "[[]]", "tuning runs in"),
        ("buckets", '{"models": {"mode": "attach", "name": "x-y"}}', "there are datasets"),
        ("buckets", '{"datasets": "x"}', "an object with"),
        ("buckets", '{"datasets": {"mode": "adopt"}}', "create, import, attach"),
        ("buckets", '{"datasets": {"mode": "attach"}}', "does not name it"),
        ("buckets", '{"datasets": {"mode": "import", "name": "demo-project-images"}}', "twice"),
        ("buckets", '{"datasets": {"mode": "attach", "name": "NO"}}', "no name of a bucket"),
        ("environment", "Prod!", "a short name"),
        ("runnerAccountId", "tuning-deploy", "pipelines"),
        ("stateBucket", "state", "githubRepository"),
        ("gitlabIssuer", "http://git.example.com", "https://"),
        ("idleGuardMinutes", "1", "from 5"),
        ("perimeter", "data", "accessPolicies"),
        ("runnerAccountId", "x", "6 to 30"),
        ("runnerImpersonators", '["ada@example.com"]', "user:"),
        ("runnerImpersonators", "ada", "JSON list"),
        ("runnerImpersonators", '["principalSet://iam.googleapis.com/my-pool/attribute.repository/x/y"]', "Pools/POOL"),
        ("labels", "[]", "JSON object"),
        ("githubRepository", "owner", "OWNER/REPOSITORY"),
        ("githubPoolId", "gcp-pool", "reserves"),
        ("servingAlertHours", "24", "from 1 to 23"),
        ("concurrentTuningJobs", "2", "notificationEmails"),
        ("billingAccount", "mine", "billing account"),
        ("budgetCurrency", "euro", "currency"),
        ("noncurrentVersionDays", "-1", "from 0"),
    ],
)
def test_one_mistake(key: str, value: str, fragment: str) -> None:
    found = problems({"gcp:project": "demo-project", f"open-model-tuning:{key}": value})
    assert len(found) == 1
    assert key in found[0]
    assert fragment in found[0]


def test_a_repository_needs_its_numbers() -> None:
    found = problems({"gcp:project": "demo-project", "open-model-tuning:githubRepository": "owner/repository"})
    assert [problem.split()[0] for problem in found] == [
        "open-model-tuning:githubRepositoryId",
        "open-model-tuning:githubOwnerId",
    ]


def test_production_is_protected_and_its_objects_can_be_restored() -> None:
    assert load(environment="prod").protect
    assert load(environment="prod").retain
    assert not load(environment="dev").protect
    found = problems(
        {
            "gcp:project": "demo-project",
            "open-model-tuning:environment": "prod",
            "open-model-tuning:forceDestroy": "true",
            "open-model-tuning:softDeleteDays": "0",
        }
    )
    assert len(found) == 2


def test_regions_have_buckets_of_their_own() -> None:
    key = "projects/p/locations/europe-west4/keyRings/r/cryptoKeys/k"
    home, other = load(
        extraRegions='["europe-west4"]',
        kmsKeys=f'["{key}"]',
        buckets='{"europe-west4/images": {"mode": "attach", "name": "their-images"}}',
    ).stamps
    assert (home.home, home.kms_key, home.suffix) == (True, None, "")
    assert [bucket.kind for bucket in home.buckets] == ["datasets", "images", "outputs", "contract"]
    assert (other.kms_key, other.suffix) == (key, "-europe-west4")
    assert [(bucket.name, bucket.mode) for bucket in other.buckets] == [
        ("demo-project-europe-west4-datasets", "create"),
        ("their-images", "attach"),
        ("demo-project-europe-west4-outputs", "create"),
    ]


def test_the_idle_guard_looks_after_google_only() -> None:
    assert load().idle_guard
    assert not load(idleGuard="false").idle_guard
    local = Settings.load({"gcp:project": "demo-project", "gcp:vertexAiCustomEndpoint": "http://127.0.0.1:8085/v1/"})
    assert not local.idle_guard


def test_contradictions() -> None:
    values = {
        "gcp:project": "demo-project",
        "open-model-tuning:protect": "true",
        "open-model-tuning:forceDestroy": "true",
    }
    assert "forceDestroy" in problems(values)[0]
    values = {"gcp:project": "demo-project", "open-model-tuning:endpoint": "false"}
    assert "dedicatedEndpoint" in problems(values | {"open-model-tuning:dedicatedEndpoint": "true"})[0]
    assert "privateEndpoint" in problems(values | {"open-model-tuning:privateEndpoint": "true"})[0]


def test_buckets_cannot_be_global() -> None:
    assert "jobs can still be sent" in problems({"gcp:project": "demo-project", "gcp:region": "global"})[0]


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from([f"open-model-tuning:{key}" for key in sorted(keys())] + ["gcp:region"]), st.text())
)
def test_no_configuration_breaks_the_reader(values: dict[str, str]) -> None:
    with contextlib.suppress(ConfigurationError):
        Settings.load({"gcp:project": "demo-project"} | values)


@settings(deadline=None)
@given(st.text(min_size=1), st.text(min_size=1))
def test_endpoint_ids_are_ten_digits(project: str, prefix: str) -> None:
    number = endpoint_id(project, "us-central1", prefix)
    assert 10**9 <= int(number) < 10**10
