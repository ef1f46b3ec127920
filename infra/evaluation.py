"""Evaluates the program on Pulumi's test monitor and records every resource: no engine, no service, no requests.

The result is the graph of a stack, for previews, documents, policies and tests.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pulumi

from infra import event_loop
from infra.plain_values import plain
from infra.program import deploy
from infra.recorded import READ
from runner.errors import RunnerError

NUMBER = "123456789012"
"""Placeholder for the project's number, which only Google knows."""
GUARD_URL = "https://idle-guard.example.com"
CHANNEL = "projects/PROJECT/notificationChannels/"
"""Placeholder, followed by the address, for the name that Google gives a channel."""
_ASSET = "c44067f5952c0a294b673a41bacd8c17"
"""Pulumi's marker for a file or an archive in inputs."""


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
    import_id: str = ""
    hooks: tuple[str, ...] = ()
    urn: str = ""
    dependencies: tuple[str, ...] = ()
    ignore_changes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    """Its earlier names."""


@dataclass(slots=True)
class Evaluation:
    """What the program registered and exported."""

    resources: list[Registered] = field(default_factory=list)
    """Resources in an order that does not depend on timing: by type and name."""
    outputs: dict[str, Any] = field(default_factory=dict)

    def of_type(self, suffix: str) -> list[Registered]:
        """Return the resources of a type, by the end of its token (`:Bucket`)."""
        return [resource for resource in self.resources if resource.type.endswith(suffix)]


class _Mocks(pulumi.runtime.Mocks):
    def __init__(
        self,
        project: str,
        bucket_locations: Mapping[str, str],
        number: str = NUMBER,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self._project = project
        self._bucket_locations = bucket_locations
        self._number = number
        self._state = dict(state or {})

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        outputs = dict(args.inputs)
        if args.typ.endswith(":Account"):
            email = f"{args.inputs['accountId']}@{self._project}.iam.gserviceaccount.com"
            outputs |= {"email": email, "name": f"projects/{self._project}/serviceAccounts/{email}"}
        elif args.typ.endswith(":WorkloadIdentityPoolProvider"):
            pool, name = args.inputs["workloadIdentityPoolId"], args.inputs["workloadIdentityPoolProviderId"]
            path = f"projects/{self._number}/locations/global/workloadIdentityPools/{pool}/providers/{name}"
            outputs["name"] = path
        elif args.typ.endswith(":IAMCustomRole"):
            outputs["name"] = f"projects/{self._project}/roles/{args.inputs['roleId']}"
        elif args.typ.endswith(":NotificationChannel"):
            outputs["name"] = CHANNEL + str(args.inputs["labels"]["email_address"])
        elif args.typ.endswith(":Function"):
            outputs["url"] = GUARD_URL
        return f"{args.name}-id", outputs

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        if args.token == READ:
            return {"outputs": self._state}, []
        if args.token == "gcp:storage/getBucketObjects:getBucketObjects":  # noqa: S105
            return {"bucketObjects": []}, []
        if args.token == "gcp:storage/getBucket:getBucket":  # noqa: S105 - a function token
            name = str(args.args["name"])
            return {"name": name, "location": self._bucket_locations[name].upper()}, []
        if args.token == "gcp:storage/getProjectServiceAccount:getProjectServiceAccount":  # noqa: S105
            return {"emailAddress": f"service-{self._number}@gs-project-accounts.iam.gserviceaccount.com"}, []
        if args.token != "gcp:organizations/getProject:getProject":  # noqa: S105
            raise RunnerError(f"{args.token} cannot be answered without Google")
        return {"number": self._number, "projectId": args.args["projectId"]}, []


class _Monitor(event_loop.LoopedMonitor):
    def __init__(self, mocks: pulumi.runtime.Mocks) -> None:
        super().__init__(mocks)
        self.seen: list[Registered] = []
        self._lock = threading.Lock()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the monitor's name
        inputs = readable(pulumi.runtime.rpc.deserialize_properties(request.object, keep_unknowns=True))
        response = super().RegisterResource(request)
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
                    import_id=request.importId,
                    hooks=tuple(request.hooks.on_error),
                    urn=response.urn,
                    dependencies=tuple(sorted(request.dependencies)),
                    ignore_changes=tuple(request.ignoreChanges),
                    aliases=tuple(alias.spec.name for alias in request.aliases if alias.spec.name),
                )
            )
        return response


def readable(value: Any) -> Any:
    """Return inputs as JSON: secrets decrypted, numbers as integers, archives as lists of their files."""
    if isinstance(value, pulumi.AssetArchive):
        return {"archive": sorted(value.assets)}
    if isinstance(value, dict):
        return plain({key: readable(item) for key, item in value.items()})
    if isinstance(value, list):
        return [readable(item) for item in value]
    return plain(value)


def evaluate(
    config: Mapping[str, str], *, stack: str = "test", number: str = NUMBER, state: Mapping[str, Any] | None = None
) -> Evaluation:
    """Evaluate the program with a full configuration: keys (`gcp:project`) to texts.

    Args:
        config: the configuration.
        stack: name of the stack.
        number: the project's number, if it is known.
        state: what the last update left, in the form that `infra.recorded.parse` accepts; None means a new stack.

    Raises:
        ConfigurationError: the configuration has mistakes; all are listed.
    """
    from infra.settings.stack import Settings

    settings = Settings.load(config)
    locations = {item.name: stamp.region for stamp in settings.stamps for item in stamp.buckets}
    mocks = _Mocks(settings.project, locations, number, state)
    monitor = _Monitor(mocks)
    outputs = event_loop.evaluated(mocks, monitor, deploy, config, stack=stack, log="infra.evaluation.pulumi")
    found = [resource for resource in monitor.seen if resource.type != "pulumi:pulumi:Stack"]
    return Evaluation(sorted(found, key=lambda resource: (resource.type, resource.name)), outputs)
