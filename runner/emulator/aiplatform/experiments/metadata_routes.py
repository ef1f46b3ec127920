"""metadataStores with contexts, artifacts and executions: the parts of an experiment, read-only except deletion."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

from runner.emulator import store
from runner.emulator.aiplatform import filters, scope, tuning_experiments
from runner.emulator.aiplatform.experiments.handlers import get_and_delete, missing
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.definitions import documents
from runner.emulator.resources import children, listing, reading
from runner.emulator.routing import ApiRequest, Handler, Method

Document = dict[str, Any]

_KINDS = (
    ("contexts", tuning_experiments.CONTEXT, "Context"),
    ("artifacts", tuning_experiments.ARTIFACT, "Artifact"),
    ("executions", "metadata-execution", "Execution"),
)
"""Collections, kinds of documents, Google's messages. No tuning job creates an execution."""
_IN_CONTEXT = re.compile(r"\bin_context\(\s*(\"[^\"]*\")\s*\)")


def _store(connection: sqlite3.Connection, request: ApiRequest) -> str:
    return f"{scope.resolve(connection, request.fields).name}/metadataStores/{request.fields['store']}"


@listing("metadataStores")
def list_stores(connection: sqlite3.Connection, request: ApiRequest) -> list[Document]:
    """Return one page of the metadata stores of a location: none before the first experiment, then one."""
    return children(
        connection, tuning_experiments.STORE, f"{scope.resolve(connection, request.fields).name}/metadataStores"
    )


@reading
def get_store(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Return a metadata store."""
    name = _store(connection, request)
    return store.get(connection, tuning_experiments.STORE, name, missing=missing("MetadataStore", name))


def _handlers(collection: str, kind: str, message: str) -> tuple[Handler, Handler, Handler]:
    def name_of(connection: sqlite3.Connection, request: ApiRequest) -> str:
        return f"{_store(connection, request)}/{collection}/{request.fields['node']}"

    @listing(collection, filtered=True)
    def listed(connection: sqlite3.Connection, request: ApiRequest) -> list[Document]:
        text = _IN_CONTEXT.sub(r"inContext:\1", request.query_params.get("filter", ""))
        matches = filters.compile_filter(text, {*documents.fields("aiplatform.v1beta1", message), "inContext"})
        found = children(connection, kind, f"{_store(connection, request)}/{collection}")
        found = [one for one in found if matches({**one, "inContext": [tuning_experiments.context_of(one["name"])]})]
        return filters.ordered(found, request.query_params.get("orderBy", ""), "createTime")

    return (listed, *get_and_delete(kind, message, name_of))


@reading
def lineage(connection: sqlite3.Connection, request: ApiRequest) -> Document:
    """Return the artifacts of a context; there are no executions."""
    context = f"{_store(connection, request)}/contexts/{request.fields['node']}"
    store.get(connection, tuning_experiments.CONTEXT, context, missing=missing("Context", context))
    artifacts = children(connection, tuning_experiments.ARTIFACT, f"{_store(connection, request)}/artifacts")
    found = [one for one in artifacts if tuning_experiments.context_of(one["name"]) == context]
    return {"artifacts": found} if found else {}


def _methods() -> list[Method]:
    prefix, path = "aiplatform.projects.locations.metadataStores", f"{PARENT}/metadataStores"
    made = [
        Method(f"{prefix}.list", "GET", path, list_stores),
        Method(f"{prefix}.get", "GET", f"{path}/{{store}}", get_store),
    ]
    for collection, kind, message in _KINDS:
        listed, got, deleted = _handlers(collection, kind, message)
        one = f"{path}/{{store}}/{collection}/{{node}}"
        made += [
            Method(f"{prefix}.{collection}.list", "GET", f"{path}/{{store}}/{collection}", listed),
            Method(f"{prefix}.{collection}.get", "GET", one, got),
            Method(f"{prefix}.{collection}.delete", "DELETE", one, deleted),
        ]
        if collection == "contexts":
            verb = "queryContextLineageSubgraph"
            made.append(Method(f"{prefix}.contexts.{verb}", "GET", f"{one}:{verb}", lineage))
    return made


METHODS = _methods()
