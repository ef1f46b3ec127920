"""What to type when something of that name is there already: the command that takes it into the stack.

The engine refuses to create what exists, and plain `pulumi up` knows nothing of an earlier run that lost the answer.
`runner infra up` looks such things up and takes over what the stack made; for plain `pulumi` there is `pulumi import`,
which needs the resource's parent and provider, or the next `up` would delete what was imported.
"""

from __future__ import annotations

import shlex
from typing import Any

from infra.urns import key_of, type_of

PROVIDER = "google"
"""The name of the stack's one provider in the program."""


def import_command(urn: str, id_: str, parent: str) -> str:
    """Return the command of `pulumi` that takes a thing into a stack.

    Args:
        urn: of the resource that stands for it, its type preceded by those of its parents.
        id_: as the provider imports it.
        parent: name of the component that the resource belongs to, "" for none.
    """
    stack, project, chain, name = urn.removeprefix("urn:pulumi:").split("::", 3)
    root = f"urn:pulumi:{stack}::{project}"
    above = chain.rpartition("$")[0]
    words = ["pulumi", "import", type_of(urn), name, id_, "--stack", stack]
    words += ["--parent", f"{parent}={root}::{above}::{parent}"] if above and parent else []
    words += ["--provider", f"{PROVIDER}={root}::pulumi:providers:gcp::{PROVIDER}"]
    return shlex.join([*words, "--protect=false", "--generate-code=false", "--yes"])


def advice(urn: str, inputs: dict[str, Any], parent: str) -> str:
    """Return what to do about a create that was refused because the name is taken; "" where the service names."""
    # Loads what a program that meets no obstacle has no use for.
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
