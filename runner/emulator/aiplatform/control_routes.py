"""Methods that Google does not have: the live progress of a job, and the status of this emulator."""

from __future__ import annotations

import asyncio
import sqlite3
from importlib import metadata
from pathlib import Path
from typing import Any

from starlette.responses import Response

from runner.emulator.aiplatform import executor, lifecycle, tuning_events, tuning_jobs
from runner.emulator.aiplatform.tuning_routes import name_of
from runner.emulator.definitions import documents
from runner.emulator.errors import invalid
from runner.emulator.resources import reading
from runner.emulator.routing import ApiRequest, Method, json_response

MAX_LOG_BYTES = 1024 * 1024
"""Maximum size of the end of a log that is sent."""


@reading
def events(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a job's events after number `after`, oldest first: states, steps with losses, evaluations, checkpoints."""
    after = request.query_params.get("after") or "0"
    if not after.isascii() or not after.isdigit() or len(after) > 12:
        raise invalid(f"Invalid after: {after!r}; it must be the number of an event.")
    job = tuning_jobs.get(connection, name_of(connection, request))
    return {"events": tuning_events.after(connection, job["name"], int(after))}


async def log(request: ApiRequest) -> Response:
    """Return the end of the log of a job's training processes; "" if there is none yet."""
    job = request.emulator.store.read(lambda connection: tuning_jobs.get(connection, name_of(connection, request)))
    path = executor.folder_of(request.emulator, job["name"]) / "worker.log"
    return json_response({"log": await asyncio.to_thread(_end_of, path)})


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - MAX_LOG_BYTES))
            return stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""


async def status(request: ApiRequest) -> Response:
    """Return the version, the revisions of Google's definitions, running and waiting jobs, and deployments."""
    parts = lifecycle.runtime(request.emulator)
    running = parts.executor.running
    waiting = [name for name, _ in request.emulator.store.read(tuning_jobs.unfinished) if name not in running]
    return json_response(
        {
            "version": metadata.version("open-model-tuning"),
            "definitions": documents.revisions(),
            "jobsRunning": running,
            "jobsWaiting": waiting,
            "deployments": parts.deployments.running,
            "engine": request.emulator.launcher.available() or "available",
        }
    )


METHODS = [
    Method("emulator.tuningJobs.events", "GET", "/_emulator/tuningJobs/{project}/{location}/{job}/events", events),
    Method("emulator.tuningJobs.log", "GET", "/_emulator/tuningJobs/{project}/{location}/{job}/log", log),
    Method("emulator.status", "GET", "/_emulator/status", status),
]
