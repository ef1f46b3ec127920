"""Tells users what to run if a resource with the same name already exists: the command that imports it.

The engine refuses to create what already exists. Plain `pulumi up` does not know of an earlier run whose response was
lost. `runner infra up` looks such resources up and adopts those that the stack created. For plain `pulumi`, there is
`pulumi import`. It needs the resource's parent and provider, or the next `up` would delete what was imported.
"""

from __future__ import annotations

import shlex
from typing import Any

from infra.urns import key_of, type_of

PROVIDER = "google"
"""Name of the stack's one provider in the program."""


def import_command(urn: str, id_: str, parent: str) -> str:
    """Return the `pulumi` command that imports a resource into a stack.

    Args:
        urn: URN of the resource; its type is preceded by the types of its parents.
        id_: ID in the form that the provider imports.
        parent: name of the component that the resource belongs to, or "" if there is none.
    """
    stack, project, chain, name = urn.removeprefix("urn:pulumi:").split("::", 3)
    root = f"urn:pulumi:{stack}::{project}"
    above = chain.rpartition("$")[0]
    words = ["pulumi", "import", type_of(urn), name, id_, "--stack", stack]
    words += ["--parent", f"{parent}={root}::{above}::{parent}"] if above and parent else []
    words += ["--provider", f"{PROVIDER}={root}::pulumi:providers:gcp::{PROVIDER}"]
    return shlex.join([*words, "--protect=false", "--generate-code=false", "--yes"])


def advice(urn: str, inputs: dict[str, Any], parent: str) -> str:
    """Return what to do after a create failed because the name is taken; "" if the service chooses the name."""
    # Imported here because a program that runs into no conflict does not need it.
    from infra.embedded.registry import named

    id_ = named(type_of(urn), inputs)
    if not id_:
        return ""
    stack = urn.removeprefix("urn:pulumi:").partition("::")[0]
    return (
        f"{key_of(urn)}: {id_} is there already. If an earlier run of this stack made it, "
        f"`runner infra up --stack {stack}` takes it over; else, or with pulumi alone: "
        f"{import_command(urn, id_, parent)}"
    )
