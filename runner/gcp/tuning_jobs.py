"""Tuning jobs, with the REST API (docs/decisions/0002-clients.md).

A `TuningJob` is read from the service's document and keeps it, so that unknown fields are not lost.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from runner import times
from runner.gcp.failures import about, data_loss
from runner.gcp.job_states import HasState
from runner.gcp.session import Session

PAGE_SIZE = 100

_ADAPTER_SIZES = {
    1: "ADAPTER_SIZE_ONE",
    2: "ADAPTER_SIZE_TWO",
    4: "ADAPTER_SIZE_FOUR",
    8: "ADAPTER_SIZE_EIGHT",
    16: "ADAPTER_SIZE_SIXTEEN",
    32: "ADAPTER_SIZE_THIRTY_TWO",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCheckpoint:
    """A checkpoint in the job's document."""

    id: str
    epoch: int
    step: int
    endpoint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJob(HasState):
    """One tuning job."""

    name: str
    """`projects/P/locations/L/tuningJobs/ID`."""
    id: str
    state: str
    detail_state: str = ""
    """The detailed state `TUNING_JOB_STATE_…`; "" if the service sends none."""
    display_name: str = ""
    description: str = ""
    base_model: str = ""
    custom_base_model: str = ""
    mode: str = ""
    """`FULL` or `PEFT_ADAPTER`."""
    epochs: int | None = None
    learning_rate: float | None = None
    adapter_size: int | None = None
    batch_size: int | None = None
    output_uri: str = ""
    training_dataset_uri: str = ""
    validation_dataset_uri: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    create_time: datetime.datetime | None = None
    start_time: datetime.datetime | None = None
    end_time: datetime.datetime | None = None
    error_code: int | None = None
    """google.rpc.Code number of a failed job."""
    error_message: str = ""
    checkpoints: tuple[JobCheckpoint, ...] = ()
    tuned_model: str = ""
    endpoint: str = ""
    data_stats: dict[str, Any] = field(default_factory=dict)
    """`supervisedTuningDataStats` as sent by the service."""
    completed_epochs: int | None = None
    completed_steps: int | None = None
    emulator: dict[str, Any] = field(default_factory=dict)
    """Additional fields of the emulator, such as the model that is really trained; {} from other services."""
    raw: dict[str, Any] = field(default_factory=dict, repr=False)
    """The complete document."""

    @property
    def waits(self) -> bool:
        """Return whether it waits for quota or a machine, which is not charged."""
        return not self.ended and "WAITING" in self.detail_state

    @property
    def stand_in(self) -> str:
        """Return the model that the emulator really trains; "" for real weights and other services."""
        return str(self.emulator.get("weights", "")) if self.emulator.get("standIn") else ""

    @property
    def rate_scale(self) -> float:
        """Return the maximum factor by which a stand-in multiplies the job's learning rate; 1.0 for real weights."""
        return float(self.emulator.get("learningRateScale") or 1.0)

    @property
    def counted_by_stand_in(self) -> bool:
        """Return whether a stand-in's tokenizer counted its tokens, so that the real model's count differs."""
        return bool(self.stand_in) and not self.emulator.get("ownTokenizer")

    @property
    def final_checkpoint_uri(self) -> str:
        """Return the folder of the final weights (specification); "" without an output address."""
        base = self.output_uri.rstrip("/")
        return f"{base}/postprocess/node-0/checkpoints/final" if base else ""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        body: dict[str, Any] = {
            "name": self.name,
            "id": self.id,
            "state": self.state,
            "detailState": self.detail_state,
            "displayName": self.display_name,
            "baseModel": self.base_model,
            "customBaseModel": self.custom_base_model,
            "mode": self.mode,
            "epochs": self.epochs,
            "learningRate": self.learning_rate,
            "adapterSize": self.adapter_size,
            "batchSize": self.batch_size,
            "outputUri": self.output_uri,
            "trainingDatasetUri": self.training_dataset_uri,
            "validationDatasetUri": self.validation_dataset_uri,
            "labels": self.labels,
            "createTime": _written(self.create_time),
            "startTime": _written(self.start_time),
            "endTime": _written(self.end_time),
            "tunedModel": self.tuned_model,
            "endpoint": self.endpoint,
            "finalCheckpointUri": self.final_checkpoint_uri if self.succeeded else "",
            "completedEpochs": self.completed_epochs,
            "completedSteps": self.completed_steps,
            "dataStats": self.data_stats,
            "emulator": self.emulator,
        }
        if self.error_message or self.error_code:
            body["error"] = {"code": self.error_code, "message": self.error_message}
        empty: tuple[object, ...] = (None, "", {}, [])
        return {key: value for key, value in body.items() if value not in empty}


def create(session: Session, body_fields: Mapping[str, Any]) -> TuningJob:
    """Create a tuning job. Sent only once: the API has no request ID, so a repeated request creates a second job.

    Args:
        session: the project and location.
        body_fields: `base_model`, `training_dataset`, and optionally `validation_dataset`, `mode` (`FULL` or
            `PEFT_ADAPTER`), `epochs`, `learning_rate`, `adapter_size` (a number), `batch_size`, `display_name`,
            `description`, `labels`, `output_uri`, `custom_base_model`, `export_last_checkpoint_only`,
            `service_account`, `kms_key`.

    Raises:
        GoogleApiError: refused. If `failures.maybe_sent` is true, the job may exist.
        UnreachableError: not sent; ConnectionLostError: possibly sent.
    """
    parent = session.environment.parent
    url = f"/v1beta1/{parent}/tuningJobs"
    return _named(session.ask("POST", url, "tuningJobs.create", parent, json=request_body(body_fields)), parent)


def request_body(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the API's JSON of a new job; `fields` are those of `create`."""
    adapter, mode, key = fields.get("adapter_size"), fields.get("mode"), fields.get("kms_key")
    parameters = {
        "epochCount": fields.get("epochs"),
        "learningRate": fields.get("learning_rate"),
        "adapterSize": _ADAPTER_SIZES[adapter] if adapter else None,
        "batchSize": fields.get("batch_size"),
    }
    spec = {
        "trainingDatasetUri": fields["training_dataset"],
        "validationDatasetUri": fields.get("validation_dataset") or None,
        "hyperParameters": _given(parameters) or None,
        "tuningMode": f"TUNING_MODE_{mode}" if mode else None,
        "exportLastCheckpointOnly": fields.get("export_last_checkpoint_only") or None,
    }
    body = {
        "baseModel": fields["base_model"],
        "customBaseModel": fields.get("custom_base_model"),
        "supervisedTuningSpec": _given(spec),
        "tunedModelDisplayName": fields.get("display_name"),
        "description": fields.get("description"),
        "labels": dict(fields.get("labels") or {}) or None,
        "outputUri": fields.get("output_uri"),
        "serviceAccount": fields.get("service_account") or None,
        "encryptionSpec": {"kmsKeyName": key} if key else None,
    }
    return _given(body)


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}


def get(session: Session, name_or_id: str) -> TuningJob:
    """Return a job by ID or full name. Raises NotFoundError."""
    name = full_name(session, name_or_id)
    method = "tuningJobs.get"
    return from_document(about(_there(session, name).ask("GET", f"/v1beta1/{name}", method, name), name, method))


def list_jobs(
    session: Session, filter: str = "", limit: int | None = None, *, page_size: int = PAGE_SIZE
) -> list[TuningJob]:
    """Return jobs in the service's order, newest first.

    Args:
        session: the project and location; only jobs of this location.
        filter: the API's filter language: `labels.team="a" AND state="JOB_STATE_RUNNING"`.
        limit: maximum number of jobs; None for all.
        page_size: requested page size; a service that returns fewer also returns a token.
    """
    params = {"pageSize": str(min(limit or page_size, page_size)), "filter": filter}
    path = f"/v1beta1/{session.environment.parent}/tuningJobs"
    found = session.pages(path, "tuningJobs", "tuningJobs.list", params)
    return [from_document(item) for item in itertools.islice(found, limit)]


def cancel(session: Session, name_or_id: str) -> None:
    """Request the cancellation of a job; it ends a little later, possibly with success. Raises NotFoundError."""
    name = full_name(session, name_or_id)
    # A second cancellation changes nothing.
    _there(session, name).send("POST", f"/v1beta1/{name}:cancel", "tuningJobs.cancel", name, json={}, idempotent=True)


def _there(session: Session, name: str) -> Session:
    """Return the session for a job's location, because each location has its own address."""
    parts = name.split("/")
    return session.at(session.environment.project, parts[3]) if len(parts) > 3 else session


def full_name(session: Session, name_or_id: str) -> str:
    """Return `projects/P/locations/L/tuningJobs/ID` for an id or a full name."""
    return session.environment.name_of("tuningJobs", name_or_id)


def _named(document: Mapping[str, Any], resource: str) -> TuningJob:
    job = from_document(document)
    if not job.id:
        raise data_loss(resource, "the answer does not name the job", method="tuningJobs")
    return job


def from_document(document: Mapping[str, Any]) -> TuningJob:
    """Read the API's JSON of a job. Unknown fields stay in `raw`."""
    spec = document.get("supervisedTuningSpec") or {}
    parameters = spec.get("hyperParameters") or {}
    tuned = document.get("tunedModel") or {}
    error = document.get("error") or {}
    metadata = document.get("tuningJobMetadata") or {}
    sizes = {name: number for number, name in _ADAPTER_SIZES.items()}
    name = str(document.get("name", ""))
    return TuningJob(
        name=name,
        id=name.rsplit("/", 1)[-1],
        state=str(document.get("state", "JOB_STATE_UNSPECIFIED")),
        detail_state=str(document.get("tuningJobState", "")),
        display_name=str(document.get("tunedModelDisplayName", "")),
        description=str(document.get("description", "")),
        base_model=str(document.get("baseModel", "")),
        custom_base_model=str(document.get("customBaseModel", "")),
        mode=str(spec.get("tuningMode", "")).removeprefix("TUNING_MODE_"),
        epochs=_integer(parameters.get("epochCount")),
        learning_rate=parameters.get("learningRate"),
        adapter_size=sizes.get(parameters.get("adapterSize", "")),
        batch_size=_integer(parameters.get("batchSize")),
        output_uri=str(document.get("outputUri", "")),
        training_dataset_uri=str(spec.get("trainingDatasetUri", "")),
        validation_dataset_uri=str(spec.get("validationDatasetUri", "")),
        labels=dict(document.get("labels") or {}),
        create_time=times.read(document.get("createTime")),
        start_time=times.read(document.get("startTime")),
        end_time=times.read(document.get("endTime")),
        error_code=_integer(error.get("code")),
        error_message=str(error.get("message", "")),
        checkpoints=tuple(
            JobCheckpoint(
                id=str(item.get("checkpointId", "")),
                epoch=_integer(item.get("epoch")) or 0,
                step=_integer(item.get("step")) or 0,
                endpoint=str(item.get("endpoint", "")),
            )
            for item in tuned.get("checkpoints") or []
        ),
        tuned_model=str(tuned.get("model", "")),
        endpoint=str(tuned.get("endpoint", "")),
        data_stats=dict((document.get("tuningDataStats") or {}).get("supervisedTuningDataStats") or {}),
        completed_epochs=_integer(metadata.get("completedEpochCount")),
        completed_steps=_integer(metadata.get("completedStepCount")),
        emulator=dict(document.get("emulator") or {}),
        raw=dict(document),
    )


def _integer(value: Any) -> int | None:
    """Return an int64, which proto JSON writes as a string."""
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _written(value: datetime.datetime | None) -> str | None:
    return times.exact(value) if value else None
