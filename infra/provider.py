"""The one provider of a stack."""

from __future__ import annotations

import re
from typing import Any

import pulumi_gcp as gcp

from infra.settings.stack import Settings


def make_provider(settings: Settings) -> gcp.Provider:
    """Register the provider that all resources of the stack use.

    It is explicit, so it does not inherit `gcp:…` settings: each setting is passed to it. On Google Cloud, the
    project also pays for its own API calls; budgets and quota requests require this with a user's credentials.
    """
    local = bool(settings.api_endpoints)
    small = local and len(settings.stamps) == 1
    endpoints: dict[str, Any] = {_snake(key): value for key, value in settings.api_endpoints.items()}
    return gcp.Provider(
        "google",
        project=settings.project,
        region=settings.region,
        default_labels={**settings.labels, "managed-by": "pulumi"},
        user_project_override=not local,
        billing_project=None if local else settings.project,
        access_token=settings.access_token,
        # With this setting, a user's preview sees what the pipelines' account sees.
        impersonate_service_account=settings.impersonate,
        # The provider batches requests for seconds to spare Google's quotas, which the emulator does not have. With
        # many grants, batching is faster nevertheless: together, they are one change of a policy.
        batching=gcp.ProviderBatchingArgs(enable_batching=False, send_after="0s") if small else None,
        **endpoints,
    )


def _snake(name: str) -> str:
    return re.sub(r"[A-Z]", lambda match: "_" + match.group().lower(), name)
