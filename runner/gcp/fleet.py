"""All tuning jobs of a location and the quota of concurrent jobs, with the REST API and one request per page."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass

from runner.catalog import load_catalog
from runner.errors import GoogleApiError, UnreachableError
from runner.gcp import tuning_jobs
from runner.gcp.session import Session, place_of
from runner.gcp.tuning_jobs import TuningJob, from_document

PAGE_SIZE = 1000
"""Requested page size; a service that returns fewer also returns a token."""
QUOTA_SERVICE = "aiplatform.googleapis.com"
QUOTA_ID = "GlobalConcurrentManagedOssModelTuningJobs"
"""Quota id of `Global concurrent managed OSS model fine-tuning jobs per project`."""
DEFAULT_QUOTA = 1
"""The default for every project (specification)."""
UNLIMITED = 1_000_000
"""Represents the quota -1."""
_QUOTAS = "https://cloudquotas.googleapis.com"


@dataclass(frozen=True, slots=True)
class Quota:
    """Number of concurrent tuning jobs of a project."""

    limit: int
    source: str
    """The source of the number."""


def all_jobs(session: Session) -> list[TuningJob]:
    """Return every tuning job of the location, newest first. Raises NotFoundError, PermissionDeniedError."""
    return tuning_jobs.list_jobs(session, page_size=PAGE_SIZE)


def unended_elsewhere(session: Session, listed: Collection[str] = ()) -> list[TuningJob]:
    """Return the unfinished jobs of all other locations, which the quota also counts.

    Args:
        session: the project and location.
        listed: locations, `projects/P/locations/L`, that the caller lists itself.

    Sends one request per location, all concurrently. Only the newest 1,000 jobs of each location are read. A location
    that cannot be read counts as empty.
    """
    from concurrent.futures import ThreadPoolExecutor  # imported here, so that read-only commands start fast

    here, project = session.environment.location, session.environment.project
    known = {here, *(place_of(parent)[1] for parent in listed if place_of(parent)[0] == project)}
    others = [location.id for location in load_catalog().locations if location.id not in known]
    with ThreadPoolExecutor(len(others) or 1) as pool:
        found = list(pool.map(lambda location: _newest(session, location), others))
    return [job for jobs in found for job in jobs if not job.ended]


def _newest(session: Session, location: str) -> list[TuningJob]:
    environment = dataclasses.replace(session.environment, location=location)
    address = f"{environment.vertex_base}/v1beta1/{environment.parent}/tuningJobs"

    try:
        page = session.ask(
            "GET", address, "tuningJobs.list", environment.parent, idempotent=False, params={"pageSize": str(PAGE_SIZE)}
        )
    except (GoogleApiError, UnreachableError):
        return []
    return [from_document(item) for item in page.get("tuningJobs", [])]


def tuning_quota(session: Session) -> Quota:
    """Return the granted quota of concurrent tuning jobs, or the default if none was requested or can be read.

    A custom address of Vertex AI also gets this request.
    """
    parent = f"projects/{session.environment.project}/locations/global"
    base = session.environment.vertex_url or _QUOTAS

    try:
        found = session.ask("GET", f"{base}/v1/{parent}/quotaPreferences", "quotaPreferences.list", parent)
    except GoogleApiError:
        return Quota(DEFAULT_QUOTA, "the default of every project; the granted quota could not be read")
    for item in found.get("quotaPreferences", []):
        granted = (item.get("quotaConfig") or {}).get("grantedValue")
        if (item.get("service"), item.get("quotaId")) == (QUOTA_SERVICE, QUOTA_ID) and granted is not None:
            return Quota(int(granted) if int(granted) >= 0 else UNLIMITED, "granted quota preference")
    return Quota(DEFAULT_QUOTA, "the default of every project")
