"""What clients need to know about a stack, in one versioned document."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pulumi
from pulumi_gcp.storage.bucket_object import BucketObject

from infra.components import TYPE_PREFIX
from infra.naming import ENVIRONMENT_OBJECT, REGIONAL_KINDS
from infra.settings.stack import Settings

VERSION = 1
"""Increases only if a reader of the old version would misread the new one; additional keys are compatible."""


def api_endpoints(settings: Settings) -> dict[str, str]:
    """Return the addresses that clients must use instead of Google's, without a path; {} on Google Cloud."""
    configured = {
        "vertex": settings.api_endpoints.get("vertexAiCustomEndpoint"),
        "storage": settings.api_endpoints.get("storageCustomEndpoint"),
    }
    parts = {name: urlsplit(url) for name, url in configured.items() if url}
    return {name: f"{url.scheme}://{url.netloc}" for name, url in parts.items()}


class EnvironmentDocument(pulumi.ComponentResource):
    """Creates the document and writes it to the contract bucket, so that clients need no access to Pulumi's state."""

    document: pulumi.Output[dict[str, Any]]

    def __init__(
        self,
        name: str,
        settings: Settings,
        *,
        project_number: pulumi.Output[str],
        bucket_names: dict[str, dict[str, pulumi.Output[str]]],
        agents: dict[str, pulumi.Output[str]],
        runner_email: pulumi.Output[str],
        endpoints: dict[str, pulumi.Output[str]],
        pipelines: dict[str, Any],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__(f"{TYPE_PREFIX}:EnvironmentDocument", name, None, opts)
        body: dict[str, Any] = {
            "version": VERSION,
            "project": settings.project,
            "projectNumber": project_number,
            "location": settings.region,
            "buckets": bucket_names[settings.region],
            "serviceAgents": agents,
            "runnerServiceAccount": runner_email,
            "endpoints": _named(endpoints, settings.region),
        }
        if settings.environment:
            body["environment"] = settings.environment
        if len(settings.stamps) > 1:
            body["regions"] = {
                stamp.region: {
                    "buckets": {kind: bucket_names[stamp.region][kind] for kind in REGIONAL_KINDS},
                    "endpoints": _named(endpoints, stamp.region),
                }
                for stamp in settings.stamps
            }
        if settings.idle_guard:
            body["idleGuard"] = {"minutes": settings.idle_guard_minutes}
        if pipelines:
            body["pipelines"] = pipelines
        addresses = api_endpoints(settings)
        if addresses:
            body["apiEndpoints"] = addresses
        self.document = pulumi.Output.from_input(body)
        self.published = BucketObject(
            "environment",
            bucket=bucket_names[settings.region]["contract"],
            name=ENVIRONMENT_OBJECT,
            content=self.document.apply(lambda value: json.dumps(value, indent=2, sort_keys=True) + "\n"),
            content_type="application/json",
            cache_control="no-cache",
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"environment": self.document})


def _named(endpoints: dict[str, pulumi.Output[str]], region: str) -> dict[str, pulumi.Output[str]]:
    return {"default": endpoints[region]} if region in endpoints else {}
