"""The order in which the engine works, on a set of grants: it creates and replaces first and deletes last.

A grant is what the service knows: who has which role on what. Two resources of a stack may stand for the same one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from infra.evaluation import Evaluation, Registered

Grant = tuple[str, str, str, str]
_TARGETS = ("bucket", "project", "serviceAccountId", "cryptoKeyId")


def grant(item: Registered) -> Grant | None:
    """Return what a resource grants, None for one that grants nothing."""
    inputs = item.inputs
    if "role" not in inputs or "member" not in inputs:
        return None
    target = next((str(inputs[key]) for key in _TARGETS if key in inputs), str(inputs.get("name")))
    return target, str(inputs["role"]), str(inputs["member"]), str((inputs.get("condition") or {}).get("title", ""))


def grants(evaluation: Evaluation) -> set[Grant]:
    return {found for item in evaluation.resources if (found := grant(item))}


def state(resources: Iterable[Registered], outputs: Any = None) -> dict[str, Any]:
    """Return an evaluation as the state that an update of it leaves."""
    root = "urn:pulumi:test::open-model-tuning::"
    entries = {f"{root}{item.type}::{item.name}": {"outputs": item.inputs} for item in resources if item.custom}
    return {f"{root}pulumi:pulumi:Stack::stack": {"outputs": outputs or {}}, **entries}


def after(old: Iterable[Registered], new: Evaluation) -> set[Grant]:
    """Return which grants there are after an update from one program to another."""
    before = {(item.type, item.name): item for item in old if grant(item)}
    there = {found for item in before.values() if (found := grant(item))}
    last: list[Grant] = []
    for item in new.resources:
        wanted = grant(item)
        if wanted is None:
            continue
        names = [name for name in (item.name, *item.aliases) if (item.type, name) in before]
        known = before.pop((item.type, names[0])) if names else None
        there.add(wanted)
        if known is not None and (was := grant(known)) is not None and was != wanted:
            last.append(was)
    last += [found for item in before.values() if (found := grant(item))]
    return there - set(last)
