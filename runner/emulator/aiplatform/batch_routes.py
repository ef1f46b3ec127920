"""batchPredictionJobs: create, get, list, cancel, delete."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator.aiplatform import lifecycle, long_running, scope
from runner.emulator.aiplatform.batch import jobs
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.resources import listing, reading, writing
from runner.emulator.routing import ApiRequest, Method, json_response


def _name(connection: sqlite3.Connection, request: ApiRequest) -> str:
    return f"{scope.resolve(connection, request.fields).name}/batchPredictionJobs/{request.fields['job']}"


async def create(request: ApiRequest) -> Response:
    """Store a job and start it."""
    body = await request.read_json()
    now = request.emulator.clock.timestamp()
    made = await request.emulator.store.write(
        lambda connection: jobs.create(connection, scope.resolve(connection, request.fields), body, now)
    )
    lifecycle.runtime(request.emulator).batch.launch(made["name"])
    return json_response(made)


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return a job."""
    return jobs.get(connection, _name(connection, request))


@listing("batchPredictionJobs", filtered=True)
def list_jobs(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the jobs that match a filter."""
    where = scope.resolve(connection, request.fields)
    return jobs.list_jobs(connection, where, request.query_params.get("filter", ""))


async def cancel(request: ApiRequest) -> Response:
    """Cancel a job; its remaining answers are not written."""
    name = request.emulator.store.read(lambda connection: str(jobs.get(connection, _name(connection, request))["name"]))
    await lifecycle.runtime(request.emulator).batch.cancel(name)
    return json_response({})


@writing
def delete(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Delete a job that has ended; the operation is complete immediately."""
    jobs.remove(connection, _name(connection, request))
    return long_running.done(connection, request, scope.resolve(connection, request.fields).name, "Delete")


_API = "aiplatform.projects.locations.batchPredictionJobs"
_JOBS = f"{PARENT}/batchPredictionJobs"
METHODS = [
    Method(f"{_API}.create", "POST", _JOBS, create),
    Method(f"{_API}.list", "GET", _JOBS, list_jobs),
    Method(f"{_API}.get", "GET", f"{_JOBS}/{{job}}", get),
    Method(f"{_API}.cancel", "POST", f"{_JOBS}/{{job}}:cancel", cancel),
    Method(f"{_API}.delete", "DELETE", f"{_JOBS}/{{job}}", delete),
]
