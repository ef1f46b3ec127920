"""The account that prepares data, starts jobs and asks models."""

from __future__ import annotations

import pulumi
from pulumi_gcp import iam, projects, serviceaccount, storage

from infra.components import TYPE_PREFIX
from infra.naming import BUCKET_KINDS
from infra.settings import Settings

PROJECT_ROLES = ("roles/aiplatform.user",)
BUCKET_ROLES = {
    "datasets": ("roles/storage.objectUser", "roles/storage.bucketViewer"),
    "images": ("roles/storage.objectUser", "roles/storage.bucketViewer"),
    "outputs": ("roles/storage.objectUser", "roles/storage.bucketViewer"),
    "contract": ("roles/storage.objectViewer",),
}
"""Objects are granted bucket by bucket; the bucket's own data (where it is) comes from bucketViewer."""

GITHUB_ISSUER = "https://token.actions.githubusercontent.com"


class RunnerIdentity(pulumi.ComponentResource):
    """A service account without keys, with no more than it needs, and who may act as it."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        buckets: dict[str, storage.Bucket],
        project_number: pulumi.Output[str],
        hooks: pulumi.ResourceHookBinding,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:RunnerIdentity", name, None, opts)
        self._options = pulumi.ResourceOptions(parent=self, hooks=hooks)
        self.account = serviceaccount.Account(
            "runner",
            project=settings.project,
            account_id=settings.runner_account_id,
            display_name="Open model tuning runner",
            description="Prepares datasets, starts tuning jobs, deploys and asks tuned models.",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.email = self.account.email
        self._grant_work(settings, buckets)
        for index, member in enumerate(settings.runner_impersonators):
            self._grant_account(f"impersonator-{index}", "roles/iam.serviceAccountTokenCreator", member)
        self.workload_identity_provider: pulumi.Output[str] | None = None
        if settings.github_repository:
            self._trust_github(settings, settings.github_repository, project_number)
        self.register_outputs({"email": self.email})

    def _grant_work(self, settings: Settings, buckets: dict[str, storage.Bucket]) -> None:
        member = pulumi.Output.concat("serviceAccount:", self.email)
        for role in PROJECT_ROLES:
            projects.IAMMember(
                f"runner-{_short(role)}", project=settings.project, role=role, member=member, opts=self._options
            )
        for kind in BUCKET_KINDS:
            for role in BUCKET_ROLES[kind]:
                storage.BucketIAMMember(
                    f"runner-{kind}-{_short(role)}",
                    bucket=buckets[kind].name,
                    role=role,
                    member=member,
                    opts=self._options,
                )

    def _grant_account(self, name: str, role: str, member: pulumi.Input[str]) -> None:
        serviceaccount.IAMMember(
            name, service_account_id=self.account.name, role=role, member=member, opts=self._options
        )

    def _trust_github(self, settings: Settings, repository: str, project_number: pulumi.Output[str]) -> None:
        """Let workflows of one repository act as the account, with GitHub's own token and no key."""
        pool = iam.WorkloadIdentityPool(
            "github",
            project=settings.project,
            workload_identity_pool_id=settings.github_pool_id,
            display_name="GitHub Actions",
            opts=pulumi.ResourceOptions(parent=self),
        )
        provider = iam.WorkloadIdentityPoolProvider(
            "github-actions",
            project=settings.project,
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id="actions",
            display_name="GitHub Actions",
            attribute_mapping={
                "google.subject": "assertion.sub",
                "attribute.repository": "assertion.repository",
                "attribute.ref": "assertion.ref",
            },
            # Without a condition any repository on GitHub could exchange a token here.
            attribute_condition=f"assertion.repository == '{repository}'",
            oidc={"issuer_uri": GITHUB_ISSUER},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.workload_identity_provider = provider.name
        principal = pulumi.Output.concat(
            "principalSet://iam.googleapis.com/projects/",
            project_number,
            "/locations/global/workloadIdentityPools/",
            pool.workload_identity_pool_id,
            f"/attribute.repository/{repository}",
        )
        self._grant_account("github-repository", "roles/iam.workloadIdentityUser", principal)


def _short(role: str) -> str:
    return role.removeprefix("roles/").replace(".", "-")
