"""The account that prepares data, starts jobs and sends requests to models."""

from __future__ import annotations

import pulumi

from infra.components import TYPE_PREFIX
from infra.components.buckets import StackBucket
from infra.components.grants import Grants
from infra.components.identities import Identities, member_of
from infra.settings.stack import Settings

_TITLE = "Open model tuning runner"
RUNNER_ROLE_ID = "tuningRunner"
RUNNER_PERMISSIONS = (
    *(f"aiplatform.endpoints.{verb}" for verb in ("create", "delete", "deploy", "get", "list", "predict")),
    *(f"aiplatform.endpoints.{verb}" for verb in ("undeploy", "update")),
    *(f"aiplatform.models.{verb}" for verb in ("delete", "get", "list", "update", "upload")),
    *(f"aiplatform.tuningJobs.{verb}" for verb in ("cancel", "create", "get", "list")),
    # The losses of a job, which the service reports as a TensorBoard run.
    *("aiplatform.contexts.get", "aiplatform.tensorboardRuns.list"),
    *(f"aiplatform.tensorboardTimeSeries.{verb}" for verb in ("list", "read")),
)
"""The methods that the commands call, and no others: `roles/aiplatform.user` has over 200 permissions, for pipelines,
feature stores and custom jobs, which run any code."""
WORK_ROLES = ("roles/storage.objectUser", "roles/storage.bucketViewer")
"""Roles on each bucket: objectUser for its objects, bucketViewer for the bucket's metadata, such as its location."""
CONTRACT_ROLES = ("roles/storage.objectViewer",)
IMPERSONATOR_ROLE = "roles/iam.serviceAccountTokenCreator"
STATE_ROLE = "roles/storage.objectUser"
STATE_PREFIX = "runner/state/"
"""Folder of `runner apply`'s records in the contract bucket; the rest of the bucket is read-only."""


class RunnerIdentity(pulumi.ComponentResource):
    """A service account without keys and with minimal permissions, and the principals that can impersonate it."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        buckets: list[StackBucket],
        grants: Grants,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:RunnerIdentity", name, None, opts)
        self._grants = grants
        self._options = pulumi.ResourceOptions(parent=self)
        identities = Identities(settings, grants, self)
        self.account = identities.account(
            "runner",
            settings.runner_account_id,
            _TITLE,
            "Prepares datasets, starts tuning jobs, deploys and asks tuned models.",
        )
        self.email = self.account.email
        identities.own_role(
            "runner",
            self.account,
            RUNNER_ROLE_ID,
            _TITLE,
            "Starts and follows tuning jobs, deploys and asks tuned models.",
            RUNNER_PERMISSIONS,
            "work",
        )
        self._grant_work(buckets)
        for member in settings.runner_impersonators:
            grants.on_account(f"impersonator/{member}", self.account.name, IMPERSONATOR_ROLE, member, self._options)
        self.register_outputs({"email": self.email})

    def _grant_work(self, buckets: list[StackBucket]) -> None:
        member = member_of(self.account)
        for bucket in buckets:
            for role in WORK_ROLES if bucket.of_jobs else CONTRACT_ROLES:
                self._grants.on_bucket("runner", bucket.id, role, member, self._options, after=bucket.name)
            if not bucket.of_jobs:
                self._grant_state(bucket, member)

    def _grant_state(self, bucket: StackBucket, member: pulumi.Output[str]) -> None:
        condition = {
            "title": "runner-state",
            "description": "Records of the jobs that runner apply made.",
            "expression": f'resource.name.startsWith("projects/_/buckets/{bucket.id}/objects/{STATE_PREFIX}")',
        }
        self._grants.on_bucket(
            "runner", bucket.id, STATE_ROLE, member, self._options, after=bucket.name, condition=condition
        )
