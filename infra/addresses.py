"""Addresses of Google's APIs that a stack may replace: all of them by an emulator's, some by private ones."""

from __future__ import annotations

EMULATOR_PATHS = {
    "accessContextManagerCustomEndpoint": "accesscontextmanager/v1/",
    "billingBudgetsCustomEndpoint": "budgets/v1/",
    "cloudBillingCustomEndpoint": "v1/",
    "cloudQuotasCustomEndpoint": "quotas/v1/",
    "cloudRunV2CustomEndpoint": "run/v2/",
    "cloudSchedulerCustomEndpoint": "scheduler/v1/",
    "cloudResourceManagerCustomEndpoint": "",
    "cloudfunctions2CustomEndpoint": "functions/v2/",
    "computeCustomEndpoint": "compute/v1/",
    "coreBillingCustomEndpoint": "v1/",
    "iamBetaCustomEndpoint": "v1/",
    "iamCustomEndpoint": "",
    "kmsCustomEndpoint": "kms/v1/",
    "monitoringCustomEndpoint": "monitoring/",
    "resourceManagerCustomEndpoint": "v1/",
    "serviceUsageCustomEndpoint": "v1beta1/",
    "storageCustomEndpoint": "storage/v1/",
    "vertexAiCustomEndpoint": "v1/",
    "workloadIdentityCustomEndpoint": "workloadidentity/v1/",
}
"""Provider setting to the path under the emulator's address. Each address ends with a slash: the provider insists."""


ENDPOINT_KEYS = tuple(EMULATOR_PATHS)
"""Provider settings of every API that the program uses."""


def emulator_endpoints(url: str) -> dict[str, str]:
    """Return the provider's endpoint settings for an emulator at `url` (`http://host:port`)."""
    base = url.rstrip("/")
    return {key: f"{base}/{path}" for key, path in EMULATOR_PATHS.items()}
