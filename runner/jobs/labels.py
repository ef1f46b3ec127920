"""Labels that identify tuning jobs, and the digests that they contain."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob

MANAGED_LABEL = "managed-by"
MANAGED_VALUE = "open-model-tuning-runner"
FINGERPRINT_LABEL = "runner-fingerprint"
MANIFEST_LABEL = "runner-manifest"
IDENTITY_LABEL = "runner-identity"
ATTEMPT_LABEL = "runner-attempt"
_JOB_NAME = re.compile(r"projects/[^/]+/locations/[^/]+/(?:tuningJobs|batchPredictionJobs)/[^/]+")


def managed(labels: Mapping[str, str]) -> bool:
    """Return whether labels are those of a resource that this tool created."""
    return labels.get(MANAGED_LABEL) == MANAGED_VALUE


def digest(inputs: Mapping[str, Any]) -> str:
    """Return 52 characters of a-z and 2-7 for JSON values: SHA-256 in base32."""
    canonical = json.dumps(inputs, sort_keys=True, separators=(",", ":")).encode()
    return base64.b32encode(hashlib.sha256(canonical).digest()).decode().rstrip("=").lower()


def jobs_of(session: Session, fingerprint: str) -> list[TuningJob]:
    """Return the jobs with a fingerprint, newest first."""
    found = tuning_jobs.list_jobs(session, filter=f'labels.{FINGERPRINT_LABEL}="{fingerprint}"')
    # A service that ignores the filter must not return jobs of other specifications.
    return [job for job in found if job.labels.get(FINGERPRINT_LABEL) == fingerprint]


def is_job_name(name: str) -> bool:
    """Return whether a text is the full name of a tuning job, or of a batch prediction job."""
    return _JOB_NAME.fullmatch(name) is not None
