"""Types that are one entry of an IAM policy: read, change the entry, write it back, retry after a conflict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from infra.embedded.resource_type import Context, Inputs, Live, ResourceType, differences
from infra.embedded.rest import RequestError, repeat_conflicts

Policy = dict[str, Any]

_VERSION = {"requestedPolicyVersion": 3}
"""Policy version: older versions omit conditions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyHolder:
    """How the policy of one kind of resource is read and written."""

    service: str
    path: Callable[[Inputs], str]
    verb: Literal["GET", "POST"] = "POST"
    """HTTP verb of `getIamPolicy`."""
    options_in_body: bool = False
    mask: str = ""

    def read(self, context: Context, path: str) -> Policy:
        """Return the policy. Raises RequestError."""
        if self.options_in_body:
            return context.rest.call(self.service, self.verb, f"{path}:getIamPolicy", {"options": _VERSION})
        params = {f"options.{name}": str(version) for name, version in _VERSION.items()}
        return context.rest.call(self.service, self.verb, f"{path}:getIamPolicy", params=params)

    def write(self, context: Context, path: str, policy: Policy) -> None:
        """Replace the policy. Raises RequestError."""
        body = {"policy": policy, **({"updateMask": self.mask} if self.mask else {})}
        context.rest.call(self.service, "POST", f"{path}:setIamPolicy", body)


class _BucketPolicy(PolicyHolder):
    """The policy of a bucket, which has a different address."""

    def read(self, context: Context, path: str) -> Policy:
        return context.rest.call("storage", "GET", path, params={"optionsRequestedPolicyVersion": "3"})

    def write(self, context: Context, path: str, policy: Policy) -> None:
        context.rest.call("storage", "PUT", path, policy)


BUCKET = _BucketPolicy(service="storage", path=lambda inputs: f"b/{inputs['bucket']}/iam")
PROJECT = PolicyHolder(
    service="projects",
    path=lambda inputs: f"projects/{inputs['project']}",
    options_in_body=True,
    mask="bindings,etag,auditConfigs",
)
ACCOUNT = PolicyHolder(service="iam", path=lambda inputs: str(inputs["serviceAccountId"]))
KEY = PolicyHolder(service="kms", path=lambda inputs: str(inputs["cryptoKeyId"]), verb="GET")
RUN = PolicyHolder(
    service="run",
    path=lambda inputs: f"projects/{inputs['project']}/locations/{inputs['location']}/services/{inputs['name']}",
    verb="GET",
)


class _PolicyEntry(ResourceType):
    """Common behavior of members and audit configurations."""

    def __init__(self, token: str, holder: PolicyHolder) -> None:
        self.token = token
        self.holder = holder

    def change(self, context: Context, inputs: Inputs, edit: Callable[[Policy], bool]) -> None:
        """Read, edit and write; `edit` returns whether it changed anything."""
        path = self.holder.path(inputs)

        def change() -> None:
            policy = self.holder.read(context, path)
            if edit(policy):
                self.holder.write(context, path, {**policy, "version": 3})

        repeat_conflicts(change, f"the policy of {path}")

    def read_policy(self, context: Context, inputs: Inputs) -> Policy | None:
        """Return the policy, or None if its resource no longer exists."""
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
        """Return role, member and, if there is one, condition."""
        condition = inputs.get("condition")
        return {"role": inputs["role"], "member": inputs["member"]} | ({"condition": condition} if condition else {})

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Add the member; other members of the role remain."""

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
        """Remove the member, even if its account was deleted first."""

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
    refused = False

    def body(self, inputs: Inputs) -> dict[str, Any]:
        """Return the configuration in the form of a policy."""
        return {"service": inputs["service"], "auditLogConfigs": inputs["auditLogConfigs"]}

    def make(self, context: Context, inputs: Inputs) -> Live:
        """Write the service's configuration; those of other services remain."""
        self._replace(context, inputs, [self.body(inputs)])
        return Live(self._id(inputs), self.body(inputs))

    def read(self, context: Context, id_: str, inputs: Inputs) -> Live | None:
        """Return the service's configuration."""
        policy = self.read_policy(context, inputs) or {}
        found = [item for item in policy.get("auditConfigs", []) if item["service"] == inputs["service"]]
        return Live(self._id(inputs), found[0]) if found else None

    def find(self, context: Context, inputs: Inputs) -> Live | None:
        """Return the service's configuration, regardless of who wrote it."""
        return self.read(context, "", inputs)

    def owned(self, inputs: Inputs, live: Live) -> bool:
        """Return that it can be adopted: like a grant, equal configurations are the same."""
        return not differences(self.body(inputs), live.body)

    def delete(self, context: Context, id_: str, inputs: Inputs) -> bool:
        """Remove the service's configuration."""
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
    """Return the binding of a role with the same condition: as in the provider, each condition has its own
    binding."""
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
