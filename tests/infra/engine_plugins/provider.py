"""`pulumi-resource-gcp`: the resource types of `infra.embedded` behind the protocol of a provider."""

# ruff: noqa: N802 - the names are the protocol's

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from importlib import metadata
from typing import Any

import grpc  # type: ignore[import-untyped]
from google.protobuf import empty_pb2, json_format, struct_pb2  # type: ignore[import-untyped]
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from infra.embedded.registry import find_type, named
from infra.embedded.resource_type import Context, Live, ResourceType, differences
from infra.embedded.rest import EmbeddedError, RequestError, Rest
from infra.plain_values import plain
from tests.infra.engine_plugins.language import serve

_MARK = "4dabf18193072939515e22adb298388d"
_ASSET, _ARCHIVE = "c44067f5952c0a294b673a41bacd8c17", "0def7320c3a5731c473e5ecbe6d01bc7"
"""How the engine marks values that are not plain JSON."""


def _values(struct: Any) -> dict[str, Any]:
    return dict(plain(_opened(json_format.MessageToDict(struct))))


def _opened(value: Any) -> Any:
    """Return a value with archives as `infra.embedded` has them: files by path or text."""
    if isinstance(value, list):
        return [_opened(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get(_MARK) == _ARCHIVE:
        return _opened(value.get("assets") or {})
    if value.get(_MARK) == _ASSET:
        return {"path": value["path"]} if value.get("path") else {"text": value.get("text", "")}
    return {key: _opened(item) for key, item in value.items()}


def _struct(values: Any) -> Any:
    return json_format.ParseDict(json.loads(json.dumps(values)), struct_pb2.Struct())


class Provider(provider_pb2_grpc.ResourceProviderServicer):
    """Creates, reads, changes and deletes in an emulator, one call at a time."""

    context: Context

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=metadata.version("pulumi-gcp"))

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:
        given = _values(request.args)
        rest = Rest({key: value for key, value in given.items() if key.endswith("CustomEndpoint")})
        labels = json.loads(given.get("defaultLabels") or "{}")
        self.context = Context(rest, given["project"], given["region"], labels)
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def Check(self, request: Any, context: Any) -> Any:
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request: Any, context: Any) -> Any:
        kind = self._kind(request.urn)
        old, new = self._inputs(kind, request.old_inputs), self._inputs(kind, request.news)
        replaces = sorted(key for key in kind.fixed if old.get(key) != new.get(key))
        before, after = kind.body(old), kind.body(new)
        changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        diffs = sorted({*replaces, *(changed - set(request.ignoreChanges))})
        answer = provider_pb2.DiffResponse
        changes = answer.DIFF_SOME if diffs else answer.DIFF_NONE
        return answer(replaces=replaces, changes=changes, diffs=diffs, deleteBeforeReplace=True)

    def Create(self, request: Any, context: Any) -> Any:
        kind = self._kind(request.urn)
        inputs = self._inputs(kind, request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=request.properties)

        def create() -> Any:
            live = self._make(kind, inputs)
            return provider_pb2.CreateResponse(id=live.id, properties=_struct(kind.outputs(inputs, live)))

        return self._answer(context, create)

    def Read(self, request: Any, context: Any) -> Any:
        kind = self._kind(request.urn)
        inputs = self._inputs(kind, request.inputs)

        def read() -> Any:
            live = kind.read(self.context, request.id, inputs)
            if live is None:
                return provider_pb2.ReadResponse()
            properties = _struct(kind.outputs(inputs, live))
            return provider_pb2.ReadResponse(id=request.id, properties=properties, inputs=request.inputs)

        return self._answer(context, read)

    def Update(self, request: Any, context: Any) -> Any:
        kind = self._kind(request.urn)
        old, new = self._inputs(kind, request.old_inputs), self._inputs(kind, request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=request.news)

        def update() -> Any:
            live = kind.read(self.context, request.id, new)
            if live is None:
                raise EmbeddedError(f"{request.id} is gone")
            changes = differences(kind.body(new), live.body, kind.body(old))
            live = kind.update(self.context, live, new, changes) if changes else live
            return provider_pb2.UpdateResponse(properties=_struct(kind.outputs(new, live)))

        return self._answer(context, update)

    def Delete(self, request: Any, context: Any) -> Any:
        kind = self._kind(request.urn)
        inputs = self._inputs(kind, request.old_inputs)

        def delete() -> Any:
            kind.delete(self.context, request.id, inputs)
            return empty_pb2.Empty()

        return self._answer(context, delete)

    def Invoke(self, request: Any, context: Any) -> Any:
        given = _values(request.args)

        def ask() -> Any:
            rest = self.context.rest
            if request.tok.endswith(":getBucketObjects"):
                page = rest.find("storage", f"b/{given['bucket']}/o") or {}
                found = {"bucketObjects": [{"name": item["name"]} for item in page.get("items", [])]}
            elif request.tok.endswith(":getProject"):
                body = rest.call("projects", "GET", f"projects/{given['projectId']}")
                found = {"number": body["projectNumber"], "projectId": body["projectId"]}
            elif request.tok.endswith(":getProjectServiceAccount"):
                body = rest.call("storage", "GET", f"projects/{given['project']}/serviceAccount")
                found = {"emailAddress": body["email_address"]}
            else:
                body = rest.call("storage", "GET", f"b/{given['name']}")
                found = {"name": body["name"], "location": body["location"]}
            # The field's name is a word of Python's.
            return provider_pb2.InvokeResponse(**{"return": _struct({"id": request.tok, **found})})

        return self._answer(context, ask)

    def _kind(self, urn: str) -> ResourceType:
        return find_type(urn.split("::")[2].rsplit("$", 1)[-1])

    def _inputs(self, kind: ResourceType, struct: Any) -> dict[str, Any]:
        return kind.with_labels(_values(struct), self.context.default_labels)

    def _make(self, kind: ResourceType, inputs: dict[str, Any]) -> Live:
        """Make it as Google's provider does: what is there is refused, but a deleted role is brought back."""
        try:
            return kind.make(self.context, inputs)
        except RequestError as error:
            back = error.http == 409 and self._is_deleted_role(kind, inputs)
            live = kind.find(self.context, inputs) if back else None
            if live is None:
                raise
            return kind.restored(self.context, inputs, live)

    def _is_deleted_role(self, kind: ResourceType, inputs: dict[str, Any]) -> bool:
        """Tell whether a role was deleted lately: Google's provider brings it back."""
        if not kind.token.endswith(":IAMCustomRole"):
            return False
        return bool((self.context.rest.find("iam", named(kind.token, inputs)) or {}).get("deleted"))

    def _answer(self, context: Any, work: Callable[[], Any]) -> Any:
        with self._lock:
            try:
                return work()
            except RequestError as error:
                # As Google's provider words it, with its frames around.
                said = f"1 error occurred:\n\t* googleapi: Error {error.http}: {error.said}\n\n"
                return context.abort(grpc.StatusCode.UNKNOWN, said)
            except EmbeddedError as error:
                return context.abort(grpc.StatusCode.UNKNOWN, error.message)


if __name__ == "__main__":
    serve(provider_pb2_grpc.add_ResourceProviderServicer_to_server, Provider())
