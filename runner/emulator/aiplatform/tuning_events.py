"""Copies the events of a training process from its file into the store, each line once, even after kills.

The position in the file and the stored events change in one transaction. A resumed process repeats the steps since its
last saved state; these are recognized by their numbers and not stored again.
"""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from runner.emulator import store
from runner.emulator.aiplatform import tuning_jobs
from runner.emulator.clock import Clock

_MAX_READ = 4 * 1024 * 1024


def read_new(path: Path, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Return the complete lines after `offset` bytes, and the offset after them. A damaged line is skipped."""
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(_MAX_READ)
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    events: list[dict[str, Any]] = []
    for line in data[:end].splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            events.append(event)
    return events, offset + end


def ingest(connection: sqlite3.Connection, name: str, path: Path, clock: Clock) -> dict[str, Any]:
    """Store the new events of a job; return its work document."""
    work = store.get(connection, tuning_jobs.WORK, name)
    events, offset = read_new(path, work["offset"])
    if offset == work["offset"]:
        return work
    job = tuning_jobs.get(connection, name)
    for event in events:
        _apply(connection, name, event, work, job, clock)
    work["offset"] = offset
    store.put(connection, tuning_jobs.WORK, name, work)
    store.put(connection, tuning_jobs.KIND, name, {**job, "updateTime": clock.timestamp()})
    return work


def _apply(
    connection: sqlite3.Connection,
    name: str,
    event: dict[str, Any],
    work: dict[str, Any],
    job: dict[str, Any],
    clock: Clock,
) -> None:
    kind = event["event"]
    # The step, evaluation and checkpoint of one step have this order; only later ones than the last of their kind are
    # new.
    reached = work.setdefault("reached", {})
    if "step" in event and kind not in ("done", "resumed"):
        if event["step"] <= reached.get(kind, -1):
            return
        reached[kind] = event["step"]
    elif kind == "dataset" and "dataset" in reached:
        return
    elif kind == "dataset":
        reached["dataset"] = 0
    data = {key: value for key, value in event.items() if key not in ("event", "time", "number", "kind")}
    tuning_jobs.add_event(connection, name, work, kind, clock.stamp(event.get("time")), **data)
    if kind == "dataset":
        _apply_dataset(event, job)
    elif kind == "step":
        work["lastStep"] = event["step"]
        progress = job.setdefault("tuningJobMetadata", {})
        progress |= {"completedStepCount": str(event["step"]), "completedEpochCount": str(int(event.get("epoch", 0)))}
    elif kind == "checkpoint":
        fields = ("id", "epoch", "step", "path")
        work["checkpoints"].append({field: event[field] for field in fields if field in event})
    elif kind == "done":
        work["done"] = event
    elif kind == "failed":
        work["failed"] = event


_OF_WEIGHTS = ("standIn", "weights", "learningRateScale", "peakLearningRate", "ownTokenizer")
"""The data about the trained weights that a job shows."""


def _apply_dataset(event: dict[str, Any], job: dict[str, Any]) -> None:
    extra = {"event", "time", "baseModel", *_OF_WEIGHTS}
    # A process can nest the statistics, or put them beside its own fields.
    statistics = event.get("statistics") or {key: value for key, value in event.items() if key not in extra}
    job["tuningDataStats"] = {"supervisedTuningDataStats": statistics.get("supervisedTuningDataStats", statistics)}
    emulator = job.setdefault("emulator", {})
    emulator |= {key: event[key] for key in _OF_WEIGHTS if key in event}


def after(connection: sqlite3.Connection, name: str, number: int, limit: int = 10_000) -> list[dict[str, Any]]:
    """Return the stored events of a job with numbers greater than `number`, oldest first."""
    rows = connection.execute(
        "SELECT body FROM documents WHERE kind = ? AND name > ? AND name < ? ORDER BY name LIMIT ?",
        (tuning_jobs.EVENT, f"{name}/{number:012d}", f"{name}/~", limit),
    )
    return [json.loads(body) for (body,) in rows.fetchall()]
