"""Stored batch prediction jobs, and the validation of new ones."""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import projects, store
from runner.emulator.aiplatform import filters, models, scope
from runner.emulator.aiplatform.scope import Scope
from runner.emulator.aiplatform.tuning_validation import check_labels, split_uri
from runner.emulator.definitions import documents
from runner.emulator.definitions.parsing import snake
from runner.emulator.errors import ApiError, found_errors, not_here

KIND = "batch-prediction-job"
TERMINAL = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED"})


def create(connection: sqlite3.Connection, where: Scope, job: dict[str, Any], now: str) -> dict[str, Any]:
    """Store a new job, pending, and return it. Raises ApiError INVALID_ARGUMENT, NOT_FOUND, UNIMPLEMENTED."""
    _check(job)
    if not job["model"].startswith("projects/"):
        raise not_here(
            "The emulator predicts in batches with registered models only (projects/P/locations/L/models/M)."
        )
    plain, _, version = job["model"].partition("@")
    source_scope, model_id = scope.split_name(connection, plain, "models")
    if source_scope != where:
        raise ApiError("INVALID_ARGUMENT", "The model and the job must be in the same project and location.")
    model = models.get(connection, f"{where.name}/models/{model_id}" + (f"@{version}" if version else ""))
    models.weights(model)
    projects.ensure(connection, where.project.id)
    name = f"{where.name}/batchPredictionJobs/{scope.new_id()}"
    times = {"createTime": now, "updateTime": now}
    stored = {
        **job,
        "name": name,
        "model": f"{where.name}/models/{model_id}",
        "modelVersionId": model["versionId"],
        "state": "JOB_STATE_PENDING",
        **times,
    }
    return store.insert(connection, KIND, name, stored)


def _check(job: dict[str, Any]) -> None:
    for field in ("displayName", "inputConfig", "outputConfig", "model"):
        if not job.get(field):
            raise found_errors(f"batch_prediction_job.{snake(field)}", "Required field is not set.")
    check_labels(job.get("labels", {}))
    given, wanted = job["inputConfig"], job["outputConfig"]
    if given.get("instancesFormat") != "jsonl" or wanted.get("predictionsFormat") != "jsonl":
        raise not_here("The emulator reads and writes instances and predictions as jsonl only.")
    uris = given.get("gcsSource", {}).get("uris", [])
    prefix = wanted.get("gcsDestination", {}).get("outputUriPrefix", "")
    if not uris or not prefix:
        raise not_here("The emulator reads instances from gcs_source and writes predictions to gcs_destination only.")
    for uri in uris:
        split_uri(uri, "gcs_source.uris")
    split_uri(prefix, "gcs_destination.output_uri_prefix")


def get(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """Return a job. Raises ApiError NOT_FOUND."""
    return store.get(connection, KIND, name, missing=f"The BatchPredictionJob {name} is not found.")


def list_jobs(connection: sqlite3.Connection, where: Scope, text: str) -> list[dict[str, Any]]:
    """Return the jobs of a location that match a filter, newest first. Raises ApiError INVALID_ARGUMENT."""
    matches = filters.compile_filter(text, documents.fields("aiplatform.v1beta1", "BatchPredictionJob"))
    jobs = [job for _, job in store.scan(connection, KIND, f"{where.name}/batchPredictionJobs/") if matches(job)]
    return sorted(jobs, key=lambda job: (job["createTime"], job["name"]), reverse=True)


def unfinished(connection: sqlite3.Connection) -> list[str]:
    """Return the names of the jobs that have not ended, oldest first."""
    found = [job for _, job in store.scan(connection, KIND) if job["state"] not in TERMINAL]
    return [job["name"] for job in sorted(found, key=lambda job: str(job["createTime"]))]


def change(connection: sqlite3.Connection, name: str, now: str, **fields: Any) -> dict[str, Any]:
    """Set fields of a job and return it; a job that has ended stays unchanged. Raises ApiError NOT_FOUND."""
    job = get(connection, name)
    if job["state"] in TERMINAL:
        return job
    return store.put(connection, KIND, name, {**job, **fields, "updateTime": now})


def remove(connection: sqlite3.Connection, name: str) -> None:
    """Delete a job that has ended. Raises ApiError NOT_FOUND, FAILED_PRECONDITION."""
    if get(connection, name)["state"] not in TERMINAL:
        raise ApiError("FAILED_PRECONDITION", f"The BatchPredictionJob {name} has not ended: cancel it first.")
    store.remove(connection, KIND, name)
