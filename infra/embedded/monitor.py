"""Pulumi's test monitor with the emulator behind it."""

from __future__ import annotations

import json
import threading
from typing import Any

import pulumi

from infra.embedded.reconcile import Options, Reconciler
from infra.embedded.resource_type import Context
from infra.embedded.rest import PLACEHOLDER_TOKEN, EmbeddedError, Rest
from infra.embedded.state import State
from infra.embedded.storage import described
from infra.event_loop import LoopedMonitor
from infra.plain_values import plain
from infra.recorded import READ
from infra.urns import key_of

_PROVIDER = "pulumi:providers:gcp"
_GET_PROJECT = "gcp:organizations/getProject:getProject"
_GET_OBJECTS = "gcp:storage/getBucketObjects:getBucketObjects"
_GET_BUCKET = "gcp:storage/getBucket:getBucket"
_GET_STORAGE_AGENT = "gcp:storage/getProjectServiceAccount:getProjectServiceAccount"


class EmulatorMocks(pulumi.runtime.Mocks):
    """Creates each registered resource and answers data sources.

    The monitor calls from several threads; a lock serializes the calls, in an order that the program's
    dependencies allow.
    """

    def __init__(self, state: State) -> None:
        self._lock = threading.Lock()
        self._state = state
        self._rest: Rest | None = None
        self.options = threading.local()
        self.reconciler: Reconciler | None = None
        self.failure: Exception | None = None

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Create or change a resource; components and the provider are only recorded."""
        if not args.custom:
            return "", {}
        with self._lock:
            if self.failure is not None:
                # Create nothing more, even if it does not depend on what failed. Each resource gets a separate error: a
                # shared one would carry the tracebacks of all.
                raise EmbeddedError("nothing is created after a failure")
            try:
                inputs = plain(args.inputs)
                if isinstance(inputs.get("source"), pulumi.AssetArchive):
                    inputs["source"] = described(inputs["source"])
                if args.typ == _PROVIDER:
                    self._configure(inputs)
                    return args.name, inputs
                return self._reconciler().register(args.typ, args.name, inputs, self.options.current)
            except Exception as error:
                self.failure = error
                raise

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer a data source."""
        with self._lock:
            try:
                if args.token == READ:
                    return {"outputs": self._state.recorded()}, []
                if args.token == _GET_OBJECTS:
                    return self._objects(str(args.args["bucket"])), []
                if args.token == _GET_BUCKET:
                    return self._bucket(str(args.args["name"])), []
                if args.token == _GET_STORAGE_AGENT:
                    return self._storage_agent(str(args.args["project"])), []
                if args.token != _GET_PROJECT:
                    raise EmbeddedError(f"{args.token} cannot be answered without the Pulumi engine")
                return self._project(str(args.args["projectId"])), []
            except Exception as error:
                self.failure = self.failure or error
                raise

    def close(self) -> None:
        """Close the connections."""
        if self._rest is not None:
            self._rest.close()

    def _configure(self, inputs: dict[str, Any]) -> None:
        endpoints = {key: value for key, value in inputs.items() if key.endswith("CustomEndpoint")}
        self._rest = Rest(endpoints, token=inputs.get("accessToken") or PLACEHOLDER_TOKEN)
        self._state.move(endpoints)
        labels = json.loads(inputs.get("defaultLabels", "{}"))
        context = Context(self._rest, inputs["project"], inputs["region"], labels)
        self.reconciler = Reconciler(context, self._state)

    def _reconciler(self) -> Reconciler:
        if self.reconciler is None:
            raise EmbeddedError("the program made a resource without its provider")
        return self.reconciler

    def _bucket(self, name: str) -> dict[str, Any]:
        body = self._reconciler().context.rest.find("storage", f"b/{name}")
        if body is None:
            raise EmbeddedError(f"bucket {name} is to be attached and does not exist", hint="create it first")
        return {"id": name, "name": name, "location": body.get("location", "")}

    def _objects(self, name: str) -> dict[str, Any]:
        page = self._reconciler().context.rest.find("storage", f"b/{name}/o", params={"maxResults": "100"}) or {}
        return {"id": name, "bucket": name, "bucketObjects": [{"name": item["name"]} for item in page.get("items", [])]}

    def _storage_agent(self, project: str) -> dict[str, Any]:
        body = self._reconciler().context.rest.call("storage", "GET", f"projects/{project}/serviceAccount")
        return {"id": project, "emailAddress": body["email_address"]}

    def _project(self, project: str) -> dict[str, Any]:
        rest = self._reconciler().context.rest
        body = rest.call("projects", "GET", f"projects/{project}")
        billing = rest.call("billing", "GET", f"projects/{project}/billingInfo")
        return {
            "id": f"projects/{project}",
            "projectId": body["projectId"],
            "number": body["projectNumber"],
            "name": body.get("name", project),
            "labels": body.get("labels", {}),
            "billingAccount": str(billing.get("billingAccountName", "")).removeprefix("billingAccounts/"),
        }


class OptionsMonitor(LoopedMonitor):
    """Passes on the resource options, which the test monitor drops."""

    mocks: EmulatorMocks

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802 - the monitor's name
        """Record the options for the thread that handles this request."""
        self.mocks.options.current = Options(
            protect=request.protect,
            retain=request.retainOnDelete,
            ignore_changes=tuple(request.ignoreChanges),
            import_id=request.importId,
            retried=bool(request.hooks.on_error),
            dependencies=tuple(sorted(key_of(urn) for urn in request.dependencies)),
            aliases=tuple(alias.spec.name for alias in request.aliases if alias.spec.name),
        )
        return super().RegisterResource(request)
