"""`workloadidentity.googleapis.com`: making all service agents of an API at once."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

from starlette.responses import Response

from runner.emulator import enablement, operations, projects
from runner.emulator.errors import invalid
from runner.emulator.iam import agents
from runner.emulator.resources import read, write
from runner.emulator.routing import ApiRequest, json_response
from runner.emulator.serviceusage.known import TITLES

_TYPES = "type.googleapis.com/google.cloud.workloadidentity.v1."


async def generate(request: ApiRequest) -> Response:
    """Make every service agent of a service, the tuning agent of Vertex AI among them."""
    body = await request.read_json()
    path = request.url.path.split("/v1/", 1)[-1].rsplit(":", 1)[0]
    if body.get("parent", path) != path:
        raise invalid(f"The parent {body['parent']!r} is not the one in the path.")

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        project = projects.ensure(connection, request.fields["project"])
        service = request.fields["service"]
        if service not in TITLES:
            raise invalid(f"Service producer {service} is not known.")
        enablement.require(connection, project, service)
        made = [
            {
                "principal": f"serviceAccount:{email}",
                "role": role,
                "state": "ENABLED",
                "serviceProducer": f"services/{service}",
                "container": f"projects/{project.number}",
            }
            for email, role in agents.generate(connection, project, service)
        ]
        return operations.create(
            connection,
            f"{_operations(project)}/{uuid.uuid4().hex}",
            metadata={"@type": f"{_TYPES}OperationMetadata", "apiVersion": "v1", "verb": "create"},
            response={"@type": f"{_TYPES}GenerateServiceAgentsResponse", "serviceAgents": made},
        )

    return json_response(await write(request, work))


def _operations(project: projects.Project) -> str:
    return f"projects/{project.number}/locations/global/operations"


async def get_operation(request: ApiRequest) -> Response:
    """Return an operation of this API."""

    def work(connection: sqlite3.Connection) -> dict[str, Any]:
        project = projects.resolve(connection, request.fields["project"])
        return operations.get(connection, f"{_operations(project)}/{request.fields['operation']}")

    return json_response(read(request, work))
