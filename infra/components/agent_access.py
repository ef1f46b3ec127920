"""Permissions of Google's service agents in the buckets."""

from __future__ import annotations

import pulumi

from infra.components import TYPE_PREFIX
from infra.components.buckets import StackBucket
from infra.components.grants import Grants
from infra.settings.stack import Settings

AGENT_ROLE = "roles/storage.objectUser"
METADATA_ROLE = "roles/storage.legacyBucketReader"
"""Lets the tuning agent read the location of a bucket; objectUser does not."""

PROJECT_ROLES = {"aiplatform": "roles/aiplatform.serviceAgent", "tuning": "roles/aiplatform.tuningServiceAgent"}
"""The roles that Google documents for these agents. Agents created on request do not get them automatically."""


class AgentAccess(pulumi.ComponentResource):
    """Grants both agents Storage Object User on every bucket that jobs use.

    Both agents need it on each bucket: the specification requires this as soon as images are in another bucket than the
    dataset, as they are here. It grants single members only: a whole binding or policy would revoke grants by others.
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
        # Kept when the stack is destroyed: other work on Vertex AI in the project needs these grants too.
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
