"""What Google has no method for: a job's progress as it happens, and what this emulator is doing."""

from __future__ import annotations

import sqlite3
from importlib import metadata
from typing import Any

from starlette.responses import Response

from runner.emulator.aiplatform import lifecycle, scope, tuning_events, tuning_jobs
from runner.emulator.errors import invalid
from runner.emulator.routing import ApiRequest, Method, json_response


async def events(request: ApiRequest) -> Response:
    """Return a job's events after number `after`, oldest first: states, steps with losses, evaluations, checkpoints."""
    after = request.query_params.get("after") or "0"
    if not after.isascii() or not after.isdigit() or len(after) > 12:
        raise invalid(f"Invalid after: {after!r}; it must be the number of an event.")

    def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        name = f"{scope.resolve(connection, request.fields).name}/tuningJobs/{request.fields['job']}"
        tuning_jobs.get(connection, name)
        return tuning_events.after(connection, name, int(after))

    return json_response({"events": request.emulator.store.read(work)})


async def status(request: ApiRequest) -> Response:
    """Return version, jobs being worked on, jobs that wait, and deployments with a process."""
    parts = lifecycle.runtime(request.emulator)
    running = parts.executor.running
    waiting = [name for name, _ in request.emulator.store.read(tuning_jobs.unfinished) if name not in running]
    return json_response(
        {
            "version": metadata.version("open-model-tuning"),
            "jobsRunning": running,
            "jobsWaiting": waiting,
            "deployments": parts.deployments.running,
            "engine": request.emulator.launcher.available() or "available",
        }
    )


METHODS = [
    Method("emulator.tuningJobs.events", "GET", "/_emulator/tuningJobs/{project}/{location}/{job}/events", events),
    Method("emulator.status", "GET", "/_emulator/status", status),
]
