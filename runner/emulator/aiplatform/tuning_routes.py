"""tuningJobs: create, get, list, cancel."""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator.aiplatform import lifecycle, scope, tuning_jobs
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.resources import listing, reading
from runner.emulator.routing import ApiRequest, Method, json_response


async def create(request: ApiRequest) -> Response:
    """Store a job and notify the executor."""
    job = await request.read_json()
    emulator = request.emulator
    created = await emulator.store.write(
        lambda connection: tuning_jobs.create(
            connection, scope.resolve(connection, request.fields), job, emulator.clock.timestamp()
        )
    )
    lifecycle.runtime(emulator).executor.wake()
    return json_response(created)


def name_of(connection: sqlite3.Connection, request: ApiRequest) -> str:
    """Return the full name of the job in a path. Raises ApiError."""
    return f"{scope.resolve(connection, request.fields).name}/tuningJobs/{request.fields['job']}"


@reading
def get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return one job."""
    return tuning_jobs.get(connection, name_of(connection, request))


@listing("tuningJobs", filtered=True)
def list_jobs(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, Any]]:
    """Return one page of the jobs that match a filter."""
    where = scope.resolve(connection, request.fields)
    return tuning_jobs.list_jobs(connection, where, request.query_params.get("filter", ""))


async def cancel(request: ApiRequest) -> Response:
    """Cancel a job, which has the state CANCELLING first. A finished job stays unchanged."""
    emulator = request.emulator
    name = emulator.store.read(lambda connection: name_of(connection, request))
    now = emulator.clock.timestamp()
    if await emulator.store.write(lambda connection: tuning_jobs.request_cancel(connection, name, now)):
        lifecycle.runtime(emulator).executor.cancel(name)
    return json_response({})


METHODS = [
    Method("aiplatform.projects.locations.tuningJobs.create", "POST", f"{PARENT}/tuningJobs", create),
    Method("aiplatform.projects.locations.tuningJobs.list", "GET", f"{PARENT}/tuningJobs", list_jobs),
    Method("aiplatform.projects.locations.tuningJobs.get", "GET", f"{PARENT}/tuningJobs/{{job}}", get),
    Method("aiplatform.projects.locations.tuningJobs.cancel", "POST", f"{PARENT}/tuningJobs/{{job}}:cancel", cancel),
]
