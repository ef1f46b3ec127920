"""The owner of an output folder: which job has claimed it, and whose results it contains.

A folder has one job. Two jobs in one folder overwrite each other's checkpoints, which cannot be distinguished
afterwards.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import NotFoundError, OutputTakenError
from runner.gcp import records, storage, tuning_jobs
from runner.gcp.records import StoredRecord
from runner.gcp.session import PARENT, Session
from runner.gcp.storage import ObjectInfo, parse_gs_uri
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import FINGERPRINT_LABEL, jobs_of
from runner.jobs.outputs.run_manifest import manifest_uri

FOLDER = "postprocess/node-0/checkpoints"
"""Folder of the service's checkpoints below the output address (specification)."""
LEASE_SECONDS = 240.0
"""Age after which a claim without a job can be taken over: the time in which a create request can be sent, the slowest
request, and a margin for a list that lags."""
_ELSEWHERE = "give another --output (`spec.output` in a manifest), or omit it for a new folder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A job that needs an output folder."""

    output: str
    fingerprint: str
    lineage: str = ""
    """Equal for all attempts of one job, which can use the same folder one after another."""
    replace: bool = False
    """Whether results of another job are deleted."""


def holder_of(session: Session, output: str) -> tuple[StoredRecord | None, datetime.datetime]:
    """Return the run manifest in a folder, and the service's time. Raises NotFoundError for a missing bucket."""
    bucket, name = parse_gs_uri(manifest_uri(output))
    found, now = records.list_records(session, bucket, name)
    return next((item for item in found if item.name == name), None), now


def results_in(session: Session, output: str, *, limit: int | None = None) -> list[ObjectInfo]:
    """Return the objects of the checkpoints in a folder."""
    return storage.list_objects(session, f"{output.rstrip('/')}/{FOLDER}/", limit=limit)


def require_free(session: Session, wanted: Wanted, there: StoredRecord | None, now: datetime.datetime) -> None:
    """Return normally if a job may write to its folder.

    Args:
        session: the project and location.
        wanted: the job and its folder.
        there: the run manifest in the folder.
        now: the service's time at which the run manifest was read.

    Raises:
        OutputTakenError: the folder contains the results of another job, or another job has claimed it.
    """
    body: Mapping[str, Any] = there.body if there else {}
    if body.get("fingerprint") == wanted.fingerprint:
        return
    if there is not None:
        parent = str(body.get("parent"))
        if parent == session.environment.parent:
            _require_spent(session, wanted, there, now)
        elif wanted.lineage and wanted.lineage == lineage_of(body) and re.fullmatch(PARENT, parent):
            # An earlier attempt of the same job, which the queue sent to another location.
            _require_spent(session.of(parent), wanted, there, now)
        elif not wanted.replace:
            # Its jobs cannot be listed from here, so it is unknown whether it has ended.
            raise _taken(wanted, f"a job in {body.get('parent')}", replaceable=True)
        if wanted.lineage and wanted.lineage == lineage_of(body):
            return
    if not wanted.replace and results_in(session, wanted.output, limit=1):
        raise _taken(wanted, "another job", replaceable=True)


def lineage_of(body: Mapping[str, Any]) -> str:
    """Return the identity that all attempts of a run manifest's job share; "" for a job without a manifest."""
    manifest = body.get("manifest")
    return str(manifest.get("identity", "")) if isinstance(manifest, dict) else ""


def require_own(session: Session, job: TuningJob) -> None:
    """Return normally if the contents of a job's folder belong to this job.

    Raises:
        OutputTakenError: another job has written to the folder since.
    """
    if not job.output_uri:
        return
    mine, label = job.output_uri.rstrip("/"), job.labels.get(FINGERPRINT_LABEL, "")
    try:
        there, _ = holder_of(session, mine)
    except NotFoundError:
        return  # the bucket does not exist; readers of the folder report it
    claimed = str(there.body.get("fingerprint", "")) if there else label
    if label and claimed != label:
        others = [other for other in jobs_of(session, claimed) if other.output_uri.rstrip("/") == mine]
        raise _lost(job, others[0].id if others else "of another specification")
    for other in sharing(session, job):
        if other.create_time and job.create_time and other.create_time > job.create_time:
            raise _lost(job, other.id)


def sharing(session: Session, job: TuningJob) -> list[TuningJob]:
    """Return the other jobs in the session's location that use a job's folder or have results in it."""
    mine = job.output_uri.rstrip("/")
    listed = tuning_jobs.list_jobs(session, filter=f'outputUri="{job.output_uri}"' if '"' not in mine else "")
    return [other for other in listed if other.id != job.id and other.output_uri.rstrip("/") == mine and other.alive]


def clear(session: Session, output: str) -> None:
    """Delete the checkpoints of an earlier job from a folder. Objects that change meanwhile are kept."""
    for item in results_in(session, output):
        bucket, name = parse_gs_uri(item.uri)
        records.delete_record(session, bucket, name, generation=item.generation)


def _require_spent(session: Session, wanted: Wanted, there: StoredRecord, now: datetime.datetime) -> None:
    """Return normally if the claim of another specification has no running job and no results."""
    known = jobs_of(session, str(there.body.get("fingerprint", "")))
    for job in known:
        if not job.ended:
            raise _taken(wanted, f"job {job.id}, which has not ended", replaceable=False)
        if job.succeeded and not wanted.replace:
            raise _taken(wanted, f"job {job.id}", replaceable=True)
    left = LEASE_SECONDS - (now - there.updated).total_seconds()
    if not known and left > 0:
        what = f"another specification, whose job is being created; its claim runs out in {max(1, round(left))} s"
        raise _taken(wanted, what, replaceable=False)


def _taken(wanted: Wanted, whose: str, *, replaceable: bool) -> OutputTakenError:
    message = f"the output folder {wanted.output} belongs to {whose}; nothing was submitted"
    force = "; --replace-output deletes what is there" if replaceable else ""
    return OutputTakenError(message, hint=f"{_ELSEWHERE}{force}")


def _lost(job: TuningJob, other: str) -> OutputTakenError:
    message = f"job {other} has written into {job.output_uri} after job {job.id}: the results there are no longer its"
    return OutputTakenError(message, hint=f"`runner jobs clone {job.id} --set output_uri=` tunes it again")
