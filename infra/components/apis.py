"""The Google APIs that a stack uses."""

from __future__ import annotations

import pulumi
from pulumi_gcp.projects.service import Service

from infra.components import TYPE_PREFIX
from infra.settings.stack import Settings

BASE = (
    "aiplatform.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "iam.googleapis.com",
    "iamcredentials.googleapis.com",
    "storage.googleapis.com",
)


def wanted_apis(settings: Settings) -> tuple[str, ...]:
    """Return the APIs to enable, sorted: the basic ones and those of the parts that are switched on."""
    optional = {
        "billingbudgets.googleapis.com": settings.budget is not None,
        "accesscontextmanager.googleapis.com": settings.perimeter is not None,
        "artifactregistry.googleapis.com": settings.idle_guard,
        "cloudbuild.googleapis.com": settings.idle_guard,
        "cloudfunctions.googleapis.com": settings.idle_guard,
        "cloudkms.googleapis.com": any(stamp.kms_key for stamp in settings.stamps) or settings.state_key is not None,
        "cloudquotas.googleapis.com": settings.concurrent_tuning_jobs > 0,
        "cloudscheduler.googleapis.com": settings.idle_guard,
        "monitoring.googleapis.com": bool(settings.notification_emails) or settings.idle_guard,
        "run.googleapis.com": settings.idle_guard,
        "sts.googleapis.com": settings.continuous_integration,
        "workloadidentity.googleapis.com": settings.service_agents == "generate",
    }
    return tuple(sorted({*BASE, *(name for name, wanted in optional.items() if wanted)}))


class Apis(pulumi.ComponentResource):
    """Enables the APIs. Destroying the stack leaves them enabled: others in the project may use them."""

    def __init__(self, name: str, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(f"{TYPE_PREFIX}:Apis", name, None, opts)
        self.services = [
            Service(
                api.removesuffix(".googleapis.com"),
                project=settings.project,
                service=api,
                disable_on_destroy=False,
                opts=pulumi.ResourceOptions(parent=self),
            )
            for api in wanted_apis(settings)
        ]
        self.register_outputs({"services": wanted_apis(settings)})
