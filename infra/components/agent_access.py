"""What the service agents may do in the buckets."""

from __future__ import annotations

import pulumi

from infra.components import TYPE_PREFIX
from infra.components.buckets import StackBucket
from infra.components.grants import Grants
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
        grants: Grants,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:AgentAccess", name, None, opts)
        options = pulumi.ResourceOptions(parent=self, depends_on=generated)
        # Kept when the stack goes: the rest of the project's work on Vertex AI needs them too.
        kept = pulumi.ResourceOptions.merge(options, pulumi.ResourceOptions(retain_on_delete=True))
        members = {agent: pulumi.Output.concat("serviceAccount:", email) for agent, email in agents.items()}
        self.grants = [
            grants.on_project(agent, settings.project, PROJECT_ROLES[agent], member, kept, name=f"{agent}-project")
            for agent, member in members.items()
        ]
        for bucket in buckets:
            if not bucket.of_jobs:
                continue
            for agent, member in members.items():
                self.grants.append(grants.on_bucket(agent, bucket.id, AGENT_ROLE, member, options, after=bucket.name))
            if "tuning" in members:
                self.grants.append(
                    grants.on_bucket("tuning", bucket.id, METADATA_ROLE, members["tuning"], options, after=bucket.name)
                )
        self.register_outputs({})
