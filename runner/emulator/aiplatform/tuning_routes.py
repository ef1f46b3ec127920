"""tuningJobs: create, get, list, cancel."""

from __future__ import annotations

from starlette.responses import Response

from runner.emulator.aiplatform import collections, lifecycle, scope, tuning_jobs
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.routing import ApiRequest, Method, json_response


async def create(request: ApiRequest) -> Response:
    """Store a job and wake the executor."""
    job = await request.read_json()
    emulator = request.emulator
    created = await emulator.store.write(
        lambda connection: tuning_jobs.create(
            connection, scope.resolve(connection, request.fields), job, emulator.clock.timestamp()
        )
    )
    lifecycle.runtime(emulator).executor.wake()
    return json_response(created)


async def get(request: ApiRequest) -> Response:
    """Return one job."""
    return json_response(
        request.emulator.store.read(
            lambda connection: tuning_jobs.get(
                connection, f"{scope.resolve(connection, request.fields).name}/tuningJobs/{request.fields['job']}"
            )
        )
    )


async def list_jobs(request: ApiRequest) -> Response:
    """Return one page of the jobs that match a filter."""
    query = request.query_params
    jobs = request.emulator.store.read(
        lambda connection: tuning_jobs.list_jobs(
            connection, scope.resolve(connection, request.fields), query.get("filter", "")
        )
    )
    return collections.page(request, "tuningJobs", jobs)


async def cancel(request: ApiRequest) -> Response:
    """Ask for the end of a job; it goes through CANCELLING. A finished job stays as it is."""
    emulator = request.emulator
    name = emulator.store.read(
        lambda connection: f"{scope.resolve(connection, request.fields).name}/tuningJobs/{request.fields['job']}"
    )
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
