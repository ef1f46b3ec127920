"""`cloudresourcemanager.googleapis.com` v1 and v3, and the billing account of a project.

Projects can be read and their policies changed. They are neither created nor deleted, because every ID is a project.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from starlette.responses import Response

from runner.emulator import projects, store
from runner.emulator.iam import callers, policies, project_policies
from runner.emulator.resources import methods, reading, writing
from runner.emulator.routing import ApiRequest, json_response

BILLING_ACCOUNT = "billingAccounts/000000-000000-000000"
"""The only billing account, to which every project is linked."""


async def _recorded(request: ApiRequest) -> tuple[projects.Project, dict[str, Any]]:
    """Return a project and its document, which is stored at the first request so that its number leads back to it."""
    name = request.fields["project"]

    def look(connection: sqlite3.Connection) -> tuple[projects.Project, dict[str, Any] | None]:
        project = projects.resolve(connection, name)
        return project, store.find(connection, projects.KIND, project.id)

    store_ = request.emulator.store
    project, document = store_.read(look)
    if document is None:
        await store_.write(lambda connection: projects.ensure(connection, name))
        project, document = store_.read(look)
    assert document is not None, "ensure has just written it"  # noqa: S101
    return project, document


async def get_v1(request: ApiRequest) -> Response:
    """Return a project in the format of v1 and v1beta1."""
    project, document = await _recorded(request)
    return json_response(
        {
            "projectNumber": project.number,
            "projectId": project.id,
            "lifecycleState": "ACTIVE",
            "name": project.id,
            "createTime": document["createTime"],
        }
    )


async def get_v3(request: ApiRequest) -> Response:
    """Return a project in the format of v3."""
    project, document = await _recorded(request)
    return json_response(
        {
            "name": f"projects/{project.number}",
            "projectId": project.id,
            "state": "ACTIVE",
            "displayName": project.id,
            "createTime": document["createTime"],
            "updateTime": document["createTime"],
            "etag": policies.empty(project.id)["etag"],
        }
    )


@reading
def billing_info(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return the billing account of a project."""
    project = projects.resolve(connection, request.fields["project"])
    return {
        "name": f"projects/{project.id}/billingInfo",
        "projectId": project.id,
        "billingAccountName": BILLING_ACCOUNT,
        "billingEnabled": True,
    }


@reading
def get_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return the project's IAM policy."""
    return project_policies.get_policy(connection, projects.resolve(connection, request.fields["project"]))


@writing
def set_policy(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Replace the project's IAM policy."""
    project = projects.resolve(connection, request.fields["project"])
    return project_policies.set_policy(connection, project, request.document)


@reading
def test_permissions(connection: sqlite3.Connection, request: ApiRequest) -> dict[str, Any]:
    """Return the given permissions that the caller has on the project."""
    project = projects.resolve(connection, request.fields["project"])
    return callers.permissions(connection, request, [project_policies.get_policy(connection, project)])


METHODS = [
    *methods(
        ["/{v=v1|v1beta1}"],
        [
            ("cloudresourcemanager.projects.get", "GET", "/projects/{project}", get_v1),
            ("cloudbilling.projects.getBillingInfo", "GET", "/projects/{project}/billingInfo", billing_info),
        ],
    ),
    *methods(["/v3"], [("cloudresourcemanager.projects.get", "GET", "/projects/{project}", get_v3)]),
    *methods(
        ["/{v=v1|v1beta1|v3}"],
        [
            ("cloudresourcemanager.projects.getIamPolicy", "POST", "/projects/{project}:getIamPolicy", get_policy),
            ("cloudresourcemanager.projects.setIamPolicy", "POST", "/projects/{project}:setIamPolicy", set_policy),
            (
                "cloudresourcemanager.projects.testIamPermissions",
                "POST",
                "/projects/{project}:testIamPermissions",
                test_permissions,
            ),
        ],
    ),
]
