"""The permissions that each method requires from a service account.

Google derives permissions SERVICE.RESOURCE.VERB from its methods (Vertex AI's reference says so for each method:
"Requires the following IAM permission"); the tables contain the exceptions. Polling an operation requires the
permission to get its resource. Storage checks in its own handlers, because the bucket's policy and the object's name
count (`storage.access`), and so do the methods that issue tokens.

Only callers with a token of a service account are checked: all others are the developer.
"""

from __future__ import annotations

import sqlite3

from runner.emulator import projects
from runner.emulator.errors import ApiError
from runner.emulator.iam import callers, policies, project_policies
from runner.emulator.routing import ApiRequest, Method

_VERTEX = "aiplatform.projects.locations"
_FREE = (
    "emulator.",
    "storage.",  # has its own check
    "oauth2.",
    "sts.",
    "iamcredentials.",  # has its own check, of the account's own policy
    "accesscontextmanager.",  # on the organization, which has no policy here
    "billingbudgets.",  # on the billing account, which has none either
    "aiplatform.publishers.",  # public
    "serviceusage.operations.",
    "cloudfunctions.projects.locations.operations.",
    "workloadidentity.projects.locations.operations.",
    f"{_VERTEX}.operations.",  # by its name, which only its creator knows
)
"""Prefixes of methods that need no permission on a project."""
_VERBS = {
    "patch": "update",
    "deployModel": "deploy",
    "undeployModel": "undeploy",
    "mutateDeployedModel": "update",
    "rawPredict": "predict",
    "streamRawPredict": "predict",
    "generateContent": "predict",
    "streamGenerateContent": "predict",
    "countTokens": "predict",
    "invoke": "predict",
    "completions": "predict",
    "listAttestationRules": "get",
    "listVersions": "list",
    "listCheckpoints": "get",
    "deleteVersion": "delete",
    "mergeVersionAliases": "update",
    "copy": "upload",
    "batchEnable": "enable",
    "batchGet": "get",
    "testIamPermissions": "",
    "run": "run",
    "exportTensorboardTimeSeries": "read",
}
"""Verbs of methods whose permission has another verb; "" requires none."""
_OTHERS: dict[str, tuple[str, ...]] = {
    f"{_VERTEX}.get": ("aiplatform.locations.get",),
    f"{_VERTEX}.list": ("aiplatform.locations.list",),
    f"{_VERTEX}.deploy": ("aiplatform.endpoints.create", "aiplatform.endpoints.deploy", "aiplatform.models.upload"),
    f"{_VERTEX}.tensorboards.batchRead": ("aiplatform.tensorboardTimeSeries.batchRead",),
    f"{_VERTEX}.recommendSpec": ("aiplatform.models.get",),
    f"{_VERTEX}.endpoints.chat.completions": ("aiplatform.endpoints.predict",),
    f"{_VERTEX}.endpoints.invoke.invoke": ("aiplatform.endpoints.predict",),
    f"{_VERTEX}.endpoints.deployedModels.invoke.invoke": ("aiplatform.endpoints.predict",),
    "aiplatform.projects.modelGardenEula.accept": ("aiplatform.models.upload",),
    "aiplatform.projects.modelGardenEula.check": ("aiplatform.models.get",),
    "cloudbilling.projects.getBillingInfo": ("resourcemanager.projects.get",),
    "cloudquotas.projects.locations.services.quotaInfos.get": ("cloudquotas.quotas.get",),
    "cloudquotas.projects.locations.services.quotaInfos.list": ("cloudquotas.quotas.get",),
    "compute.projects.get": ("compute.projects.get",),
    "compute.regions.get": ("compute.regions.get",),
    "compute.regions.list": ("compute.regions.list",),
    "iam.permissions.queryTestablePermissions": (),
    "iam.projects.serviceAccounts.undelete": ("iam.serviceAccounts.undelete",),
    "serviceusage.services.generateServiceIdentity": ("serviceusage.services.enable",),
    "workloadidentity.projects.locations.serviceProducers.generateServiceAgents": ("serviceusage.services.enable",),
}
_SERVICES = {"cloudresourcemanager": "resourcemanager"}
_KINDS = {"quotaPreferences": "quotas", "providers": "workloadIdentityPoolProviders", "keys": "serviceAccountKeys"}
_QUOTA_VERBS = {"get": "get", "list": "get", "create": "update", "patch": "update"}


def of(method: str) -> tuple[str, ...]:
    """Return the permissions that a method requires, by its ID."""
    if method in _OTHERS:
        return _OTHERS[method]
    if method.startswith(_FREE):
        return ()
    service, *rest = method.split(".")
    *path, verb = rest
    if path and path[-1] == "operations":
        path, verb = path[:-1], "get"
    kind = path[-1]
    if "tensorboards" in path[:-1]:
        kind = f"tensorboard{kind[0].upper()}{kind[1:]}"
    if kind == "quotaPreferences":
        verb = _QUOTA_VERBS[verb]
    verb = _VERBS.get(verb, verb)
    return (f"{_SERVICES.get(service, service)}.{_KINDS.get(kind, kind)}.{verb}",) if verb else ()


def require(request: ApiRequest, method: Method) -> None:
    """Return normally if the caller can call a method. Raises ApiError PERMISSION_DENIED."""
    if "authorization" in request.headers and "project" in request.fields:
        needed = of(method.id)
        if needed:
            request.emulator.store.read(lambda connection: _require(connection, request, needed))


def _require(connection: sqlite3.Connection, request: ApiRequest, needed: tuple[str, ...]) -> None:
    caller = callers.member(connection, request)
    if caller is None:
        return
    name = request.fields["project"]
    if name == "-":  # on the named account, whose policy counts
        return
    project = projects.resolve(connection, name)
    chain = [project_policies.get_policy(connection, project), *_own(connection, request)]
    for permission in needed:
        if not any(policies.has_permission(connection, policy, caller, permission) for policy in chain):
            raise callers.denied(permission, f"projects/{project.id}")


def _own(connection: sqlite3.Connection, request: ApiRequest) -> list[dict[str, object]]:
    """Return the policy of the service account in a path, which counts beside the project's."""
    from runner.emulator.iam import service_accounts

    if "account" not in request.fields or "project" not in request.fields:
        return []
    try:
        account = service_accounts.find(connection, request.fields["project"], request.fields["account"])
        return [service_accounts.policy_of(connection, account)]
    except ApiError:
        return []
