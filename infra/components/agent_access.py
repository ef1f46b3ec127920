"""What the service agents may do in the buckets."""

from __future__ import annotations

import pulumi
from pulumi_gcp import storage

from infra.components import TYPE_PREFIX
from infra.naming import AGENT_BUCKET_KINDS

AGENT_ROLE = "roles/storage.objectUser"


class AgentAccess(pulumi.ComponentResource):
    """Gives both agents Storage Object User on every bucket of a job.

    Both, on each: the specification asks for it as soon as images lie in another bucket than the dataset, as they do
    here. Single members only; a whole binding or policy would take away what others have granted.
    """

    members: list[storage.BucketIAMMember]

    def __init__(
        self,
        name: str,
        buckets: dict[str, storage.Bucket],
        agents: dict[str, pulumi.Output[str]],
        generated: list[pulumi.Resource],
        hooks: pulumi.ResourceHookBinding,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:AgentAccess", name, None, opts)
        self.members = [
            storage.BucketIAMMember(
                f"{agent}-{kind}",
                bucket=buckets[kind].name,
                role=AGENT_ROLE,
                member=pulumi.Output.concat("serviceAccount:", email),
                opts=pulumi.ResourceOptions(parent=self, depends_on=generated, hooks=hooks),
            )
            for kind in AGENT_BUCKET_KINDS
            for agent, email in agents.items()
        ]
        self.register_outputs({})
