"""Identities of pipelines on GitHub and GitLab: no keys, one account to look and one to change."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp.iam.workload_identity_pool import WorkloadIdentityPool
from pulumi_gcp.iam.workload_identity_pool_provider import WorkloadIdentityPoolProvider
from pulumi_gcp.projects.iam_member import IAMMember
from pulumi_gcp.serviceaccount.account import Account
from pulumi_gcp.serviceaccount.iam_member import IAMMember as AccountMember
from pulumi_gcp.storage.bucket_iam_member import BucketIAMMember

from infra.components import TYPE_PREFIX
from infra.components.buckets import StackBucket
from infra.components.runner_identity import short
from infra.settings.identity import GITHUB_ISSUER, GitHub, GitLab
from infra.settings.stack import Settings
from infra.trust import bindings

PREVIEW_ROLES = (
    "roles/aiplatform.viewer",
    "roles/cloudquotas.viewer",
    "roles/iam.securityReviewer",
    "roles/iam.serviceAccountViewer",
    "roles/iam.workloadIdentityPoolViewer",
    "roles/monitoring.viewer",
    "roles/serviceusage.serviceUsageConsumer",
    "roles/storage.bucketViewer",
)
"""What `preview --refresh` reads, and the right to let the project pay for asking."""

PLAN_ROLES = ("roles/aiplatform.viewer", "roles/cloudquotas.viewer", "roles/serviceusage.serviceUsageConsumer")
PLAN_BUCKET_ROLES = ("roles/storage.bucketViewer", "roles/storage.objectViewer")
"""What `runner plan` and `drift` read: jobs, quotas, and the data and records in the stack's buckets."""

DEPLOY_ROLES = (
    "roles/aiplatform.admin",
    "roles/cloudfunctions.developer",
    "roles/cloudquotas.admin",
    "roles/cloudscheduler.admin",
    "roles/iam.roleAdmin",
    "roles/iam.serviceAccountAdmin",
    "roles/iam.serviceAccountUser",
    "roles/iam.workloadIdentityPoolAdmin",
    "roles/monitoring.editor",
    "roles/resourcemanager.projectIamAdmin",
    "roles/run.admin",
    "roles/serviceusage.serviceUsageAdmin",
    "roles/storage.admin",
)
"""What `up` changes. Whoever may change the project's IAM may do everything in it, so this account is bound to one
workflow, one protected environment and one branch."""


class Pipelines(pulumi.ComponentResource):
    """Lets pipelines preview and deploy this stack, and plan and start tuning jobs.

    Each binding names the file of the workflow, the branch, the event and the environment together
    (`infra.trust.bindings`). Previewing runs the program of a change that nobody has approved, so its account can read
    only what a preview compares; planning jobs reads data sets too, and never runs a change's code.
    """

    document: dict[str, Any]
    """What a pipeline has to know: providers and accounts."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        buckets: list[StackBucket],
        runner: Account,
        project_number: pulumi.Output[str],
        hooks: pulumi.ResourceHookBinding,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:Pipelines", name, None, opts)
        self._settings = settings
        self._number = project_number
        self._pools: dict[str, WorkloadIdentityPool] = {}
        self._options = pulumi.ResourceOptions(parent=self, hooks=hooks)
        preview = self._account("preview", "Previews changes of the tuning stack; reads only.", PREVIEW_ROLES)
        deploy = self._account("deploy", "Applies approved changes of the tuning stack.", DEPLOY_ROLES)
        plan = self._account("plan", "Plans tuning jobs and looks for their drift; reads only.", PLAN_ROLES)
        self._open_state(preview, deploy)
        for bucket in buckets:
            if bucket.kind == "contract":
                self._bucket_role("preview-contract", bucket.name, "roles/storage.objectViewer", preview)
            for role in PLAN_BUCKET_ROLES:
                self._bucket_role(f"plan-{bucket.label}-{short(role)}", bucket.name, role, plan)
        self.document = {
            "previewServiceAccount": preview.email,
            "planServiceAccount": plan.email,
            "deployServiceAccount": deploy.email,
        }
        accounts = {"preview": preview, "plan": plan, "runner": runner, "deploy": deploy}
        if settings.github:
            self.document["githubProvider"] = self._github(settings.github, accounts)
        if settings.gitlab:
            self.document["gitlabProvider"] = self._gitlab(settings.gitlab, accounts)
        self.register_outputs({})

    def _account(self, role: str, description: str, roles: tuple[str, ...]) -> Account:
        account = Account(
            role,
            project=self._settings.project,
            account_id=f"tuning-{role}",
            display_name=f"Open model tuning {role}",
            description=description,
            opts=pulumi.ResourceOptions(parent=self),
        )
        for item in roles:
            IAMMember(
                f"{role}-{short(item)}",
                project=self._settings.project,
                role=item,
                member=pulumi.Output.concat("serviceAccount:", account.email),
                opts=self._options,
            )
        return account

    def _open_state(self, preview: Account, deploy: Account) -> None:
        """Let both read Pulumi's state, and only one write it. A preview takes no lock and writes nothing."""
        settings = self._settings
        if settings.state_bucket:
            bucket = pulumi.Output.from_input(settings.state_bucket)
            self._bucket_role("preview-state", bucket, "roles/storage.objectViewer", preview)
            self._bucket_role("deploy-state", bucket, "roles/storage.objectUser", deploy)
        if settings.state_key:
            from pulumi_gcp.kms.crypto_key_iam_member import CryptoKeyIAMMember

            for name, role, account in (
                ("preview-state-key", "roles/cloudkms.cryptoKeyDecrypter", preview),
                ("deploy-state-key", "roles/cloudkms.cryptoKeyEncrypterDecrypter", deploy),
            ):
                CryptoKeyIAMMember(
                    name,
                    crypto_key_id=settings.state_key,
                    role=role,
                    member=pulumi.Output.concat("serviceAccount:", account.email),
                    opts=self._options,
                )

    def _bucket_role(self, name: str, bucket: pulumi.Output[str], role: str, account: Account) -> None:
        member = pulumi.Output.concat("serviceAccount:", account.email)
        BucketIAMMember(name, bucket=bucket, role=role, member=member, opts=self._options)

    def _github(self, github: GitHub, accounts: dict[str, Account]) -> pulumi.Output[str]:
        provider = self._trust(
            "github",
            github.pool_id,
            "actions",
            "GitHub Actions",
            GITHUB_ISSUER,
            bindings.github_mapping(github),
            bindings.github_condition(github),
        )
        for use in bindings.GITHUB_USES:
            self._bind("github", use, accounts[use.account], github.pool_id, bindings.github_value(github, use))
        return provider

    def _gitlab(self, gitlab: GitLab, accounts: dict[str, Account]) -> pulumi.Output[str]:
        provider = self._trust(
            "gitlab",
            gitlab.pool_id,
            "gitlab",
            "GitLab",
            gitlab.issuer,
            bindings.gitlab_mapping(gitlab),
            bindings.gitlab_condition(gitlab),
        )
        for use in bindings.GITLAB_USES:
            self._bind("gitlab", use, accounts[use.account], gitlab.pool_id, bindings.gitlab_value(gitlab, use))
        return provider

    def _trust(
        self,
        name: str,
        pool_id: str,
        provider_id: str,
        title: str,
        issuer: str,
        mapping: dict[str, str],
        condition: str,
    ) -> pulumi.Output[str]:
        """Make a pool and its provider and return the provider's name."""
        # Google keeps a deleted pool's id for 30 days, so in production neither goes by accident.
        options = pulumi.ResourceOptions(
            parent=self, protect=self._settings.retain, retain_on_delete=self._settings.retain
        )
        pool = WorkloadIdentityPool(
            name,
            project=self._settings.project,
            workload_identity_pool_id=pool_id,
            display_name=title,
            opts=options,
        )
        provider = WorkloadIdentityPoolProvider(
            f"{name}-{provider_id}",
            project=self._settings.project,
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=provider_id,
            display_name=title,
            attribute_mapping=mapping,
            # Without a condition any repository of the issuer could exchange a token here.
            attribute_condition=condition,
            oidc={"issuer_uri": issuer},
            opts=options,
        )
        self._pools[pool_id] = pool
        return provider.name

    def _bind(self, platform: str, use: bindings.Use, account: Account, pool_id: str, value: str) -> None:
        principal = pulumi.Output.concat(
            "principalSet://iam.googleapis.com/projects/",
            self._number,
            "/locations/global/workloadIdentityPools/",
            self._pools[pool_id].workload_identity_pool_id,
            f"/attribute.use/{value}",
        )
        file = use.file.removeprefix(".").removesuffix(".yml")
        AccountMember(
            f"{platform}-{use.account}-{file}-{use.event.replace('_', '-')}",
            service_account_id=account.name,
            role="roles/iam.workloadIdentityUser",
            member=principal,
            opts=self._options,
        )
