"""Addresses of Google's APIs that a stack can replace: all by an emulator's, or some by private ones."""

from __future__ import annotations

_ADDRESSES = {
    "accessContextManagerCustomEndpoint": (
        "https://accesscontextmanager.googleapis.com/v1/",
        "accesscontextmanager/v1/",
    ),
    "billingBudgetsCustomEndpoint": ("https://billingbudgets.googleapis.com/v1/", "budgets/v1/"),
    "cloudBillingCustomEndpoint": ("https://cloudbilling.googleapis.com/v1/", "v1/"),
    "cloudQuotasCustomEndpoint": ("https://cloudquotas.googleapis.com/v1/", "quotas/v1/"),
    "cloudRunV2CustomEndpoint": ("https://run.googleapis.com/v2/", "run/v2/"),
    "cloudSchedulerCustomEndpoint": ("https://cloudscheduler.googleapis.com/v1/", "scheduler/v1/"),
    "cloudResourceManagerCustomEndpoint": ("", ""),
    "cloudfunctions2CustomEndpoint": ("https://cloudfunctions.googleapis.com/v2/", "functions/v2/"),
    "computeCustomEndpoint": ("", "compute/v1/"),
    "coreBillingCustomEndpoint": ("", "v1/"),
    "iamBetaCustomEndpoint": ("https://iam.googleapis.com/v1/", "v1/"),
    "iamCustomEndpoint": ("", ""),
    "kmsCustomEndpoint": ("https://cloudkms.googleapis.com/v1/", "kms/v1/"),
    "monitoringCustomEndpoint": ("https://monitoring.googleapis.com/", "monitoring/"),
    "resourceManagerCustomEndpoint": ("https://cloudresourcemanager.googleapis.com/v1/", "v1/"),
    "serviceUsageCustomEndpoint": ("https://serviceusage.googleapis.com/v1/", "v1beta1/"),
    "storageCustomEndpoint": ("https://storage.googleapis.com/storage/v1/", "storage/v1/"),
    "vertexAiCustomEndpoint": ("https://{location}-aiplatform.googleapis.com/v1/", "v1/"),
    "workloadIdentityCustomEndpoint": ("https://workloadidentity.googleapis.com/v1/", "workloadidentity/v1/"),
}
"""Maps a provider setting to Google's own address ("" if the program never calls it) and to the path in an emulator.

Each address ends with a slash because the provider requires it. Regional addresses have the location in the host name.
"""

GOOGLE = {key: google for key, (google, _) in _ADDRESSES.items() if google}
"""Google's own addresses."""

ENDPOINT_KEYS = tuple(_ADDRESSES)
"""Provider settings of every API that the program uses."""


def emulator_endpoints(url: str) -> dict[str, str]:
    """Return the provider's endpoint settings for an emulator at `url` (`http://host:port`)."""
    base = url.rstrip("/")
    return {key: f"{base}/{path}" for key, (_, path) in _ADDRESSES.items()}
