"""Stored tuning jobs: creation, state changes, lists.

A job consists of two documents with one name. `tuning-job` is the resource for clients, with the emulator's own fields
under `emulator`. `tuning-work` contains the remaining work of the executor, and exists as long as the job is
unfinished.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from runner.emulator import projects, store
from runner.emulator.aiplatform import filters, scope, tuning_experiments, tuning_validation
from runner.emulator.aiplatform.scope import Scope
from runner.emulator.definitions import documents
from runner.emulator.errors import ApiError
from runner.emulator.iam import agents

KIND = "tuning-job"
WORK = "tuning-work"
EVENT = "tuning-event"

TERMINAL = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"})


def create(connection: sqlite3.Connection, where: Scope, job: dict[str, Any], now: str) -> dict[str, Any]:
    """Store a new pending job, and return it. `job` is in canonical form.

    The first tuning job of a project creates its service agents, as on the service, without access to buckets. Raises
    ApiError like `tuning_validation.check_job`.
    """
    model, mode = tuning_validation.check_job(connection, where, job)
    projects.ensure(connection, where.project.id)
    agents.generate(connection, where.project, scope.SERVICE)
    name = f"{where.name}/tuningJobs/{scope.new_id()}"
    spec = job["supervisedTuningSpec"]
    given = spec.get("hyperParameters", {})
    parameters = {
        "epochCount": given.get("epochCount", "1"),
        "learningRate": given.get("learningRate", tuning_validation.DEFAULT_LEARNING_RATES[mode]),
    }
    if mode == "PEFT_ADAPTER":
        parameters["adapterSize"] = given.get("adapterSize", "ADAPTER_SIZE_FOUR")
    if "batchSize" in given:
        parameters["batchSize"] = given["batchSize"]
    resource = {
        **job,
        "name": name,
        "supervisedTuningSpec": {**spec, "hyperParameters": parameters, "tuningMode": f"TUNING_MODE_{mode}"},
        "state": "JOB_STATE_PENDING",
        "createTime": now,
        "updateTime": now,
    }
    if not resource.get("tunedModelDisplayName"):
        resource["tunedModelDisplayName"] = f"tuned-{model.id.rpartition('/')[2].rpartition('@')[2]}-{now[:19]}"
    store.insert(connection, KIND, name, resource)
    work = {
        "sequence": store.next_number(connection, "tuning-sequence"),
        "project": where.project.id,
        "number": where.project.number,
        "phase": "queued",
        "model": model.id,
        "mode": mode,
        "rank": tuning_validation.RANKS[parameters.get("adapterSize", "ADAPTER_SIZE_FOUR")],
        "modelId": scope.new_id(),
        "offset": 0,
        "events": 0,
        "lastStep": 0,
        "checkpoints": [],
    }
    add_event(connection, name, work, "state", now, state=resource["state"])
    store.insert(connection, WORK, name, work)
    return resource


def get(connection: sqlite3.Connection, name: str) -> dict[str, Any]:
    """Return a job. Raises ApiError NOT_FOUND."""
    return store.get(connection, KIND, name, missing=scope.missing(name))


def list_jobs(connection: sqlite3.Connection, where: Scope, text: str) -> list[dict[str, Any]]:
    """Return the jobs of a location that match a filter, newest first. Raises ApiError INVALID_ARGUMENT."""
    matches = filters.compile_filter(text, documents.fields("aiplatform.v1beta1", "TuningJob"))
    jobs = [job for _, job in store.scan(connection, KIND, f"{where.name}/tuningJobs/") if matches(job)]
    return sorted(jobs, key=lambda job: (job["createTime"], job["name"]), reverse=True)


def request_cancel(connection: sqlite3.Connection, name: str, now: str) -> bool:
    """Mark a job for cancellation; return whether it was unfinished. A finished job stays unchanged.

    Raises ApiError NOT_FOUND.
    """
    job = get(connection, name)
    work = store.find(connection, WORK, name)
    if work is None or job["state"] in TERMINAL:
        return False
    store.put(connection, WORK, name, {**work, "cancelled": True})
    store.put(connection, KIND, name, {**job, "state": "JOB_STATE_CANCELLING", "updateTime": now})
    return True


def unfinished(connection: sqlite3.Connection) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and work of every unfinished job, ordered by creation."""
    return sorted(store.scan(connection, WORK), key=lambda item: item[1]["sequence"])


def find_work(connection: sqlite3.Connection, name: str) -> dict[str, Any] | None:
    """Return the remaining work of a job; None if it is finished."""
    return store.find(connection, WORK, name)


def add_event(
    connection: sqlite3.Connection, name: str, work: dict[str, Any], kind: str, time: str, **data: Any
) -> None:
    """Store an event of a job, numbered from 1; `work` counts the events, and the caller stores it."""
    work["events"] += 1
    event = {"number": work["events"], "time": time, "kind": kind, **data}
    store.put(connection, EVENT, f"{name}/{work['events']:012d}", event)


def set_phase(connection: sqlite3.Connection, name: str, phase: str, now: str, *, detail: str) -> dict[str, Any]:
    """Move a running job to a phase; `detail` is the end of `TUNING_JOB_STATE_…`. Return its work document."""
    job = get(connection, name)
    work = {**store.get(connection, WORK, name), "phase": phase}
    state = "JOB_STATE_CANCELLING" if work.get("cancelled") else "JOB_STATE_RUNNING"
    changed = {
        **job,
        "state": state,
        "startTime": job.get("startTime", now),
        "updateTime": now,
        "tuningJobState": f"TUNING_JOB_STATE_{detail}",
    }
    if (changed["state"], changed["tuningJobState"]) != (job["state"], job.get("tuningJobState")):
        add_event(connection, name, work, "state", now, state=state, detail=changed["tuningJobState"])
    store.put(connection, WORK, name, work)
    store.put(connection, KIND, name, changed)
    return work


def set_waiting(connection: sqlite3.Connection, name: str, now: str) -> None:
    """Set the state of a pending job to waiting for quota."""
    job = get(connection, name)
    if job["state"] == "JOB_STATE_PENDING" and "tuningJobState" not in job:
        waiting = {**job, "updateTime": now, "tuningJobState": "TUNING_JOB_STATE_WAITING_FOR_QUOTA"}
        store.put(connection, KIND, name, waiting)
        work = store.get(connection, WORK, name)
        add_event(connection, name, work, "state", now, state=waiting["state"], detail=waiting["tuningJobState"])
        store.put(connection, WORK, name, work)


def update(connection: sqlite3.Connection, name: str, **fields: Any) -> None:
    """Set fields of a job's resource."""
    store.put(connection, KIND, name, {**get(connection, name), **fields})


def finish(
    connection: sqlite3.Connection, name: str, state: str, now: str, error: ApiError | None = None, **fields: Any
) -> None:
    """End a job and its work. Repeating this changes nothing."""
    job = get(connection, name)
    work = store.find(connection, WORK, name)
    if work is None:
        return
    ended = {**job, **fields, "state": state, "endTime": now, "updateTime": now}
    ended.pop("tuningJobState", None)
    if error is not None:
        ended["error"] = error.to_status()
    add_event(connection, name, work, "state", now, state=state, **({"message": error.message} if error else {}))
    tuning_experiments.end(connection, ended, now)
    store.put(connection, KIND, name, ended)
    store.remove(connection, WORK, name)
