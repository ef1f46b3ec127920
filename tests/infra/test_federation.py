"""Who may act as the accounts of pipelines, and what the previewing one reads."""

from __future__ import annotations

import pytest

from infra.trust import reading
from tests.infra.evaluation import (
    EVERYWHERE,
    FULL,
    NUMBER,
    PRODUCTION,
    PROJECT,
    Evaluation,
    evaluate,
)


@pytest.fixture(scope="module")
def full() -> Evaluation:
    return evaluate(FULL)


def bound(full: Evaluation, account: str) -> set[str]:
    """Return who may act as an account by workload identity, without the beginning that all share."""
    name = f"projects/{PROJECT}/serviceAccounts/tuning-{account}@{PROJECT}.iam.gserviceaccount.com"
    start = f"principalSet://iam.googleapis.com/projects/{NUMBER}/locations/global/workloadIdentityPools/"
    grants = [r.inputs for r in full.of_type("serviceaccount/iAMMember:IAMMember")]
    members = {
        grant["member"]
        for grant in grants
        if grant["serviceAccountId"] == name and grant["role"] == "roles/iam.workloadIdentityUser"
    }
    assert all(member.startswith(start) for member in members)
    return {member.removeprefix(start) for member in members}


def test_a_provider_trusts_one_repository_by_its_number(full: Evaluation) -> None:
    conditions = {p.name: p.inputs["attributeCondition"] for p in full.of_type(":WorkloadIdentityPoolProvider")}
    assert all(
        start in conditions[name]
        for name, start in {
            "github-actions": "assertion.repository_owner_id == '56' && assertion.repository_id == '1234' && ",
            "gitlab-gitlab": "assertion.project_id == '789' && ",
        }.items()
    )


def test_an_account_is_bound_to_file_branch_event_and_environment_together(full: Evaluation) -> None:
    github = "github/attribute.use/1234:owner/repository/.github/workflows"
    gitlab = "gitlab/attribute.use/789:gitlab.com/group/project//.gitlab-ci.yml"
    assert bound(full, "deploy") == {
        f"{github}/infra-up.yml@refs/heads/main:push:prod",
        f"{github}/infra-up.yml@refs/heads/main:workflow_dispatch:prod",
        f"{gitlab}@refs/heads/main:push:prod",
    }
    assert bound(full, "preview") == {
        f"{github}/infra-preview.yml@refs/pull:pull_request:infra-preview",
        f"{github}/infra-drift.yml@refs/heads/main:schedule:infra-drift",
        f"{github}/infra-drift.yml@refs/heads/main:workflow_dispatch:infra-drift",
        f"{gitlab}@refs/pull:merge_request_event:infra-preview",
        f"{gitlab}@refs/heads/main:schedule:infra-drift",
    }
    assert bound(full, "plan") == {
        f"{github}/jobs-plan.yml@refs/heads/main:pull_request_target:jobs-plan",
        f"{github}/jobs-drift.yml@refs/heads/main:schedule:jobs-drift",
        f"{github}/jobs-drift.yml@refs/heads/main:workflow_dispatch:jobs-drift",
    }
    assert bound(full, "runner") == {
        f"{github}/jobs-apply.yml@refs/heads/main:push:tuning",
        f"{github}/jobs-apply.yml@refs/heads/main:schedule:tuning",
        f"{github}/jobs-apply.yml@refs/heads/main:workflow_dispatch:tuning",
        f"{gitlab}@refs/heads/main:push:tuning",
        f"{gitlab}@refs/heads/main:schedule:tuning",
    }


def test_the_previewing_account_reads_what_a_preview_compares_and_nothing_else(full: Evaluation) -> None:
    member = f"serviceAccount:tuning-preview@{PROJECT}.iam.gserviceaccount.com"
    grants = [item for item in full.resources if item.inputs.get("member") == member]
    on_project = {item.inputs["role"] for item in grants if "project" in item.inputs}
    assert on_project == {f"projects/{PROJECT}/roles/tuningPreview"}
    elsewhere = {item.inputs["role"] for item in grants if "project" not in item.inputs}
    assert elsewhere == {"roles/storage.objectViewer", "roles/cloudkms.cryptoKeyDecrypter"}
    role = next(item for item in full.of_type(":IAMCustomRole") if item.inputs["roleId"] == "tuningPreview")
    types = {item.type.removeprefix("gcp:") for item in full.resources if item.type.startswith("gcp:")}
    assert set(role.inputs["permissions"]) >= set(reading.permissions(types))
    assert not [name for name in role.inputs["permissions"] if name.startswith("storage.objects.")]
    assert all(name.endswith((".get", ".getIamPolicy", ".list", "services.use")) for name in role.inputs["permissions"])


@pytest.mark.parametrize("config", [EVERYWHERE, PRODUCTION, FULL])
def test_it_is_known_what_a_preview_reads_of_every_type(config: dict[str, str]) -> None:
    types = {item.type.removeprefix("gcp:") for item in evaluate(config).resources if item.type.startswith("gcp:")}
    assert reading.permissions(types)
    assert types <= set(reading.READS)


def test_pools_of_production_do_not_go_by_accident() -> None:
    for pool in evaluate(PRODUCTION).of_type(":WorkloadIdentityPool"):
        assert pool.protect
        assert pool.retain
