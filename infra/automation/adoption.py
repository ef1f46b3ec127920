"""Finds resources that an interrupted or partly answered update created unknown to the state, and adopts them.

If a create was killed, the state has an operation with an unknown result. If only its response was lost, the state has
nothing, and the next create is refused with 409. This module looks up both by the name or title that only this program
gives, and writes them into the state; the refresh at the start of every `up` then reads their details. It never adopts
what somebody else created: the message has the command that does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from infra.already_there import import_command
from infra.automation.state import Exported, Resource
from infra.embedded.registry import TYPES
from infra.embedded.resource_type import Context, Live
from infra.embedded.rest import EmbeddedError, Rest
from infra.evaluation import Evaluation, Registered
from infra.settings.stack import Settings
from infra.urns import key_of, name_of, type_of

_PROVIDER = "pulumi:providers:gcp"


@dataclass(slots=True)
class Found:
    """The result of a search for lost resources."""

    adopted: list[str] = field(default_factory=list)
    """Adopted resources, each as `Type name`."""
    foreign: list[str] = field(default_factory=list)
    """What to do about each resource that exists and was not created by this stack."""


def adopt(state: Exported, wanted: Evaluation, settings: Settings, rest: Rest, *, refused: Iterable[str] = ()) -> Found:
    """Write resources that this stack created into its state.

    Args:
        state: state of the stack; written if anything changes.
        wanted: the program's resources.
        settings: settings of the stack.
        rest: connection to the service.
        refused: URNs, or only their ends, of resources whose create was refused because the name is taken.

    Raises:
        EngineError: the state cannot be written.
        EmbeddedError: the service does not answer.
    """
    context = Context(rest, settings.project, settings.region, {**settings.labels, "managed-by": "pulumi"})
    known = {(item["type"], name_of(item["urn"])) for item in state.resources if not item.get("delete")}
    provider = next((item for item in state.resources if item["type"] == _PROVIDER), None)
    begun = [str(item["resource"]["urn"]) for item in state.pending]
    cut_off = {(type_of(urn), name_of(urn)) for urn in begun}
    told = {key_of(urn) for urn in refused}
    found, added = Found(), list[Resource]()
    for item in wanted.resources:
        kind = TYPES.get(item.type)
        if kind is None or (item.type, item.name) in known:
            continue
        searched = key_of(item.urn) in told or (item.type, item.name) in cut_off or bool(getattr(kind, "listed", ""))
        live = kind.find(context, item.inputs) if searched and provider else None
        if live is None:
            continue
        if kind.owned(kind.with_labels(item.inputs, context.default_labels), live):
            added.append(_entry(item, kind.restored(context, item.inputs, live), state, provider or {}, wanted))
            found.adopted.append(key_of(item.urn))
        elif not getattr(kind, "listed", ""):
            found.foreign.append(_advice(item, live, _urn(item, provider or {}, wanted)))
    if added or state.pending:
        state.settle(added)
    return found


def _entry(item: Registered, live: Live, state: Exported, provider: Resource, wanted: Evaluation) -> Resource:
    """Return a resource in the form of the state, without what only the service knows: the refresh adds that."""
    urn = _urn(item, provider, wanted)
    root, chain, _ = urn.rsplit("::", 2)
    parent = f"{root}::{chain.rpartition('$')[0]}::{name_of(item.parent)}"
    known = {entry["urn"] for entry in state.resources}
    return {
        "urn": urn,
        "custom": True,
        "id": live.id,
        "type": item.type,
        "inputs": item.inputs,
        # The program reads the state before the refresh has added the rest.
        "outputs": item.inputs,
        "provider": f"{provider['urn']}::{provider['id']}",
        "protect": item.protect,
        **({"parent": parent} if parent in known else {}),
        **({"retainOnDelete": True} if item.retain else {}),
    }


def _urn(item: Registered, provider: Resource, wanted: Evaluation) -> str:
    """Return the engine's name of a resource, including the types of its parents, which an evaluation omits."""
    parents = {entry.urn: entry for entry in wanted.resources if not entry.custom}
    chain, above = [item.type], parents.get(item.parent)
    while above is not None:
        chain.insert(0, above.type)
        above = parents.get(above.parent)
    root = "::".join(provider["urn"].split("::")[:2])
    return f"{root}::{'$'.join(chain)}::{item.name}"


def _advice(item: Registered, live: Live, urn: str) -> str:
    name = key_of(item.urn)
    if item.type.endswith("bucket:Bucket"):
        return (
            f"{name}: gs://{live.id} is there and was not made by a stack: to take it in, "
            f"`pulumi config set --path 'open-model-tuning:buckets[\"{item.name}\"].mode' import`"
        )
    command = import_command(urn, live.id, name_of(item.parent))
    return f"{name}: {live.id} exists and was not created by this stack; to import it, run `{command}`"


def explain(error: EmbeddedError) -> str:
    """Return why the search was impossible."""
    return f"what an earlier run left could not be looked for: {error.message}"
