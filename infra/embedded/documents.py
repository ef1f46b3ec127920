"""Types that are one document at one address: create, get, patch, delete."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from infra.embedded.resource_type import Context, Inputs, Live, ResourceType, without_none
from infra.embedded.rest import EmbeddedError, RequestError
from infra.naming import stackless
from infra.plain_values import plain


def pick(inputs: Inputs, *names: str) -> dict[str, Any]:
    """Return the named inputs that are set; the API spells them as Pulumi does."""
    return {name: inputs[name] for name in names if inputs.get(name) is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentType(ResourceType):
    """A type whose resources are created in a collection and live at `{collection}/{id}`."""

    token: str
    service: str
    collection: Callable[[Inputs], str]
    document: Callable[[Inputs], dict[str, Any]]
    prefix: str = ""
    """API version, if the service's address does not contain it."""
    id_parameter: str | None = None
    """Query parameter for the ID; without it, the server chooses the ID."""
    id_of: Callable[[Inputs], str] = lambda inputs: ""
    create_body: Callable[[Inputs, dict[str, Any]], dict[str, Any]] = lambda inputs, body: body
    """Returns what is posted, if that differs from the body."""
    address: Callable[[Inputs, str], str] | None = None
    """Returns the resource's address, if that is not `{collection}/{id}`."""
    long_running: bool = False
    update_mask: bool = True
    fixed: frozenset[str] = frozenset()
    labelled: bool = False
    deletable: bool = True
    delete_parameters: tuple[tuple[str, str], ...] = ()
    extra_outputs: Callable[[Inputs, Live], dict[str, Any]] = lambda inputs, live: {}
    listed: str = ""
    """Name of the members in a list response, if the server chooses the IDs: a lost resource is found by its title."""
    title: str = "displayName"

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return the document."""
        return self.document(inputs)

    @property
    def refused(self) -> bool:  # type: ignore[override]
        """Return False if the service chooses the IDs: it would create a second resource instead of refusing."""
        return not self.listed

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Post it. Raises RequestError with 409 if its name is taken."""
        body = self.create_body(inputs, self.body(inputs))
        params = {self.id_parameter: self.id_of(inputs)} if self.id_parameter else None
        answer = context.rest.call(self.service, "POST", self.prefix + self.collection(inputs), body, params=params)
        if self.long_running:
            answer = context.rest.wait(self.service, answer)
        made = self.read(context, self.named(inputs) or str(answer.get("name", "")), inputs)
        if made is None:
            raise EmbeddedError(f"{self.token} was created and is not there")
        return made

    def find(self, context: Context, inputs: Inputs) -> Live | None:
        """Return the resource with its name, deleted or not, or with its title if the server chooses names."""
        if not self.listed:
            body = context.rest.find(self.service, self.prefix + self.named(inputs))
            return None if body is None else Live(self.named(inputs), body)
        all_ = context.rest.items(self.service, self.prefix + self.collection(inputs), self.listed)
        lives = (Live(str(item["name"]), item) for item in all_)
        return next((live for live in lives if self.owned(inputs, live)), None)

    def owned(self, inputs: Inputs, live: Live) -> bool:
        """Count a deleted resource of any stack as owned: nobody uses it, and its ID is available in no other way."""
        if not _deleted(live.body):
            return ResourceType.owned(self, inputs, live)  # classes with slots are created twice, so super() fails
        return bool(stackless(live.body.get(self.title)) == stackless(inputs.get(self.title)))

    def claim(self, context: Context, inputs: Inputs) -> str:
        """Say if the resource was deleted."""
        said = ResourceType.claim(self, context, inputs)
        live = self.find(context, inputs) if said else None
        kept = "was deleted, and the service keeps its ID for a while"
        return said.replace("exists", kept) if live and _deleted(live.body) else said

    def restored(self, context: Context, inputs: Inputs, live: Live) -> Live:
        """Restore it if it was deleted."""
        if not _deleted(live.body):
            return live
        operation = context.rest.call(self.service, "POST", f"{self.prefix}{live.id}:undelete", {})
        if self.long_running:
            context.rest.wait(self.service, operation)
        return self.read(context, live.id, inputs) or live

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Get it. A deleted resource that the service keeps for restoring counts as gone."""
        body = context.rest.find(self.service, self.prefix + id_) if id_ else None
        return None if body is None or _deleted(body) else Live(id_, body)

    def update(self, context: Context, live: Live, inputs: Inputs, changes: dict[str, Any]) -> Live:
        """Patch the fields that differ."""
        fields = without_none(changes)
        params = {"updateMask": ",".join(sorted(changes))} if self.update_mask else None
        answer = context.rest.call(
            self.service, "PATCH", self.prefix + live.id, self._patch(live, fields), params=params
        )
        if self.long_running and "done" in answer:
            context.rest.wait(self.service, answer)
        return self.read(context, live.id, inputs) or live

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Delete it."""
        if not self.deletable:
            return False
        try:
            answer = context.rest.call(self.service, "DELETE", self.prefix + id_, params=dict(self.delete_parameters))
        except RequestError as error:
            if error.http == httpx.codes.NOT_FOUND:
                return True
            raise
        if self.long_running and "name" in answer:
            context.rest.wait(self.service, answer)
        return True

    def outputs(self, inputs: Inputs, live: Live) -> dict[str, Any]:
        """Return the inputs and the values that the service chose."""
        return {**inputs, **self.extra_outputs(inputs, live)}

    def named(self, inputs: Inputs) -> str:
        """Return its ID if the program chooses it, or "" if the service does."""
        if self.address:
            return self.address(inputs, self.id_of(inputs))
        return f"{self.collection(inputs)}/{self.id_of(inputs)}" if self.id_of(inputs) else ""

    def _patch(self, live: Live, fields: dict[str, Any]) -> dict[str, Any]:
        # Without a mask, the request replaces the whole document, so unchanged fields must be sent too.
        return fields if self.update_mask else {**live.body, **fields}


def _deleted(body: dict[str, Any]) -> bool:
    """Return whether a resource is deleted but keeps its ID for a while, and can be restored."""
    return body.get("state") == "DELETED" or bool(body.get("deleted"))


def _named(inputs: Inputs, live: Live) -> dict[str, Any]:
    return {"name": live.body.get("name", live.id)}


def _endpoint_body(inputs: Inputs) -> dict[str, Any]:
    """Return an endpoint as Vertex AI spells it: the provider has a plural where the API has none."""
    names = ("displayName", "description", "labels", "dedicatedEndpointEnabled", "encryptionSpec")
    private = inputs.get("privateServiceConnectConfig")
    if private is None:
        return pick(inputs, *names)
    config = {"projectAllowlist" if name == "projectAllowlists" else name: value for name, value in private.items()}
    return {**pick(inputs, *names), "privateServiceConnectConfig": config}


def _account_path(inputs: Inputs, id_: str) -> str:
    project = inputs["project"]
    return f"projects/{project}/serviceAccounts/{id_}@{project}.iam.gserviceaccount.com"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountType(DocumentType):
    """Service accounts: their PATCH wraps the account and has the mask in the body."""

    def update(self, context: Context, live: Live, inputs: Inputs, changes: dict[str, Any]) -> Live:
        """Patch the names."""
        masks = {"displayName": "display_name", "description": "description"}
        account = {name: value or "" for name, value in changes.items()}
        body = {"serviceAccount": account, "updateMask": ",".join(masks[name] for name in sorted(changes))}
        context.rest.call(self.service, "PATCH", live.id, body)
        return self.read(context, live.id, inputs) or live


def _account_outputs(inputs: Inputs, live: Live) -> dict[str, Any]:
    email = live.body["email"]
    return {
        "email": email,
        "name": f"projects/{inputs['project']}/serviceAccounts/{email}",
        "member": f"serviceAccount:{email}",
        "uniqueId": live.body.get("uniqueId", ""),
    }


def _jobs(inputs: Inputs) -> str:
    return f"projects/{inputs['project']}/locations/{inputs['region']}/jobs"


_POOLS = "locations/global/workloadIdentityPools"

DOCUMENT_TYPES: tuple[DocumentType, ...] = (
    AccountType(
        token="gcp:serviceaccount/account:Account",  # noqa: S106 - a type token
        service="iam",
        collection=lambda inputs: f"projects/{inputs['project']}/serviceAccounts",
        document=lambda inputs: pick(inputs, "displayName", "description"),
        create_body=lambda inputs, body: {"accountId": inputs["accountId"], "serviceAccount": body},
        id_of=lambda inputs: str(inputs["accountId"]),
        address=_account_path,
        fixed=frozenset({"accountId", "project"}),
        extra_outputs=_account_outputs,
    ),
    DocumentType(
        token="gcp:iam/workloadIdentityPool:WorkloadIdentityPool",  # noqa: S106
        service="iam",
        collection=lambda inputs: f"projects/{inputs['project']}/{_POOLS}",
        document=lambda inputs: pick(inputs, "displayName", "description", "disabled"),
        id_parameter="workloadIdentityPoolId",
        title="description",
        id_of=lambda inputs: str(inputs["workloadIdentityPoolId"]),
        long_running=True,
        fixed=frozenset({"workloadIdentityPoolId", "project"}),
        extra_outputs=_named,
    ),
    DocumentType(
        token="gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider",  # noqa: S106
        service="iam",
        collection=lambda inputs: f"projects/{inputs['project']}/{_POOLS}/{inputs['workloadIdentityPoolId']}/providers",
        document=lambda inputs: pick(
            inputs, "displayName", "description", "disabled", "attributeMapping", "attributeCondition", "oidc"
        ),
        id_parameter="workloadIdentityPoolProviderId",
        title="description",
        id_of=lambda inputs: str(inputs["workloadIdentityPoolProviderId"]),
        long_running=True,
        fixed=frozenset({"workloadIdentityPoolId", "workloadIdentityPoolProviderId", "project"}),
        extra_outputs=_named,
    ),
    DocumentType(
        token="gcp:projects/iAMCustomRole:IAMCustomRole",  # noqa: S106
        service="iam",
        collection=lambda inputs: f"projects/{inputs['project']}/roles",
        document=lambda inputs: {
            **pick(inputs, "title", "description", "stage"),
            "includedPermissions": sorted(inputs["permissions"]),
        },
        create_body=lambda inputs, body: {"roleId": inputs["roleId"], "role": body},
        id_of=lambda inputs: str(inputs["roleId"]),
        title="title",
        fixed=frozenset({"roleId", "project"}),
        extra_outputs=_named,
    ),
    DocumentType(
        token="gcp:cloudfunctionsv2/function:Function",  # noqa: S106
        service="functions",
        collection=lambda inputs: f"projects/{inputs['project']}/locations/{inputs['location']}/functions",
        document=lambda inputs: pick(inputs, "description", "labels", "buildConfig", "serviceConfig"),
        id_parameter="functionId",
        id_of=lambda inputs: str(inputs["name"]),
        long_running=True,
        labelled=True,
        title="description",
        fixed=frozenset({"name", "location", "project"}),
        extra_outputs=lambda inputs, live: {"url": live.body.get("url", "")},
    ),
    DocumentType(
        token="gcp:cloudscheduler/job:Job",  # noqa: S106
        service="scheduler",
        collection=_jobs,
        document=lambda inputs: pick(inputs, "description", "schedule", "timeZone", "httpTarget", "attemptDeadline"),
        create_body=lambda inputs, body: {"name": f"{_jobs(inputs)}/{inputs['name']}", **body},
        id_of=lambda inputs: str(inputs["name"]),
        title="description",
        fixed=frozenset({"name", "region", "project"}),
    ),
    DocumentType(
        token="gcp:vertex/aiEndpoint:AiEndpoint",  # noqa: S106
        service="vertex",
        collection=lambda inputs: f"projects/{inputs['project']}/locations/{inputs['location']}/endpoints",
        document=_endpoint_body,
        id_parameter="endpointId",
        id_of=lambda inputs: str(inputs["name"]),
        long_running=True,
        fixed=frozenset(
            {
                "name",
                "location",
                "region",
                "project",
                "encryptionSpec",
                "dedicatedEndpointEnabled",
                "privateServiceConnectConfig",
            }
        ),
        labelled=True,
    ),
    DocumentType(
        token="gcp:monitoring/notificationChannel:NotificationChannel",  # noqa: S106
        service="monitoring",
        prefix="v3/",
        collection=lambda inputs: f"projects/{inputs['project']}/notificationChannels",
        document=lambda inputs: {"enabled": True, **pick(inputs, "displayName", "labels", "type", "enabled")},
        update_mask=False,
        listed="notificationChannels",
        fixed=frozenset({"type", "project"}),
        delete_parameters=(("force", "false"),),
        extra_outputs=_named,
    ),
    DocumentType(
        token="gcp:monitoring/alertPolicy:AlertPolicy",  # noqa: S106
        service="monitoring",
        prefix="v3/",
        collection=lambda inputs: f"projects/{inputs['project']}/alertPolicies",
        document=lambda inputs: {
            "enabled": True,
            **pick(inputs, "displayName", "combiner", "documentation", "notificationChannels", "userLabels", "enabled"),
            **pick(inputs, "alertStrategy", "severity"),
            "conditions": [_condition(item) for item in inputs.get("conditions", [])],
        },
        listed="alertPolicies",
        fixed=frozenset({"project"}),
        extra_outputs=_named,
    ),
    DocumentType(
        token="gcp:billing/budget:Budget",  # noqa: S106
        service="budgets",
        collection=lambda inputs: f"billingAccounts/{inputs['billingAccount']}/budgets",
        document=lambda inputs: {
            **pick(inputs, "displayName", "amount", "budgetFilter", "thresholdRules"),
            **({"notificationsRule": inputs["allUpdatesRule"]} if inputs.get("allUpdatesRule") else {}),
        },
        listed="budgets",
        fixed=frozenset({"billingAccount"}),
        extra_outputs=_named,
    ),
    DocumentType(
        token="gcp:cloudquota/sQuotaPreference:SQuotaPreference",  # noqa: S106
        service="quotas",
        collection=lambda inputs: f"{inputs['parent']}/locations/global/quotaPreferences",
        document=lambda inputs: pick(inputs, "service", "quotaId", "contactEmail", "justification", "quotaConfig"),
        id_parameter="quotaPreferenceId",
        id_of=lambda inputs: str(inputs["name"]),
        title="justification",
        fixed=frozenset({"service", "quotaId", "parent", "name"}),
        deletable=False,
    ),
)


def _condition(condition: Inputs) -> dict[str, Any]:
    return pick(plain(condition), "displayName", "conditionThreshold", "conditionAbsent", "conditionMatchedLog")
