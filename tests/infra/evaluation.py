"""Evaluates the program on Pulumi's test monitor and notes every resource, without any service behind it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.stack import Stack

from infra.embedded.resource_type import plain
from infra.program import deploy

PROJECT = "demo-project"
NUMBER = "123456789012"
MINIMAL = {"gcp:project": PROJECT}
FULL = {
    "gcp:project": PROJECT,
    "gcp:region": "europe-west4",
    "open-model-tuning:labels": '{"team": "ml"}',
    "open-model-tuning:kmsKey": "projects/keys/locations/europe-west4/keyRings/r/cryptoKeys/k",
    "open-model-tuning:protect": "true",
    "open-model-tuning:githubRepository": "owner/repository",
    "open-model-tuning:runnerImpersonators": '["user:ada@example.com", "group:ml@example.com"]',
    "open-model-tuning:notificationEmails": '["ml@example.com"]',
    "open-model-tuning:budgetAmount": "100",
    "open-model-tuning:billingAccount": "012345-6789AB-CDEF01",
    "open-model-tuning:dataAccessAudit": "true",
    "open-model-tuning:concurrentTuningJobs": "3",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """One registered resource and the options that the program gave it."""

    type: str
    name: str
    inputs: dict[str, Any]
    custom: bool
    provider: str
    protect: bool
    retain: bool
    parent: str


@dataclass(slots=True)
class Evaluation:
    """What the program registered, in order, and exported."""

    resources: list[Registered] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of_type(self, suffix: str) -> list[Registered]:
        """Return the resources of a type, by the end of its token (`:Bucket`)."""
        return [resource for resource in self.resources if resource.type.endswith(suffix)]


class _Mocks(pulumi.runtime.Mocks):
    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        outputs = dict(args.inputs)
        if args.typ.endswith(":Account"):
            email = f"{args.inputs['accountId']}@{PROJECT}.iam.gserviceaccount.com"
            outputs |= {"email": email, "name": f"projects/{PROJECT}/serviceAccounts/{email}"}
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        assert args.token == "gcp:organizations/getProject:getProject"
        return {"number": NUMBER, "projectId": args.args["projectId"]}, []


class _Monitor(MockMonitor):
    def __init__(self, mocks: pulumi.runtime.Mocks) -> None:
        super().__init__(mocks)
        self.seen: list[Registered] = []
        self._lock = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the monitor's name
        inputs = plain(pulumi.runtime.rpc.deserialize_properties(request.object))
        with self._lock:
            self.seen.append(
                Registered(
                    type=request.type,
                    name=request.name,
                    inputs=inputs,
                    custom=request.custom,
                    provider=request.provider,
                    protect=request.protect,
                    retain=request.retainOnDelete,
                    parent=request.parent,
                )
            )
        return super().RegisterResource(request)


def evaluate(config: Mapping[str, str]) -> Evaluation:
    """Evaluate the program with a full configuration."""
    monitor = _Monitor(_Mocks())
    pulumi.runtime.set_mocks(_Mocks(), project="open-model-tuning", stack="test", preview=False, monitor=monitor)
    pulumi.runtime.set_all_config(dict(config))
    result = Evaluation()

    def program() -> pulumi.Output[Any]:
        root = pulumi.runtime.get_root_resource()
        assert isinstance(root, Stack)
        root.outputs.clear()
        deploy()
        return pulumi.Output.from_input(dict(root.outputs)).apply(result.outputs.update)

    pulumi.runtime.test(program)()
    result.resources = [resource for resource in monitor.seen if resource.type != "pulumi:pulumi:Stack"]
    return result
