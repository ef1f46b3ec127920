"""`runner infra bootstrap|preview|up|refresh|destroy|outputs`."""

from __future__ import annotations

from pathlib import Path

import click

from runner.cli.commands import command
from runner.cli.cost_gate import confirmed
from runner.cli.infra_process import call, embedded_options, show, stack_options
from runner.cli.options import Invocation


@command(
    name="bootstrap",
    examples=(
        "runner infra bootstrap --stack dev --project my-project",
        "runner infra bootstrap --stack dev --project my-project --dry-run",
        "runner infra bootstrap --install-engine",
    ),
)
@stack_options
@click.option("--dry-run", is_flag=True, help="Do nothing; print the gcloud commands that do the same.")
@click.option("--install-engine", is_flag=True, help="Only download Pulumi's engine, into ~/.pulumi.")
@click.option("--emulator", metavar="URL", help="Do it in an emulator.")
@click.pass_obj
def bootstrap(
    invocation: Invocation,
    stack: str,
    directory: Path | None,
    dry_run: bool,
    install_engine: bool,
    emulator: str | None,
) -> None:
    """Make what the first `up` needs: base APIs, a bucket for Pulumi's state, a key for its secrets, a stack file.

    Doing it again changes nothing. It needs Google credentials, not the engine.
    """
    result = call(
        invocation,
        "bootstrap",
        stack=stack,
        directory=directory,
        dry_run=dry_run,
        install_engine=install_engine,
        emulator=emulator,
    )
    show(invocation, result, str(result.get("stateBucket", "")))


@command(
    name="preview",
    examples=(
        "runner infra preview --stack dev",
        "runner infra preview --stack prod --policies --expect-no-changes",
        "runner infra preview --stack local --embedded",
        "runner infra preview --stack prod --dry-run",
    ),
)
@stack_options
@embedded_options
@click.option("--policies", is_flag=True, help="Run the policy pack; needs the package pulumi-policy.")
@click.option("--expect-no-changes", is_flag=True, help="Exit code 1 if anything would change.")
@click.option("--dry-run", is_flag=True, help="Print gcloud commands that make the same stack.")
@click.pass_obj
def preview(
    invocation: Invocation,
    stack: str,
    directory: Path | None,
    embedded: bool,
    policies: bool,
    expect_no_changes: bool,
    dry_run: bool,
) -> None:
    """Show what `up` would change, after a look at what is there."""
    result = call(
        invocation,
        "preview",
        embedded=embedded,
        stack=stack,
        directory=directory,
        policies=policies,
        expect_no_changes=expect_no_changes,
        dry_run=dry_run,
    )
    show(invocation, result)


@command(
    name="up",
    examples=(
        "runner infra up --stack dev",
        "runner infra up --stack prod --policies --yes",
        "runner infra up --stack local --embedded",
        "runner infra up --stack prod --dry-run",
    ),
)
@stack_options
@embedded_options
@click.option("--policies", is_flag=True, help="Run the policy pack; needs the package pulumi-policy.")
@click.option("--dry-run", is_flag=True, help="Print gcloud commands that make the same stack.")
@click.pass_obj
def up(
    invocation: Invocation, stack: str, directory: Path | None, embedded: bool, policies: bool, dry_run: bool
) -> None:
    """Make or change what the stack says."""
    sure = embedded or dry_run or invocation.yes or confirmed(f"Apply stack {stack}?")
    result = call(
        invocation,
        "up",
        embedded=embedded,
        stack=stack,
        directory=directory,
        policies=policies,
        dry_run=dry_run,
        confirmed=sure,
    )
    show(invocation, result)


@command(name="refresh", examples=("runner infra refresh --stack dev", "runner infra refresh --stack prod --yes"))
@stack_options
@click.option("--expect-no-changes", is_flag=True, help="Exit code 1 if the state was not what is there.")
@click.pass_obj
def refresh(invocation: Invocation, stack: str, directory: Path | None, expect_no_changes: bool) -> None:
    """Bring Pulumi's state to what is there. Nothing in the project changes."""
    sure = invocation.yes or confirmed(f"Refresh the state of stack {stack}?")
    result = call(
        invocation,
        "refresh",
        stack=stack,
        directory=directory,
        expect_no_changes=expect_no_changes,
        confirmed=sure,
    )
    show(invocation, result)


@command(
    name="destroy",
    examples=("runner infra destroy --stack dev", "runner infra destroy --stack local --embedded --yes"),
)
@stack_options
@embedded_options
@click.pass_obj
def destroy(invocation: Invocation, stack: str, directory: Path | None, embedded: bool) -> None:
    """Delete the stack's resources. What is protected stays, and is named."""
    sure = invocation.yes or confirmed(f"Delete the resources of stack {stack}?")
    result = call(invocation, "destroy", embedded=embedded, stack=stack, directory=directory, confirmed=sure)
    show(invocation, result)


@command(
    name="outputs",
    examples=("runner infra outputs --stack dev", "runner infra outputs --stack local --embedded --format json"),
)
@stack_options
@embedded_options
@click.pass_obj
def outputs(invocation: Invocation, stack: str, directory: Path | None, embedded: bool) -> None:
    """Show what the last `up` made: the environment document.

    Who cannot read Pulumi's state reads it from the contract bucket: `--environment gs://BUCKET/environment.json`.
    """
    result = call(invocation, "outputs", embedded=embedded, stack=stack, directory=directory)
    show(invocation, result)
