"""A tuning job's resources in ML Metadata and TensorBoard, as on the service and as Google's SDK expects them.

    metadataStores/default/contexts/E          the experiment (`system.Experiment`) in the job's `experiment` field
    metadataStores/default/contexts/E-R        its run (`system.ExperimentRun`), a child of it
    metadataStores/default/artifacts/E-R-tb-run  the location of the run's curves
    tensorboards/T/experiments/E/runs/R        the curves, in the default TensorBoard of the region

E is `tuning-experiment-TIME`, R is `tuning-experiment-run-TIME`.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from runner.emulator import store
from runner.emulator.aiplatform import scope

STORE = "metadata-store"
CONTEXT = "metadata-context"
ARTIFACT = "metadata-artifact"
TENSORBOARD = "tensorboard"
EXPERIMENT = "tensorboard-experiment"
RUN = "tensorboard-run"
_JOB = "tensorboard-run-job"
"""The job of a run, whose events are the run's curves."""

_STATES = {"JOB_STATE_SUCCEEDED": "COMPLETE", "JOB_STATE_FAILED": "FAILED", "JOB_STATE_CANCELLED": "CANCELLED"}
_PREFIX = "tuning-experiment-"
_END = "-tb-run"
_SCHEMA = {"schemaVersion": "0.0.1"}

Document = dict[str, Any]


def create(connection: sqlite3.Connection, job: Document, region: str, now: str) -> str:
    """Create the experiment of a job that starts; return its name, or that of its existing experiment."""
    if "experiment" in job:
        return str(job["experiment"])
    where = f"projects/{job['name'].split('/')[1]}/locations/{region}"
    metadata = f"{where}/metadataStores/default"
    digits = int(re.sub(r"\D", "", now))
    while store.find(connection, CONTEXT, f"{metadata}/contexts/{_PREFIX}{digits}") is not None:
        digits += 1
    experiment, run = f"{_PREFIX}{digits}", f"{_PREFIX}run-{digits}"
    times = {"createTime": now, "updateTime": now}
    board = _default_tensorboard(connection, where, now)
    curves = f"{board}/experiments/{experiment}/runs/{run}"
    name = f"{metadata}/contexts/{experiment}"
    documents: dict[tuple[str, str], Document] = {
        (STORE, metadata): {"state": {}},
        (CONTEXT, name): {
            "displayName": experiment,
            "schemaTitle": "system.Experiment",
            **_SCHEMA,
            "metadata": {"experiment_deleted": False, "backing_tensorboard_resource": board},
        },
        (CONTEXT, f"{name}-{run}"): {
            "displayName": run,
            "parentContexts": [name],
            "schemaTitle": "system.ExperimentRun",
            **_SCHEMA,
            "metadata": {"_params": _parameters(job), "_metrics": {}, "_state": "RUNNING"},
        },
        (ARTIFACT, f"{metadata}/artifacts/{experiment}-{run}{_END}"): {
            "displayName": f"{experiment}-{run}{_END}",
            "uri": f"https://{region}-aiplatform.googleapis.com/v1/{curves}",
            "state": "LIVE",
            "schemaTitle": "google.VertexTensorboardRun",
            **_SCHEMA,
            "metadata": {"vertex_experiment_tracking": True, "resourceName": curves},
        },
        (EXPERIMENT, f"{board}/experiments/{experiment}"): {
            "displayName": experiment,
            "labels": {"vertex_tensorboard_experiment_source": "vertex_experiment"},
        },
        (RUN, curves): {"displayName": run},
    }
    for (kind, key), body in documents.items():
        if store.find(connection, kind, key) is None:
            store.put(connection, kind, key, {"name": key, **body, **times})
    store.put(connection, _JOB, curves, {"job": job["name"]})
    return name


def _default_tensorboard(connection: sqlite3.Connection, where: str, now: str) -> str:
    found = [name for name, board in store.scan(connection, TENSORBOARD, f"{where}/tensorboards/")]
    if found:
        return found[0]
    name = f"{where}/tensorboards/{scope.new_id()}"
    body = {"name": name, "displayName": f"Default Tensorboard {now}", "isDefault": True}
    store.put(connection, TENSORBOARD, name, {**body, "createTime": now, "updateTime": now})
    return name


def _parameters(job: Document) -> Document:
    """Return the hyperparameters with numbers as numbers."""
    given = job["supervisedTuningSpec"]["hyperParameters"]
    return {key: int(value) if str(value).isdigit() else value for key, value in given.items()}


def end(connection: sqlite3.Connection, job: Document, now: str) -> None:
    """Record the result of a job in its run, if there is one."""
    name = str(job.get("experiment", ""))
    run = f"{name}-{_PREFIX}run-{name.rpartition('-')[2]}"
    found = store.find(connection, CONTEXT, run)
    if found is not None:
        found["metadata"]["_state"] = _STATES.get(job["state"], "STATE_UNSPECIFIED")
        store.put(connection, CONTEXT, run, {**found, "updateTime": now})


def job_of(connection: sqlite3.Connection, run: str) -> str:
    """Return the name of the job for a run's curves. Raises ApiError NOT_FOUND."""
    return str(store.get(connection, _JOB, run, missing=f"The TensorboardRun {run} does not exist.")["job"])


def context_of(artifact: str) -> str:
    """Return the name of the context of an artifact."""
    return artifact.replace("/artifacts/", "/contexts/").removesuffix(_END)


def remove(connection: sqlite3.Connection, kind: str, name: str, *, missing: str) -> None:
    """Delete a document and all documents below it. Raises ApiError NOT_FOUND."""
    store.get(connection, kind, name, missing=missing)
    store.remove(connection, kind, name)
    for below in (EXPERIMENT, RUN, _JOB):
        for key, _ in store.scan(connection, below, name):
            if key == name or key.startswith(f"{name}/"):
                store.remove(connection, below, key)
