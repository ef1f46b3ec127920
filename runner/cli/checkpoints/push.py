"""`runner checkpoints export --push`: push exported weights to a model hub, after confirmation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner.cli.options import Invocation, together
from runner.cli.text import size
from runner.errors import ConfigurationError, CostRefusedError
from runner.wording import counted

push_options = together(
    click.option("--push", metavar="NAMESPACE/NAME", help="Push the files to a new private repository on a model hub."),
    click.option("--public", is_flag=True, help="With --push: make the repository public."),
)


def check_push(repository: str | None, *, public: bool) -> None:
    """Refuse an impossible push before anything is downloaded. Raises ConfigurationError, EngineMissingError."""
    if public and repository is None:
        raise ConfigurationError("--public requires --push", hint="add --push NAMESPACE/NAME")
    if repository is not None:
        from runner.serving.hub import check_name

        check_name(repository)


def push_weights(invocation: Invocation, directory: Path, repository: str, *, public: bool) -> dict[str, Any]:
    """Push a folder of checked weights and return the text to print.

    Raises CostRefusedError and the errors of `hub.push`.
    """
    from runner.cli.cost_gate import confirmed
    from runner.serving import hub

    output = invocation.output
    plan = hub.plan_push(directory, repository, private=not public)
    if plan.state == "done":
        output.note(f"{plan.url} already has these files: nothing was pushed")
        return {**plan.to_json(), "commit": None}
    seen = "visible only to you" if plan.private else "visible to EVERYONE: the base model's license must allow that"
    output.note(f"push: {counted(len(plan.files), 'file')}, {size(plan.size)}, to {plan.url}: {seen}")
    output.note("a hub can bill storage beyond the free quota of an account; its price is not known")
    if not confirmed(invocation, "Push them?"):
        raise CostRefusedError(
            f"the push was not confirmed: the weights were not sent to {plan.url}", hint="give --yes"
        )
    invocation.interrupted = (
        "run the same command again to continue; the hub shows nothing until all files are uploaded"
    )
    commit = hub.push(plan)
    invocation.interrupted = ""
    return {**plan.to_json(), "commit": commit}
