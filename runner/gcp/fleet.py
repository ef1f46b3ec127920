"""All tuning jobs of a location and how many may run at once: plain REST, in as few requests as there are pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.errors import GoogleApiError
from runner.gcp.failures import call, check
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob, from_document

PAGE_SIZE = 1000
"""Asked for; a service that gives fewer sends a token for the rest."""
QUOTA_SERVICE = "aiplatform.googleapis.com"
QUOTA_ID = "GlobalConcurrentManagedOssModelTuningJobs"
"""Of `Global concurrent managed OSS model fine-tuning jobs per project`."""
DEFAULT_QUOTA = 1
"""What every project has at least (specification)."""
UNLIMITED = 1_000_000
"""Stands for the quota -1."""
_QUOTAS = "https://cloudquotas.googleapis.com"


@dataclass(frozen=True, slots=True)
class Quota:
    """How many tuning jobs of a project may run at once."""

    limit: int
    source: str
    """Where the number comes from, in words."""


def all_jobs(session: Session) -> list[TuningJob]:
    """Return every tuning job of the location, newest first. Raises NotFoundError, PermissionDeniedError."""
    parent = session.environment.parent
    jobs: list[TuningJob] = []
    token = ""
    while True:
        parameters = {"pageSize": str(PAGE_SIZE), **({"pageToken": token} if token else {})}

        def read(parameters: dict[str, str] = parameters) -> dict[str, Any]:
            response = session.http.get(f"/v1beta1/{parent}/tuningJobs", params=parameters)
            return check(response, "tuningJobs.list", parent)

        page = call("tuningJobs.list", parent, read, idempotent=True)
        jobs += [from_document(item) for item in page.get("tuningJobs", [])]
        token = str(page.get("nextPageToken", ""))
        if not token:
            return jobs


def tuning_quota(session: Session) -> Quota:
    """Return the granted quota of concurrent tuning jobs, or the default where none was asked for or may be read.

    A custom address of Vertex AI is asked for this too.
    """
    parent = f"projects/{session.environment.project}/locations/global"
    base = session.environment.vertex_url or _QUOTAS

    def read() -> dict[str, Any]:
        response = session.http.get(f"{base}/v1/{parent}/quotaPreferences")
        return check(response, "quotaPreferences.list", parent)

    try:
        found = call("quotaPreferences.list", parent, read, idempotent=True)
    except GoogleApiError:
        return Quota(DEFAULT_QUOTA, "the default of every project; the granted quota could not be read")
    for item in found.get("quotaPreferences", []):
        granted = (item.get("quotaConfig") or {}).get("grantedValue")
        if (item.get("service"), item.get("quotaId")) == (QUOTA_SERVICE, QUOTA_ID) and granted is not None:
            return Quota(int(granted) if int(granted) >= 0 else UNLIMITED, "granted quota preference")
    return Quota(DEFAULT_QUOTA, "the default of every project")
