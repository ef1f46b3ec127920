"""What the service agents may do in the buckets."""

from __future__ import annotations

import pulumi
from pulumi_gcp.projects.iam_member import IAMMember
from pulumi_gcp.storage.bucket_iam_member import BucketIAMMember

from infra.components import TYPE_PREFIX
from infra.components.buckets import StackBucket
from infra.settings.stack import Settings

AGENT_ROLE = "roles/storage.objectUser"
METADATA_ROLE = "roles/storage.legacyBucketReader"
"""Lets the tuning agent see where a bucket is; objectUser does not."""

PROJECT_ROLES = {"aiplatform": "roles/aiplatform.serviceAgent", "tuning": "roles/aiplatform.tuningServiceAgent"}
"""The roles that Google documents for these agents. Agents made on request do not get them by themselves."""


class AgentAccess(pulumi.ComponentResource):
    """Gives both agents Storage Object User on every bucket of a job.

    Both, on each: the specification asks for it as soon as images lie in another bucket than the dataset, as they do
    here. Single members only; a whole binding or policy would take away what others have granted.
    """

    grants: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        settings: Settings,
        buckets: list[StackBucket],
        agents: dict[str, pulumi.Output[str]],
        generated: list[pulumi.Resource],
        hooks: pulumi.ResourceHookBinding,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:AgentAccess", name, None, opts)
        options = pulumi.ResourceOptions(parent=self, depends_on=generated, hooks=hooks)
        # Kept when the stack goes: the rest of the project's work on Vertex AI needs them too.
        kept = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(retain_on_delete=True))
        members = {agent: pulumi.Output.concat("serviceAccount:", email) for agent, email in agents.items()}
        self.grants = [
            IAMMember(f"{agent}-project", project=settings.project, role=PROJECT_ROLES[agent], member=member, opts=kept)
            for agent, member in members.items()
        ]
        for bucket in buckets:
            if not bucket.of_jobs:
                continue
            for agent, member in members.items():
                self.grants.append(
                    BucketIAMMember(
                        f"{agent}-{bucket.label}", bucket=bucket.name, role=AGENT_ROLE, member=member, opts=options
                    )
                )
            if "tuning" in members:
                self.grants.append(
                    BucketIAMMember(
                        f"tuning-{bucket.label}-metadata",
                        bucket=bucket.name,
                        role=METADATA_ROLE,
                        member=members["tuning"],
                        opts=options,
                    )
                )
        self.register_outputs({})
