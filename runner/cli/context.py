"""`runner use` and `runner context`: the default target of commands."""

from __future__ import annotations

from typing import Any

import click

from runner.cli import commands
from runner.cli.completing import completed
from runner.cli.options import Invocation
from runner.wording import camel_keys

command = commands.Group(
    name="context",
    help="Manage contexts, the places where commands act. A context names an environment document, or a project and a "
    "location.",
    examples=(
        "runner context ls",
        "runner context add production --environment gs://my-contract-bucket/environment.json",
        "runner use production",
    ),
    lazy={
        "ls": ("runner.cli.context:ls", "List contexts and mark the one in use."),
        "add": ("runner.cli.context:add", "Add a context."),
        "show": ("runner.cli.context:show", "Show the project, location and service of a context."),
        "rm": ("runner.cli.context:rm", "Remove a context."),
    },
)

_AUTOMATIC = "the emulator if it has a project here, otherwise flags and RUNNER_* variables"


@commands.command(name="use", examples=("runner use emulator", "runner use production", "runner use google"))
@click.argument("name", metavar="NAME", shell_complete=completed("contexts"))
@click.pass_obj
def use(invocation: Invocation, name: str) -> None:
    """Set the context in which commands act. NAME is emulator, google, or a context that you added.

    The context `google` takes project and location from flags and RUNNER_* variables. Flags, RUNNER_ENVIRONMENT and
    RUNNER_CONTEXT override the context.
    """
    from runner.environment import contexts
    from runner.state import emulator_runs

    contexts.use(name)
    found = contexts.load().find(name)
    invocation.output.result(found.to_json(), f"commands now use {_said(found)}", name=name)
    if name == contexts.EMULATOR and not emulator_runs():
        invocation.output.note("it is not running: `runner emulator start`")


@commands.command(name="ls", examples=("runner context ls", "runner context ls --format json"))
@click.pass_obj
def ls(invocation: Invocation) -> None:
    """List contexts; a star marks the one in use."""
    from runner.environment import contexts

    known = contexts.load()
    chosen = contexts.chosen(invocation.context)
    name = chosen[0].name if chosen else ""
    every = [*(contexts.Context(name=built_in) for built_in in contexts.BUILT_IN), *known.saved]
    rows = [["*" if item.name == name else "", item.name, _said(item, named=False)] for item in every]
    body = [{**item.to_json(), "current": item.name == name} for item in every]
    invocation.output.table(["", "name", "leads to"], rows, body=body, names=[item.name for item in every])
    invocation.output.note(f"in use by {chosen[1]}" if chosen else f"none is in use: commands act in {_AUTOMATIC}")


@commands.command(
    name="add",
    examples=(
        "runner context add production --environment gs://my-contract-bucket/environment.json",
        "runner context add test --project acme-ml-test --location europe-west4",
    ),
)
@click.argument("name", metavar="NAME", shell_complete=completed("contexts"))
@click.pass_obj
def add(invocation: Invocation, name: str) -> None:
    """Save the environment document, or the project and the location, of this command line under NAME."""
    from runner import local_files
    from runner.environment import contexts

    document = invocation.environment or ""
    if document and not document.startswith("gs://"):
        document = str(local_files.expanded(document).absolute())
    made = contexts.Context(
        name=name, environment=document, project=invocation.project or "", location=invocation.location or ""
    )
    contexts.add(made)
    invocation.output.result(made.to_json(), f"added {_said(made)}", name=name)
    invocation.output.note(f"next: `runner use {name}`, or `--context {name}` for one command")


@commands.command(name="show", examples=("runner context show", "runner context show production"))
@click.argument("name", metavar="[NAME]", required=False, shell_complete=completed("contexts"))
@click.pass_obj
def show(invocation: Invocation, name: str | None) -> None:
    """Show the project, the location and the service of a context [default: the one in use]."""
    invocation.context = name or invocation.context
    environment = invocation.resolved()
    target = environment.target
    pairs: list[tuple[str, Any]] = [
        ("context", environment.context or "none"),
        ("project", target.project or "not set"),
        ("location", target.location),
        ("service", target.service),
        ("charged", "nothing" if target.free else "list prices" if target.service == "Google Cloud" else "unknown"),
        ("project from", environment.sources.get("project")),
    ]
    body = camel_keys({"context": environment.context, **target.to_json(), "sources": environment.sources})
    invocation.output.result(body, pairs, name=environment.context)


@commands.command(name="rm", examples=("runner context rm production",))
@click.argument("name", metavar="NAME", shell_complete=completed("contexts"))
@click.pass_obj
def rm(invocation: Invocation, name: str) -> None:
    """Remove a context. Its project and its resources do not change."""
    from runner.environment import contexts

    contexts.remove(name)
    invocation.output.result({"removed": name}, f"removed {name}", name=name)


def _said(context: Any, *, named: bool = True) -> str:
    """Describe the target of a context."""
    built_in = {
        "emulator": "the emulator on this machine",
        "google": "Google Cloud, by flags and RUNNER_* variables",
    }.get(context.name)
    parts = [context.environment, context.project and f"project {context.project}", context.location]
    where = built_in or ", ".join(part for part in parts if part)
    return f"{context.name} ({where})" if named else where
