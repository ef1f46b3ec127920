"""Types that are one entry of an IAM policy: read, change the entry, write back, again if somebody was faster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from infra.embedded.resource_type import Context, Inputs, Live, ResourceType
from infra.embedded.rest import EmbeddedError, RequestError

Policy = dict[str, Any]

_ATTEMPTS = 6
_CONFLICTS = frozenset({httpx.codes.CONFLICT, httpx.codes.PRECONDITION_FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHolder:
    """How the policy of one kind of thing is read and written."""

    service: str
    path: Callable[[Inputs], str]
    read: Callable[[Context, str], Policy]
    write: Callable[[Context, str, Policy], Policy]


def _post_read(service: str, *, body: bool) -> Callable[[Context, str], Policy]:
    def read(context: Context, path: str) -> Policy:
        if body:
            return context.rest.call(
                service, "POST", f"{path}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}}
            )
        params = {"options.requestedPolicyVersion": "3"}
        return context.rest.call(service, "POST", f"{path}:getIamPolicy", params=params)

    return read


def _bucket_read(context: Context, path: str) -> Policy:
    return context.rest.call("storage", "GET", path, params={"optionsRequestedPolicyVersion": "3"})


def _bucket_write(context: Context, path: str, policy: Policy) -> Policy:
    return context.rest.call("storage", "PUT", path, policy)


def _project_write(context: Context, path: str, policy: Policy) -> Policy:
    body = {"policy": policy, "updateMask": "bindings,etag,auditConfigs"}
    return context.rest.call("projects", "POST", f"{path}:setIamPolicy", body)


def _post_write(service: str) -> Callable[[Context, str, Policy], Policy]:
    def write(context: Context, path: str, policy: Policy) -> Policy:
        return context.rest.call(service, "POST", f"{path}:setIamPolicy", {"policy": policy})

    return write


def _key_read(context: Context, path: str) -> Policy:
    return context.rest.call("kms", "GET", f"{path}:getIamPolicy", params={"options.requestedPolicyVersion": "3"})


BUCKET = PolicyHolder(
    service="storage", path=lambda inputs: f"b/{inputs['bucket']}/iam", read=_bucket_read, write=_bucket_write
)
PROJECT = PolicyHolder(
    service="projects",
    path=lambda inputs: f"projects/{inputs['project']}",
    read=_post_read("projects", body=True),
    write=_project_write,
)
ACCOUNT = PolicyHolder(
    service="iam",
    path=lambda inputs: str(inputs["serviceAccountId"]),
    read=_post_read("iam", body=False),
    write=_post_write("iam"),
)
KEY = PolicyHolder(
    service="kms", path=lambda inputs: str(inputs["cryptoKeyId"]), read=_key_read, write=_post_write("kms")
)


RUN = PolicyHolder(
    service="run",
    path=lambda inputs: f"projects/{inputs['project']}/locations/{inputs['location']}/services/{inputs['name']}",
    read=lambda context, path: context.rest.call("run", "GET", f"{path}:getIamPolicy"),
    write=_post_write("run"),
)


class _PolicyEntry(ResourceType):
    """What members and audit configurations share."""

    def __init__(self, token: str, holder: PolicyHolder) -> None:
        self.token = token
        self.holder = holder

    def change(self, context: Context, inputs: Inputs, edit: Callable[[Policy], bool]) -> None:
        """Read, edit and write; `edit` tells whether it changed anything."""
        path = self.holder.path(inputs)
        for attempt in range(_ATTEMPTS):
            policy = self.holder.read(context, path)
            if not edit(policy):
                return
            policy["version"] = 3
            try:
                self.holder.write(context, path, policy)
                return
            except RequestError as error:
                if error.http not in _CONFLICTS:
                    raise
                time.sleep(0.05 * 2**attempt)
        raise EmbeddedError(f"the policy of {path} kept changing while it was being changed")

    def read_policy(self, context: Context, inputs: Inputs) -> Policy | None:
        """Return the policy, None when its owner is gone."""
        try:
            return self.holder.read(context, self.holder.path(inputs))
        except RequestError as error:
            if error.http == httpx.codes.NOT_FOUND:
                return None
            raise


class MemberType(_PolicyEntry):
    """One member of one role."""

    fixed = frozenset({"role", "member", "bucket", "project", "serviceAccountId", "cryptoKeyId", "condition", "name"})

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return role, member and, where there is one, condition."""
        condition = inputs.get("condition")
        return {"role": inputs["role"], "member": inputs["member"]} | ({"condition": condition} if condition else {})

    def create(self, context: Context, inputs: Inputs) -> Live:
        """Add the member; others of the role stay."""

        def add(policy: Policy) -> bool:
            bindings: list[dict[str, Any]] = policy.setdefault("bindings", [])
            binding = _find(bindings, inputs)
            if binding is None:
                condition = {"condition": inputs["condition"]} if inputs.get("condition") else {}
                bindings.append({"role": inputs["role"], "members": [inputs["member"]], **condition})
            elif inputs["member"] in binding["members"]:
                return False
            else:
                binding["members"].append(inputs["member"])
            return True

        self.change(context, inputs, add)
        return Live(self._id(inputs), self.body(inputs))

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Return the member if the policy still has it."""
        policy = self.read_policy(context, inputs)
        binding = _find((policy or {}).get("bindings", []), inputs)
        if binding is None or inputs["member"] not in binding["members"]:
            return None
        return Live(self._id(inputs), self.body(inputs))

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Take the member away, also where its account has gone before it."""

        def remove(policy: Policy) -> bool:
            binding = _find(policy.get("bindings", []), inputs)
            gone = f"deleted:{inputs['member']}?uid="
            members = [] if binding is None else binding["members"]
            others = [one for one in members if one != inputs["member"] and not one.startswith(gone)]
            if binding is None or others == members:
                return False
            binding["members"] = others
            policy["bindings"] = [item for item in policy["bindings"] if item["members"]]
            return True

        if self.read_policy(context, inputs) is not None:
            self.change(context, inputs, remove)
        return True

    def _id(self, inputs: Inputs) -> str:
        condition = inputs.get("condition")
        suffix = f"/{condition['title']}" if condition else ""
        return f"{self.holder.path(inputs)}/{inputs['role']}/{inputs['member']}{suffix}"


class AuditType(_PolicyEntry):
    """The audit configuration of one service in a project."""

    fixed = frozenset({"service", "project"})

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return the configuration as a policy holds it."""
        return {"service": inputs["service"], "auditLogConfigs": inputs["auditLogConfigs"]}

    def create(self, context: Context, inputs: Inputs) -> Live:
        """Write the service's configuration; other services' stay."""
        self._replace(context, inputs, [self.body(inputs)])
        return Live(self._id(inputs), self.body(inputs))

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Return the service's configuration."""
        policy = self.read_policy(context, inputs) or {}
        found = [item for item in policy.get("auditConfigs", []) if item["service"] == inputs["service"]]
        return Live(self._id(inputs), found[0]) if found else None

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Take the service's configuration away."""
        self._replace(context, inputs, [])
        return True

    def _replace(self, context: Context, inputs: Inputs, entries: list[dict[str, Any]]) -> None:
        def edit(policy: Policy) -> bool:
            others = [item for item in policy.get("auditConfigs", []) if item["service"] != inputs["service"]]
            changed: bool = [*others, *entries] != policy.get("auditConfigs", [])
            policy["auditConfigs"] = [*others, *entries]
            return changed

        self.change(context, inputs, edit)

    def _id(self, inputs: Inputs) -> str:
        return f"{self.holder.path(inputs)}/audit_config/{inputs['service']}"


def _find(bindings: list[dict[str, Any]], inputs: Inputs) -> dict[str, Any] | None:
    """Return the binding of a role under the same condition: as in the provider, each condition is a binding of
    its own."""
    wanted = (inputs["role"], inputs.get("condition") or None)
    return next((item for item in bindings if (item["role"], item.get("condition") or None) == wanted), None)


POLICY_TYPES: tuple[MemberType | AuditType, ...] = (
    MemberType("gcp:storage/bucketIAMMember:BucketIAMMember", BUCKET),
    MemberType("gcp:projects/iAMMember:IAMMember", PROJECT),
    MemberType("gcp:serviceaccount/iAMMember:IAMMember", ACCOUNT),
    MemberType("gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember", KEY),
    MemberType("gcp:cloudrunv2/serviceIamMember:ServiceIamMember", RUN),
    AuditType("gcp:projects/iAMAuditConfig:IAMAuditConfig", PROJECT),
)
