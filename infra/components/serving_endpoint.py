"""Where tuned models are served."""

from __future__ import annotations

import pulumi
from pulumi_gcp import vertex

from infra.components import TYPE_PREFIX
from infra.naming import endpoint_id
from infra.settings import Settings


class ServingEndpoint(pulumi.ComponentResource):
    """An empty endpoint with a lasting address. It costs nothing until a model is deployed to it.

    Deploying is the runner's: models and their machines come and go with experiments, so the traffic split is left
    alone.
    """

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{TYPE_PREFIX}:ServingEndpoint", name, None, opts)
        number = endpoint_id(settings.project, settings.region, settings.name_prefix)
        self.endpoint = vertex.AiEndpoint(
            "endpoint",
            name=number,
            project=settings.project,
            location=settings.region,
            region=settings.region,
            display_name=f"{settings.name_prefix}-tuned",
            description="Serves tuned open models.",
            labels=settings.labels or None,
            dedicated_endpoint_enabled=settings.dedicated_endpoint or None,
            encryption_spec={"kms_key_name": settings.kms_key} if settings.kms_key else None,
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["trafficSplit"]),
        )
        self.resource_name = self.endpoint.name.apply(
            lambda name: f"projects/{settings.project}/locations/{settings.region}/endpoints/{name.rsplit('/', 1)[-1]}"
        )
        self.register_outputs({"resourceName": self.resource_name})
