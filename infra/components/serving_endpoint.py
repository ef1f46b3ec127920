"""The endpoints that serve tuned models."""

from __future__ import annotations

from typing import Any

import pulumi
from pulumi_gcp.vertex.ai_endpoint import AiEndpoint

from infra.components import TYPE_PREFIX
from infra.naming import endpoint_id
from infra.settings.regions import Stamp
from infra.settings.stack import Settings


class ServingEndpoint(pulumi.ComponentResource):
    """An empty endpoint with a permanent address in every region. It costs nothing until a model is deployed to it.

    The runner deploys models: models and their machines come and go with experiments, so this resource ignores the
    traffic split. The provider compares labels one by one: labels that the runner adds, such as a lease, remain.
    """

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{TYPE_PREFIX}:ServingEndpoint", name, None, opts)
        self.resource_names = {stamp.region: self._endpoint(settings, stamp) for stamp in settings.stamps}
        self.register_outputs({"resourceNames": self.resource_names})

    def _endpoint(self, settings: Settings, stamp: Stamp) -> pulumi.Output[str]:
        # A variable, because the type checker cannot check typed dictionaries through the condition.
        private: Any = {"enable_private_service_connect": True, "project_allowlists": [settings.project]}
        endpoint = AiEndpoint(
            f"endpoint{stamp.suffix}",
            name=endpoint_id(settings.project, stamp.region, settings.name_prefix),
            project=settings.project,
            location=stamp.region,
            region=stamp.region,
            display_name=f"{settings.name_prefix}-tuned",
            description="Serves tuned open models.",
            labels=settings.labels or None,
            dedicated_endpoint_enabled=settings.dedicated_endpoint or None,
            private_service_connect_config=private if settings.private_endpoint else None,
            encryption_spec={"kms_key_name": stamp.kms_key} if stamp.kms_key else None,
            opts=pulumi.ResourceOptions(parent=self, ignore_changes=["trafficSplit"]),
        )
        return endpoint.name.apply(
            lambda name: f"projects/{settings.project}/locations/{stamp.region}/endpoints/{name.rsplit('/', 1)[-1]}"
        )
