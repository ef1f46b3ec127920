"""The graph of a stack in forms for reading, comparing and drawing."""

from __future__ import annotations

import json
import re
from typing import Any

from infra.evaluation import Evaluation, Registered
from infra.urns import name_of

_PROVIDER = "pulumi:providers:gcp"
_SOURCE = re.compile(r"(functions/idle-guard-)[0-9a-f]{16}")


def to_json(evaluation: Evaluation) -> dict[str, Any]:
    """Return the graph: resources by `type name`, and outputs.

    Values that depend on the code and not on the settings are omitted: the digest in the name of the function's source,
    and the list of its files.
    """
    resources = {f"{short_type(item.type)} {item.name}": _entry(item) for item in evaluation.resources}
    body = {"resources": dict(sorted(resources.items())), "outputs": evaluation.outputs}
    cleaned: dict[str, Any] = json.loads(_SOURCE.sub(r"\1DIGEST", json.dumps(body, sort_keys=True)))
    return cleaned


def _entry(item: Registered) -> dict[str, Any]:
    inputs = {key: value for key, value in item.inputs.items() if key != "source"}
    # The stack's own name is omitted: within one process, Pulumi keeps the name from the first evaluation.
    parent = "" if "pulumi:pulumi:Stack::" in item.parent else name_of(item.parent)
    entry: dict[str, Any] = {"parent": parent}
    if inputs:
        entry["inputs"] = inputs
    flags = {"protect": item.protect, "retain": item.retain, "import": item.import_id, "retried": bool(item.hooks)}
    return entry | {key: value for key, value in flags.items() if value}


def short_type(token: str) -> str:
    """Return a type in the form for people: `storage.Bucket`, `projects.IAMMember`, `Apis`."""
    if token == _PROVIDER:
        return "Provider"
    parts = token.split(":")
    if parts[0] == "gcp":
        return f"{parts[1].split('/')[0]}.{parts[2]}"
    return parts[-1]


def roles(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    """Return every permission that the stack grants: principal, role and resource, sorted.

    Raises nothing: a resource with a role and a member is a grant, regardless of its type.
    """
    found = []
    for item in evaluation.resources:
        if "role" in item.inputs and "member" in item.inputs:
            condition = item.inputs.get("condition")
            suffix = f", only {condition['title']}" if condition else ""
            found.append((_who(item.inputs["member"]), str(item.inputs["role"]), _target(item) + suffix))
    return sorted(found)


def _who(member: str) -> str:
    kind, _, name = member.partition(":")
    if kind == "serviceAccount":
        account, _, domain = name.partition("@")
        if domain.startswith(("gcp-sa-", "gs-project-accounts")):
            return domain.split(".")[0]
        return account
    if kind == "principalSet":
        return name.split("/workloadIdentityPools/", 1)[-1]
    return member


def _target(item: Registered) -> str:
    inputs = item.inputs
    if "bucket" in inputs:
        return f"bucket {inputs['bucket']}"
    if "cryptoKeyId" in inputs:
        parts = str(inputs["cryptoKeyId"]).split("/")
        return f"key {parts[-1]} in {parts[3]}"
    if "serviceAccountId" in inputs:
        return f"account {str(inputs['serviceAccountId']).rsplit('/', 1)[-1].partition('@')[0]}"
    if item.type.endswith(":ServiceIamMember"):
        return f"function {inputs['name']}"
    return f"project {inputs.get('project', '')}"


def mermaid(evaluation: Evaluation) -> str:
    """Return a diagram: each component with its resources, and each principal's access to buckets and projects."""
    components: dict[str, list[Registered]] = {}
    titles: dict[str, str] = {}
    for item in evaluation.resources:
        parent = name_of(item.parent) if item.parent else ""
        if not item.custom:
            titles[item.name] = short_type(item.type)
        elif not item.type.startswith("pulumi:") and "role" not in item.inputs:
            components.setdefault(parent, []).append(item)
    lines = ["flowchart LR"]
    for parent in sorted(components):
        lines.append(f'  subgraph {_id(parent)}["{titles.get(parent, parent)}"]')
        counts: dict[str, list[str]] = {}
        for item in components[parent]:
            counts.setdefault(short_type(item.type), []).append(_title(item))
        for kind in sorted(counts):
            listed = "<br/>".join(sorted(counts[kind]))
            lines.append(f'    {_id(f"{parent}_{kind}")}["<b>{kind}</b><br/>{listed}"]')
        lines.append("  end")
    buckets = {str(item.inputs["name"]) for item in evaluation.resources if item.type.endswith("bucket:Bucket")}
    edges = set()
    for who, role, target in roles(evaluation):
        kind, _, name = target.partition(" ")
        if kind == "bucket" and name in buckets and not who.startswith(("user:", "group:")):
            edges.add((who, role.removeprefix("roles/")))
    for who in sorted({edge[0] for edge in edges}):
        held = "<br/>".join(sorted(role for name, role in edges if name == who))
        lines.append(f'  {_id("who_" + who)}(["{who}"]) -->|"{held}"| {_id("buckets_storage.Bucket")}')
    return "\n".join(lines) + "\n"


def _title(item: Registered) -> str:
    for key in ("accountId", "workloadIdentityPoolId", "service", "displayName", "name"):
        if isinstance(item.inputs.get(key), str):
            return _SOURCE.sub(r"\1…", str(item.inputs[key]).removesuffix(".googleapis.com"))
    return item.name


def _id(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", text)
