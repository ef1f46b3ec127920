"""The variables that configure Google's own tools for the emulator, in the syntax of each shell."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

Shell = Literal["bash", "fish", "powershell", "json"]

_PROVIDER_ENDPOINTS = {
    "STORAGE": "storage/v1/",
    "SERVICE_USAGE": "v1beta1/",
    "RESOURCE_MANAGER": "v1/",
    "VERTEX_AI": "v1beta1/",
    "IAM_BETA": "v1/",
    "CLOUD_BILLING": "v1/",
    "BILLING_BUDGETS": "v1/",
    "MONITORING": "",
    "COMPUTE": "compute/v1/",
    "KMS": "kms/v1/",
    "CLOUD_QUOTAS": "quotas/v1/",
    "IAM_CREDENTIALS": "v1/",
    "RESOURCE_MANAGER_V3": "v3/",
}
"""Endpoint names of the Google provider of Pulumi and Terraform, and their paths. Each must end with `/` and contain
the version; nothing reads `IAM` and `BILLING` any more."""
_GCLOUD_ENDPOINTS = {
    "storage": "storage/v1/",
    "compute": "compute/v1/",
    **dict.fromkeys(("aiplatform", "billingbudgets", "cloudbilling", "cloudkms", "cloudquotas"), ""),
    **dict.fromkeys(("cloudresourcemanager", "iam", "iamcredentials", "monitoring", "serviceusage"), ""),
}
"""gcloud's names of APIs, and their paths."""


def emulator_variables(
    url: str,
    *,
    token: str | None,
    credentials: str = "",
    boto: str = "",
    gcloud: str = "",
    token_file: str = "",
    project: str = "",
    location: str = "",
    document: str = "",
) -> dict[str, str]:
    """Return the variables for an emulator.

    Args:
        url: its address.
        token: its token; None sends a placeholder, which the emulator accepts.
        credentials: service account file for Application Default Credentials; "" sets none.
        boto: configuration file of gsutil; "" sets none.
        gcloud: folder with gcloud's configuration; "" sets none.
        token_file: file with `token`, for gcloud.
        project: project ID.
        location: for example `us-central1`.
        document: environment document of `runner`.
    """
    base = url.rstrip("/")
    host = urlsplit(url).hostname or ""
    # Some clients read one spelling and some the other; those that read both prefer either.
    said = f"{os.environ.get('NO_PROXY', '')},{os.environ.get('no_proxy', '')}".split(",")
    direct = ",".join(dict.fromkeys(name for name in (*said, "127.0.0.1", "localhost", "::1", host) if name))
    variables = {
        "RUNNER_ENVIRONMENT": document,
        "RUNNER_TOKEN": token or "",
        "STORAGE_EMULATOR_HOST": base,
        "GOOGLE_VERTEX_BASE_URL": base,
        "GOOGLE_CLOUD_PROJECT": project,
        "GOOGLE_CLOUD_LOCATION": location,
        "GOOGLE_OAUTH_ACCESS_TOKEN": token or "emulator",
        "GOOGLE_APPLICATION_CREDENTIALS": credentials,
        **{f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{base}/{path}" for name, path in _PROVIDER_ENDPOINTS.items()},
        **_gcloud(base, token_file, project),
        "CLOUDSDK_CONFIG": gcloud,
        "BOTO_CONFIG": boto,
        **_rclone(base, project),
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        # Otherwise, both check for updates at every start.
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "CHECKPOINT_DISABLE": "1",
        # Otherwise, gcsfs first requests the bucket's storage layout with gRPC.
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        "NO_PROXY": direct,
        "no_proxy": direct,
    }
    return {name: value for name, value in variables.items() if value}


def gcloud_endpoints(url: str) -> dict[str, str]:
    """Return gcloud's names of APIs with the emulator's addresses."""
    return {name: f"{url.rstrip('/')}/{path}" for name, path in _GCLOUD_ENDPOINTS.items()}


def _gcloud(base: str, token_file: str, project: str) -> dict[str, str]:
    """Return the variables that gcloud reads.

    They contain no credentials of the developer, which the emulator ignores.
    """
    return {
        **{f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name.upper()}": to for name, to in gcloud_endpoints(base).items()},
        "CLOUDSDK_CORE_PROJECT": project,
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": token_file,
        "CLOUDSDK_AUTH_DISABLE_CREDENTIALS": "" if token_file else "true",
        # gsutil has its own key, in the file in BOTO_CONFIG.
        "CLOUDSDK_CORE_PASS_CREDENTIALS_TO_GSUTIL": "false",
        "CLOUDSDK_CORE_DISABLE_USAGE_REPORTING": "true",
        "CLOUDSDK_COMPONENT_MANAGER_DISABLE_UPDATE_CHECK": "true",
        "CLOUDSDK_SURVEY_DISABLE_PROMPTS": "true",
        # The address where it checks whether it runs on Google's machines; the emulator answers that it does not.
        "GCE_METADATA_ROOT": urlsplit(base).netloc,
    }


def _rclone(base: str, project: str) -> dict[str, str]:
    """Return the variables that rclone reads for every remote of type `google cloud storage`."""
    return {
        "RCLONE_GCS_ENDPOINT": f"{base}/storage/v1/",
        "RCLONE_GCS_ANONYMOUS": "true",
        "RCLONE_GCS_PROJECT_NUMBER": project,
    }


def spelled(variables: Mapping[str, str], shell: Shell) -> str:
    """Return lines for a shell, or a JSON object."""
    if shell == "json":
        return json.dumps(dict(variables), indent=2)
    if shell == "fish":
        return "\n".join(f"set -gx {name} {_fish(value)}" for name, value in variables.items())
    if shell == "powershell":
        return "\n".join(f"$Env:{name} = '{value.replace(chr(39), chr(39) * 2)}'" for name, value in variables.items())
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _fish(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
