"""Identities for pipelines on GitHub and GitLab, without keys: one account to read and one to change."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp.iam.workload_identity_pool import WorkloadIdentityPool
from pulumi_gcp.iam.workload_identity_pool_provider import WorkloadIdentityPoolProvider
from pulumi_gcp.serviceaccount.account import Account

from infra.components import TYPE_PREFIX
from infra.components.buckets import StackBucket
from infra.components.grants import Grants
from infra.components.identities import Identities, member_of
from infra.naming import marked
from infra.settings.identity import GITHUB_ISSUER, GitHub, GitLab
from infra.settings.stack import Settings
from infra.trust import bindings, reading

_TITLE = "Open model tuning"
PREVIEW_ROLE_ID = "tuningPreview"

PLAN_ROLES = ("roles/aiplatform.viewer", "roles/cloudquotas.viewer", "roles/serviceusage.serviceUsageConsumer")
PLAN_BUCKET_ROLES = ("roles/storage.bucketViewer", "roles/storage.objectViewer")
"""Permissions to read for `runner plan` and `drift`: jobs, quotas, and the data and records in the stack's buckets."""

DEPLOY_ROLES = (
    "roles/cloudfunctions.developer",
    "roles/iam.roleAdmin",
    "roles/iam.serviceAccountAdmin",
    "roles/iam.serviceAccountUser",
    "roles/iam.workloadIdentityPoolAdmin",
    "roles/resourcemanager.projectIamAdmin",
    "roles/serviceusage.serviceUsageAdmin",
    "roles/storage.admin",
)
"""Roles for the changes of `up`. An account that can change the project's IAM can do everything in it, so this account
is bound to one workflow, one protected environment and one branch."""
DEPLOY_ROLE_ID = "tuningDeploy"
DEPLOY_PERMISSIONS = (
    *(f"aiplatform.endpoints.{verb}" for verb in ("create", "delete", "get", "update")),
    *(f"cloudquotas.quotas.{verb}" for verb in ("get", "update")),
    *(f"cloudscheduler.jobs.{verb}" for verb in ("create", "delete", "get", "update")),
    *(f"monitoring.alertPolicies.{verb}" for verb in ("create", "delete", "get", "list", "update")),
    *(f"monitoring.notificationChannels.{verb}" for verb in ("create", "delete", "get", "list", "update")),
    *(f"run.services.{verb}" for verb in ("get", "getIamPolicy", "setIamPolicy")),
)
"""Narrower permissions, where the predefined role can also train, run code, and read requests and responses."""


class Pipelines(pulumi.ComponentResource):
    """Lets pipelines preview and deploy this stack, and plan and start tuning jobs.

    Each binding names the workflow file, the branch, the event and the environment together
    (`infra.trust.bindings`). A preview runs the program of an unapproved change, so its account can read only what a
    preview compares. The account that plans jobs also reads datasets, and never runs the code of a change.
    """

    document: dict[str, Any]
    """What a pipeline needs to know: providers and accounts."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        buckets: list[StackBucket],
        runner: Account,
        project_number: pulumi.Output[str],
        grants: Grants,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:Pipelines", name, None, opts)
        self._settings = settings
        self._number = project_number
        self._pools: dict[str, WorkloadIdentityPool] = {}
        self._grants = grants
        self._options = pulumi.ResourceOptions(parent=self)
        identities = Identities(settings, grants, self)

        def account(role: str, description: str, roles: tuple[str, ...] = ()) -> Account:
            return identities.account(
                role, settings.account_id(f"tuning-{role}"), f"{_TITLE} {role}", description, roles
            )

        preview = account("preview", "Previews changes of the tuning stack; reads only.")
        said = "Reads what a preview compares, and lets the project pay for asking."
        reads, title = reading.permissions(), f"{_TITLE} preview"
        identities.own_role("preview", preview, PREVIEW_ROLE_ID, title, said, reads, "reading")
        deploy = account("deploy", "Applies approved changes of the tuning stack.", DEPLOY_ROLES)
        said = "Changes the parts of the tuning stack whose predefined roles allow far more."
        title = f"{_TITLE} deploy"
        identities.own_role("deploy", deploy, DEPLOY_ROLE_ID, title, said, DEPLOY_PERMISSIONS, "changing")
        plan = account("plan", "Plans tuning jobs and looks for their drift; reads only.", PLAN_ROLES)
        self._open_state(preview, deploy)
        for bucket in buckets:
            if bucket.kind == "contract":
                self._open_bucket("preview", bucket.id, "roles/storage.objectViewer", preview, bucket.name)
            for role in PLAN_BUCKET_ROLES:
                self._open_bucket("plan", bucket.id, role, plan, bucket.name)
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

    def _open_state(self, preview: Account, deploy: Account) -> None:
        """Let both accounts read Pulumi's state, and only one write it. A preview takes no lock and writes nothing."""
        settings = self._settings
        if settings.state_bucket:
            self._open_bucket("preview", settings.state_bucket, "roles/storage.objectViewer", preview)
            self._open_bucket("deploy", settings.state_bucket, "roles/storage.objectUser", deploy)
        if settings.state_key:
            for who, role, account in (
                ("preview", "roles/cloudkms.cryptoKeyDecrypter", preview),
                ("deploy", "roles/cloudkms.cryptoKeyEncrypterDecrypter", deploy),
            ):
                self._grants.on_key(who, settings.state_key, role, member_of(account), self._options)

    def _open_bucket(
        self, who: str, bucket: str, role: str, account: Account, after: pulumi.Output[str] | None = None
    ) -> None:
        self._grants.on_bucket(who, bucket, role, member_of(account), self._options, after=after)

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
        """Create a pool and its provider and return the provider's name."""
        # Google reserves a deleted pool's ID for 30 days, so in production neither can be deleted by accident.
        options = pulumi.ResourceOptions(
            parent=self, protect=self._settings.retain, retain_on_delete=self._settings.retain
        )
        pool = WorkloadIdentityPool(
            name,
            project=self._settings.project,
            workload_identity_pool_id=pool_id,
            display_name=title,
            description=marked(f"{title} acts for a tuning stack", self._settings.name_prefix),
            opts=options,
        )
        provider = WorkloadIdentityPoolProvider(
            f"{name}-{provider_id}",
            project=self._settings.project,
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id=provider_id,
            display_name=title,
            description=marked(f"{title} acts for a tuning stack", self._settings.name_prefix),
            attribute_mapping=mapping,
            # Without a condition, any repository of the issuer could exchange its token here.
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
        name = f"{platform}-{use.account}-{file}-{use.event.replace('_', '-')}"
        self._grants.on_account(name, account.name, "roles/iam.workloadIdentityUser", principal, self._options)
