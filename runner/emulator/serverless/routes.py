"""Functions, their invokers and schedules: each with its own prefix."""

from __future__ import annotations

from runner.emulator.resources import methods
from runner.emulator.routing import Method
from runner.emulator.serverless import functions, schedules

_AT = "/projects/{project}/locations/{location}"
_FUNCTIONS = f"{_AT}/functions"
_FUNCTION = f"{_FUNCTIONS}/{{function}}"
_SERVICE = f"{_AT}/services/{{function}}"
_JOBS = f"{_AT}/jobs"
_FUNCTION_ID = "cloudfunctions.projects.locations.functions"
_JOB_ID = "cloudscheduler.projects.locations.jobs"

METHODS: list[Method] = [
    *methods(
        ["/functions/v2"],
        [
            (f"{_FUNCTION_ID}.create", "POST", _FUNCTIONS, functions.create),
            (f"{_FUNCTION_ID}.list", "GET", _FUNCTIONS, functions.list_functions),
            (f"{_FUNCTION_ID}.get", "GET", _FUNCTION, functions.get),
            (f"{_FUNCTION_ID}.patch", "PATCH", _FUNCTION, functions.patch),
            (f"{_FUNCTION_ID}.delete", "DELETE", _FUNCTION, functions.delete),
            (
                "cloudfunctions.projects.locations.operations.get",
                "GET",
                f"{_AT}/operations/{{operation}}",
                functions.get_operation,
            ),
        ],
    ),
    *methods(
        ["/run/v2"],
        [
            ("run.projects.locations.services.getIamPolicy", "GET", f"{_SERVICE}:getIamPolicy", functions.POLICY.get),
            ("run.projects.locations.services.setIamPolicy", "POST", f"{_SERVICE}:setIamPolicy", functions.POLICY.set),
        ],
    ),
    *methods(
        ["/scheduler/v1"],
        [
            (f"{_JOB_ID}.create", "POST", _JOBS, schedules.create),
            (f"{_JOB_ID}.list", "GET", _JOBS, schedules.list_jobs),
            (f"{_JOB_ID}.run", "POST", f"{_JOBS}/{{job}}:run", schedules.run_now),
            (f"{_JOB_ID}.get", "GET", f"{_JOBS}/{{job}}", schedules.get),
            (f"{_JOB_ID}.patch", "PATCH", f"{_JOBS}/{{job}}", schedules.patch),
            (f"{_JOB_ID}.delete", "DELETE", f"{_JOBS}/{{job}}", schedules.delete),
        ],
    ),
]
