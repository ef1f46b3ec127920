"""`serviceusage.googleapis.com`: /v1 for services, /v1beta1 for service identities, both for either."""

from __future__ import annotations

import re
import sqlite3
import uuid
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from runner.emulator import enablement, operations, projects
from runner.emulator.errors import ApiError, invalid
from runner.emulator.iam import agents
from runner.emulator.projects import Project
from runner.emulator.resources import methods, page, reading, writing
from runner.emulator.routing import ApiRequest
from runner.emulator.serviceusage.known import TITLES, dependencies, dependents

_TYPES = "type.googleapis.com/google.api.serviceusage."
_MAX_BATCH = 20
_MAX_PAGE = 200
_EMPTY = "type.googleapis.com/google.protobuf.Empty"
_NOOP = "operations/noop.DONE_OPERATION"
_FILTER = re.compile(r"\s*state\s*[:=]\s*(ENABLED|DISABLED)\s*\Z", re.IGNORECASE)


def _service(connection: sqlite3.Connection, project: Project, name: str) -> dict[str, Any]:
    _known([name])
    state = "ENABLED" if enablement.is_enabled(connection, project, name) else "DISABLED"
    parent = f"projects/{project.number}"
    config = {"name": name, "title": TITLES[name]}
    return {"name": f"{parent}/services/{name}", "parent": parent, "config": config, "state": state}


def _known(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in TITLES]
    if unknown:
        message = f"Not found or permission denied for service(s): {', '.join(unknown)}."
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "SERVICE_CONFIG_NOT_FOUND_OR_PERMISSION_DENIED",
            "domain": "serviceusage.googleapis.com",
            "metadata": {"services": ",".join(unknown)},
        }
        raise ApiError("PERMISSION_DENIED", message, details=[info])


async def list_services(request: ApiRequest) -> Response:
    """List services by state, ordered by name."""
    query = request.query_params
    wanted = None
    if query.get("filter"):
        match = _FILTER.match(query["filter"])
        if match is None:
            raise invalid("The filter must be 'state:ENABLED' or 'state:DISABLED'.")
        wanted = match.group(1).upper()

    def work(connection: sqlite3.Connection) -> list[dict[str, Any]]:
        project = projects.resolve(connection, request.fields["project"])
        found = [_service(connection, project, name) for name in sorted(TITLES)]
        return [service for service in found if wanted in (None, service["state"])]

    size = query.get("pageSize") or "0"
    if int(size) > _MAX_PAGE:
        raise invalid(f"The page size must not exceed {_MAX_PAGE}.")
    return page(request, "services", request.emulator.store.read(work), default=50, maximum=_MAX_PAGE)


@reading
def get_service(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return one service with its state."""
    return _service(connection, projects.resolve(connection, request.fields["project"]), request.fields["service"])


@reading
def batch_get(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return up to 30 services by name."""
    names = [name.rsplit("/", 1)[-1] for name in request.query_params.getlist("names")]
    if not names or len(names) > 30:
        raise invalid("names must hold between 1 and 30 services.")
    project = projects.resolve(connection, request.fields["project"])
    return {"services": [_service(connection, project, name) for name in names]}


def _enable(connection: sqlite3.Connection, project: Project, names: Sequence[str]) -> bool:
    """Enable or disable services and their dependencies; return whether anything changed."""
    _known(names)
    projects.ensure(connection, project.id)
    changed = False
    for name in [needed for wanted in names for needed in dependencies(wanted)]:
        if not enablement.is_enabled(connection, project, name):
            enablement.set_state(connection, project, name, enabled=True)
            changed = True
            if name == agents.AIPLATFORM:
                agents.generate_primary(connection, project, name)
    return changed


def _operation(
    connection: sqlite3.Connection, project: Project, names: Sequence[str], response: dict[str, Any]
) -> dict[str, Any]:
    name = f"operations/acf.p2-{project.number}-{uuid.uuid4()}"
    resources = [f"services/{service}/projectSettings/{project.number}" for service in names]
    metadata = {"@type": f"{_TYPES}v1.OperationMetadata", "resourceNames": resources}
    return operations.create(connection, name, metadata=metadata, response=response)


@writing
def enable(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Enable one service."""
    project = projects.resolve(connection, request.fields["project"])
    name = request.fields["service"]
    changed = _enable(connection, project, [name])
    response = {"@type": f"{_TYPES}v1.EnableServiceResponse", "service": _service(connection, project, name)}
    if not changed:
        return {"name": _NOOP, "done": True, "response": response}
    return _operation(connection, project, [name], response)


@writing
def batch_enable(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Enable up to 20 services, all or none."""
    names = request.document.get("serviceIds", [])
    if not names or len(names) > _MAX_BATCH:
        raise invalid(f"service_ids must hold between 1 and {_MAX_BATCH} services.")
    project = projects.resolve(connection, request.fields["project"])
    changed = _enable(connection, project, names)
    services = [_service(connection, project, name) for name in names]
    response = {"@type": f"{_TYPES}v1.BatchEnableServicesResponse", "services": services}
    if not changed:
        return {"name": _NOOP, "done": True, "response": response}
    return _operation(connection, project, names, response)


@writing
def disable(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Disable a service, with those that depend on it if requested."""
    body = request.document
    project = projects.resolve(connection, request.fields["project"])
    name = request.fields["service"]
    _known([name])
    above = [other for other in dependents(name) if enablement.is_enabled(connection, project, other)]
    if above and not body.get("disableDependentServices"):
        raise _has_dependents(name, above)
    for service in [*above, name]:
        enablement.set_state(connection, project, service, enabled=False)
    response = {"@type": f"{_TYPES}v1.DisableServiceResponse", "service": _service(connection, project, name)}
    return _operation(connection, project, [name], response)


def _has_dependents(name: str, above: Sequence[str]) -> ApiError:
    message = (
        f"The service {name} is depended on by the following active service(s): {','.join(above)}; "
        "Please specify disable_dependent_services=true if you want to proceed with disabling all services."
    )
    violation = {"type": "SERVICE_USAGE_DEPENDENCY", "subject": name, "description": message}
    detail = {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]}
    return ApiError("FAILED_PRECONDITION", message, details=[detail])


@writing
def generate_identity(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create the primary service agent of a service."""
    project = projects.ensure(connection, request.fields["project"])
    name = request.fields["service"]
    _known([name])
    email = agents.generate_primary(connection, project, name)
    identity = {"email": email, "uniqueId": agents.unique_id(email)}
    response = {"@type": f"{_TYPES}v1beta1.ServiceIdentity", **identity}
    return _operation(connection, project, [name], response)


@reading
def get_operation(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return an operation of Service Usage."""
    name = f"operations/{request.fields['operation']}"
    if name == _NOOP:
        return {"name": name, "done": True, "response": {"@type": _EMPTY}}
    return operations.get(connection, name)


_SERVICE = "/projects/{project}/services/{service}"

METHODS = methods(
    ["/{v=v1|v1beta1}"],
    [
        ("serviceusage.services.list", "GET", "/projects/{project}/services", list_services),
        ("serviceusage.services.batchGet", "GET", "/projects/{project}/services:batchGet", batch_get),
        ("serviceusage.services.get", "GET", _SERVICE, get_service),
        ("serviceusage.services.batchEnable", "POST", "/projects/{project}/services:batchEnable", batch_enable),
        ("serviceusage.services.enable", "POST", f"{_SERVICE}:enable", enable),
        ("serviceusage.services.disable", "POST", f"{_SERVICE}:disable", disable),
        (
            "serviceusage.services.generateServiceIdentity",
            "POST",
            f"{_SERVICE}:generateServiceIdentity",
            generate_identity,
        ),
        (
            "serviceusage.operations.get",
            "GET",
            "/operations/{operation=acf\\.[^/:]+|noop\\.DONE_OPERATION}",
            get_operation,
        ),
    ],
)
