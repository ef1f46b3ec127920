"""`workloadidentity.googleapis.com`: creates all service agents of an API at once."""

from __future__ import annotations

import sqlite3
import uuid
from typing import Any

from runner.emulator import enablement, operations, projects
from runner.emulator.errors import invalid
from runner.emulator.iam import agents
from runner.emulator.resources import reading, writing
from runner.emulator.routing import ApiRequest
from runner.emulator.serviceusage.known import TITLES

_TYPES = "type.googleapis.com/google.cloud.workloadidentity.v1."


@writing
def generate(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Create every service agent of a service, including the tuning agent of Vertex AI."""
    body = request.document
    path = request.scope["path"].split("/v1/", 1)[-1].rsplit(":", 1)[0]
    if body.get("parent", path) != path:
        raise invalid(f"The parent {body['parent']!r} is not the one in the path.")
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


def _operations(project: projects.Project) -> str:
    return f"projects/{project.number}/locations/global/operations"


@reading
def get_operation(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return an operation of this API."""
    project = projects.resolve(connection, request.fields["project"])
    return operations.get(connection, f"{_operations(project)}/{request.fields['operation']}")
