"""The one provider of a stack, and the addresses it uses for the emulator."""

from __future__ import annotations

import re
from typing import Any

import pulumi_gcp as gcp

from infra.settings import Settings

EMULATOR_PATHS = {
    "billingBudgetsCustomEndpoint": "budgets/v1/",
    "cloudBillingCustomEndpoint": "v1/",
    "cloudQuotasCustomEndpoint": "quotas/v1/",
    "cloudResourceManagerCustomEndpoint": "",
    "computeCustomEndpoint": "compute/v1/",
    "coreBillingCustomEndpoint": "v1/",
    "iamBetaCustomEndpoint": "v1/",
    "iamCustomEndpoint": "",
    "kmsCustomEndpoint": "kms/v1/",
    "monitoringCustomEndpoint": "monitoring/",
    "resourceManagerCustomEndpoint": "v1/",
    "serviceUsageCustomEndpoint": "v1/",
    "storageCustomEndpoint": "storage/v1/",
    "vertexAiCustomEndpoint": "v1/",
    "workloadIdentityCustomEndpoint": "workloadidentity/v1/",
}
"""Provider setting to the path under the emulator's address. Each address ends with a slash: the provider insists."""


def emulator_endpoints(url: str) -> dict[str, str]:
    """Return the provider's endpoint settings for an emulator at `url` (`http://host:port`)."""
    base = url.rstrip("/")
    return {key: f"{base}/{path}" for key, path in EMULATOR_PATHS.items()}


def make_provider(settings: Settings) -> gcp.Provider:
    """Register the provider that every resource of the stack uses.

    It is explicit, so it does not inherit `gcp:…` settings: they are handed over one by one. On Google Cloud the
    project also pays for its own API calls, which budgets and quota requests need with a user's credentials.
    """
    local = bool(settings.api_endpoints)
    endpoints: dict[str, Any] = {_snake(key): value for key, value in settings.api_endpoints.items()}
    return gcp.Provider(
        "google",
        project=settings.project,
        region=settings.region,
        default_labels={**settings.labels, "managed-by": "pulumi"},
        user_project_override=not local,
        billing_project=None if local else settings.project,
        access_token=settings.access_token,
        # The provider gathers requests for seconds to spare Google's quotas, which the emulator does not have.
        batching=gcp.ProviderBatchingArgs(enable_batching=False, send_after="0s") if local else None,
        **endpoints,
    )


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match.group().lower(), name)
