"""`runner infra iam|doctor`: commands that need neither engine nor network."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.commands import command
from runner.cli.infra.process import call, show, stack_options
from runner.cli.options import Invocation


@command(name="iam", examples=("runner infra iam --stack prod", "runner infra iam --stack prod --format json"))
@stack_options
@click.pass_obj
def iam(invocation: Invocation, stack: str, directory: Path | None) -> None:
    """List every permission that the stack grants: principal, role, resource. Works offline."""
    result = call(invocation, "iam", stack=stack, directory=directory)
    del result["text"]
    rows = [(item["who"], item["role"], item["on"]) for item in result["grants"]]
    invocation.output.table(("who", "role", "on"), rows, body=result, names=[row[0] for row in rows])


@command(name="doctor", examples=("runner infra doctor --stack prod", "runner infra doctor --stack dev --format json"))
@stack_options
@click.pass_obj
def doctor(invocation: Invocation, stack: str, directory: Path | None) -> None:
    """Check whether `up` can run here: engine, state, credentials, the stack's settings, the policy rules.

    The exit code is 1 if something that `up` needs is missing.
    """
    result = call(invocation, "doctor", stack=stack, directory=directory)
    ready = result["ready"]
    show(invocation, result)
    if not ready:
        raise click.exceptions.Exit(1)
