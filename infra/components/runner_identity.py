"""The account that prepares data, starts jobs and asks models."""

from __future__ import annotations

import pulumi
from pulumi_gcp.projects.iam_member import IAMMember
from pulumi_gcp.serviceaccount.account import Account
from pulumi_gcp.serviceaccount.iam_member import IAMMember as AccountMember
from pulumi_gcp.storage.bucket_iam_member import BucketIAMMember

from infra.components import TYPE_PREFIX
from infra.components.buckets import StackBucket
from infra.settings.stack import Settings

PROJECT_ROLES = ("roles/aiplatform.user",)
WORK_ROLES = ("roles/storage.objectUser", "roles/storage.bucketViewer")
"""Objects are granted bucket by bucket; the bucket's own data (where it is) comes from bucketViewer."""
CONTRACT_ROLES = ("roles/storage.objectViewer",)
STATE_ROLE = "roles/storage.objectUser"
STATE_PREFIX = "runner/state/"
"""Where `runner apply` keeps its records in the contract bucket; the rest of it stays read-only."""


class RunnerIdentity(pulumi.ComponentResource):
    """A service account without keys, with no more than it needs, and who may act as it."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        buckets: list[StackBucket],
        hooks: pulumi.ResourceHookBinding,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:RunnerIdentity", name, None, opts)
        self._options = pulumi.ResourceOptions(parent=self, hooks=hooks)
        self.account = Account(
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
            AccountMember(
                f"impersonator-{index}",
                service_account_id=self.account.name,
                role="roles/iam.serviceAccountTokenCreator",
                member=member,
                opts=self._options,
            )
        self.register_outputs({"email": self.email})

    def _grant_work(self, settings: Settings, buckets: list[StackBucket]) -> None:
        member = pulumi.Output.concat("serviceAccount:", self.email)
        for role in PROJECT_ROLES:
            IAMMember(f"runner-{short(role)}", project=settings.project, role=role, member=member, opts=self._options)
        for bucket in buckets:
            for role in WORK_ROLES if bucket.of_jobs else CONTRACT_ROLES:
                BucketIAMMember(
                    f"runner-{bucket.label}-{short(role)}",
                    bucket=bucket.name,
                    role=role,
                    member=member,
                    opts=self._options,
                )
            if not bucket.of_jobs:
                self._grant_state(bucket, member)

    def _grant_state(self, bucket: StackBucket, member: pulumi.Output[str]) -> None:
        prefix = pulumi.Output.concat(
            'resource.name.startsWith("projects/_/buckets/', bucket.name, f'/objects/{STATE_PREFIX}")'
        )
        BucketIAMMember(
            f"runner-{bucket.label}-state",
            bucket=bucket.name,
            role=STATE_ROLE,
            member=member,
            # A dictionary, since the class of arguments would load all of `pulumi_gcp.storage`.
            condition={
                "title": "runner-state",
                "description": "Records of the jobs that runner apply made.",
                "expression": prefix,
            },
            opts=self._options,
        )


def short(role: str) -> str:
    """Return a role as part of a resource's name."""
    return role.removeprefix("roles/").replace(".", "-")
