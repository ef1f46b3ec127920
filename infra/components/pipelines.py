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

BRANCH = "refs/heads/main"
WORKFLOWS = ".github/workflows"
PREVIEW_WORKFLOWS = ("infra-preview.yml", "infra-drift.yml")
DEPLOY_WORKFLOW = "infra-up.yml"
GITLAB_FILE = ".gitlab-ci.yml"
GITLAB_PREVIEWS = ("merge_request_event", "schedule")

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

_ENVIRONMENT = "(has(assertion.environment) ? assertion.environment : '')"
GITHUB_MAPPING = {
    "google.subject": "assertion.sub",
    "attribute.branch": "assertion.repository_id + ':' + assertion.ref",
    "attribute.workflow": "assertion.repository_id + ':' + assertion.job_workflow_ref",
    "attribute.deploy": f"assertion.repository_id + ':' + {_ENVIRONMENT} + ':' + assertion.job_workflow_ref",
}
GITLAB_MAPPING = {
    # GitLab's own subject holds the path of the project and can be longer than the 127 bytes that fit.
    "google.subject": "'gitlab:' + assertion.project_id + ':' + assertion.job_id",
    "attribute.branch": (
        "assertion.project_id + ':' + (assertion.ref_protected == 'true' ? assertion.ref_path : 'unprotected')"
    ),
    "attribute.workflow": "assertion.project_id + ':' + assertion.pipeline_source",
    "attribute.deploy": (
        f"assertion.project_id + ':' + {_ENVIRONMENT} + ':' + assertion.ref_protected + ':'"
        " + assertion.ci_config_ref_uri"
    ),
}
"""The values that permissions are bound to. Each begins with a number that no other repository can have."""


class Pipelines(pulumi.ComponentResource):
    """Lets pipelines preview and deploy this stack, and those of the main branch work as the runner.

    Previewing runs the program of a change that nobody has approved, so its account can read only. Deploying is bound
    to the file of the workflow, to the environment, whose reviewers approve it, and to the main branch.
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
        self._open_state(preview, deploy)
        for bucket in buckets:
            if bucket.kind == "contract":
                self._bucket_role("preview-contract", bucket.name, "roles/storage.objectViewer", preview)
        self.document = {"previewServiceAccount": preview.email, "deployServiceAccount": deploy.email}
        if settings.github:
            provider = self._github(settings.github, {"preview": preview, "deploy": deploy, "runner": runner})
            self.document["githubProvider"] = provider
        if settings.gitlab:
            provider = self._gitlab(settings.gitlab, {"preview": preview, "deploy": deploy, "runner": runner})
            self.document["gitlabProvider"] = provider
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
            GITHUB_MAPPING,
            f"assertion.repository_owner_id == '{github.owner_id}' && "
            f"assertion.repository_id == '{github.repository_id}'",
        )
        number, path = github.repository_id, f"{github.repository}/{WORKFLOWS}"
        for workflow in PREVIEW_WORKFLOWS:
            name = f"github-preview-{workflow.removesuffix('.yml')}"
            self._bind(name, accounts["preview"], github.pool_id, "workflow", f"{number}:{path}/{workflow}@{BRANCH}")
        value = f"{number}:{github.deploy_environment}:{path}/{DEPLOY_WORKFLOW}@{BRANCH}"
        self._bind("github-deploy", accounts["deploy"], github.pool_id, "deploy", value)
        self._bind("github-runner", accounts["runner"], github.pool_id, "branch", f"{number}:{BRANCH}")
        return provider

    def _gitlab(self, gitlab: GitLab, accounts: dict[str, Account]) -> pulumi.Output[str]:
        provider = self._trust(
            "gitlab",
            gitlab.pool_id,
            "gitlab",
            "GitLab",
            gitlab.issuer,
            GITLAB_MAPPING,
            f"assertion.project_id == '{gitlab.project_id}'",
        )
        number, host = gitlab.project_id, gitlab.issuer.removeprefix("https://")
        for source in GITLAB_PREVIEWS:
            name = f"gitlab-preview-{source.replace('_', '-')}"
            self._bind(name, accounts["preview"], gitlab.pool_id, "workflow", f"{number}:{source}")
        value = f"{number}:{gitlab.deploy_environment}:true:{host}/{gitlab.project}//{GITLAB_FILE}@{BRANCH}"
        self._bind("gitlab-deploy", accounts["deploy"], gitlab.pool_id, "deploy", value)
        self._bind("gitlab-runner", accounts["runner"], gitlab.pool_id, "branch", f"{number}:{BRANCH}")
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

    def _bind(self, name: str, account: Account, pool_id: str, attribute: str, value: str) -> None:
        principal = pulumi.Output.concat(
            "principalSet://iam.googleapis.com/projects/",
            self._number,
            "/locations/global/workloadIdentityPools/",
            self._pools[pool_id].workload_identity_pool_id,
            f"/attribute.{attribute}/{value}",
        )
        AccountMember(
            name,
            service_account_id=account.name,
            role="roles/iam.workloadIdentityUser",
            member=principal,
            opts=self._options,
        )
