"""Batch prediction jobs, with the REST API."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner import times
from runner.catalog.models import MachineChoice
from runner.gcp.failures import data_loss
from runner.gcp.job_states import HasState
from runner.gcp.session import Session

KEY = "key"
"""Field of an instance that the service returns with its prediction, and that the model does not get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchJob(HasState):
    """One batch prediction job."""

    name: str
    """`projects/P/locations/L/batchPredictionJobs/ID`."""
    state: str
    labels: dict[str, str] = field(default_factory=dict)
    output_directory: str = ""
    """`gs://` folder of its results, if there are any."""
    error_message: str = ""
    replica_hours: float | None = None
    """The billed amount of work; None if the service does not return it."""
    create_time: datetime.datetime | None = None

    @property
    def id(self) -> str:
        """Return the last part of the name."""
        return self.name.rsplit("/", 1)[-1]


def create(
    session: Session,
    *,
    display_name: str,
    model: str,
    inputs: str,
    outputs: str,
    machine: MachineChoice | None,
    replicas: int,
    labels: Mapping[str, str],
) -> BatchJob:
    """Create a job. Sent only once: the API has no request ID, so a repeated request creates a second job.

    Args:
        session: the project and location.
        display_name: a name for people.
        model: full name of a Model resource.
        inputs: `gs://` address of instances, JSON Lines, each with a `KEY`.
        outputs: `gs://` folder, in which the job creates a folder.
        machine: the machine of each replica; None lets the service choose.
        replicas: maximum number of replicas.
        labels: labels of the job.

    Raises:
        GoogleApiError: refused. If `failures.maybe_sent` is true, the job may exist.
        UnreachableError: not sent; ConnectionLostError: possibly sent.
    """
    body: dict[str, Any] = {
        "displayName": display_name,
        "model": model,
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": [inputs]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": outputs}},
        "instanceConfig": {"keyField": KEY},
        "labels": dict(labels),
    }
    if machine is not None:
        spec = {
            "machineType": machine.machine_type,
            "acceleratorType": machine.accelerator_type,
            "acceleratorCount": machine.accelerator_count,
        }
        given = {key: value for key, value in spec.items() if value}
        body["dedicatedResources"] = {
            "machineSpec": given,
            "startingReplicaCount": replicas,
            "maxReplicaCount": replicas,
        }
    parent = session.environment.parent
    url = f"/v1beta1/{parent}/batchPredictionJobs"
    return _named(session.ask("POST", url, "batchPredictionJobs.create", parent, json=body), parent)


def get(session: Session, name: str) -> BatchJob:
    """Return a job. Raises NotFoundError."""
    return _named(session.ask("GET", f"/v1beta1/{name}", "batchPredictionJobs.get", name), name)


def labelled(session: Session, label: str, value: str) -> list[BatchJob]:
    """Return the jobs of the location with a value of a label, newest first."""
    path = f"/v1beta1/{session.environment.parent}/batchPredictionJobs"
    params = {"pageSize": "100", "filter": f'labels.{label}="{value}"'}
    found = session.pages(path, "batchPredictionJobs", "batchPredictionJobs.list", params)
    # A service that ignores the filter must not return other jobs.
    return [job for job in map(_job, found) if job.labels.get(label) == value]


def cancel(session: Session, name: str) -> None:
    """Request the cancellation of a job. Raises NotFoundError."""
    session.send("POST", f"/v1beta1/{name}:cancel", "batchPredictionJobs.cancel", name, json={}, idempotent=True)


def _named(document: Mapping[str, Any], resource: str) -> BatchJob:
    job = _job(document)
    if not job.id:
        raise data_loss(resource, "the answer does not name the job", method="batchPredictionJobs")
    return job


def _job(document: Mapping[str, Any]) -> BatchJob:
    hours = (document.get("resourcesConsumed") or {}).get("replicaHours")
    return BatchJob(
        name=str(document.get("name", "")),
        state=str(document.get("state", "JOB_STATE_UNSPECIFIED")),
        labels=dict(document.get("labels") or {}),
        output_directory=str((document.get("outputInfo") or {}).get("gcsOutputDirectory", "")),
        error_message=str((document.get("error") or {}).get("message", "")),
        replica_hours=float(hours) if isinstance(hours, int | float) else None,
        create_time=times.read(document.get("createTime")),
    )
