"""`runner infra bootstrap|preview|up|refresh|destroy|outputs|graph`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from runner.cli.commands import Command, command
from runner.cli.cost_gate import confirmed
from runner.cli.infra.process import call, embedded_option, show, stack_options
from runner.cli.options import Invocation, together
from runner.environment.targets import Target

_POLICIES = click.option("--policies", is_flag=True, help="Also have the engine check the policy pack.")
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Print gcloud commands that create the same stack.")


def _verb(
    name: str, *options: Callable[..., Any], help: str, examples: Sequence[str], ask: str = "", changes: bool = False
) -> Command:
    """Make a command of a verb, which passes its options to the Pulumi program and shows the document.

    Args:
        name: name of the verb.
        options: decorators for its own options.
        help: its help.
        examples: examples for its help.
        ask: question to the user before anything changes; "" asks nothing. For an emulator, only deletions are
            confirmed.
        changes: whether it changes something, so that its first line names the target.
    """

    def run(invocation: Invocation, /, **given: Any) -> None:
        if changes and not given.get("dry_run") and not given.get("install_engine"):
            _name_target(invocation, name, given)
        if ask:
            harmless = given.get("dry_run") or (given.get("embedded") and name != "destroy")
            given["confirmed"] = bool(harmless or confirmed(invocation, ask.format(given["stack"])))
        result = call(invocation, name, **given)
        show(invocation, result, str(result.get("stateBucket", "")))

    body: Callable[..., Any] = together(stack_options, *options)(click.pass_obj(run))
    return command(name=name, help=help, examples=examples)(body)


def _name_target(invocation: Invocation, name: str, given: Mapping[str, Any]) -> None:
    """Print where a verb will act. Errors that can be found here are reported before the user is asked."""
    found = call(invocation, name, **{**given, "only_check": True})
    place = {"project": found["project"], "location": found["location"]}
    invocation.target = Target.at(
        found["address"] or None, **place, placeholder=bool(given.get("embedded") or given.get("emulator"))
    )
    invocation.output.target(invocation.target)


bootstrap = _verb(
    "bootstrap",
    click.option("--dry-run", is_flag=True, help="Print the equivalent gcloud commands without running anything."),
    click.option("--install-engine", is_flag=True, help="Only download Pulumi's engine into ~/.pulumi."),
    click.option("--emulator", metavar="URL", help="Bootstrap in an emulator."),
    help="Create what the first `up` needs: base APIs, a bucket for Pulumi's state, a key for its secrets, "
    "a stack file.\n\nRunning it again changes nothing. It needs Google credentials, but not the engine.",
    examples=(
        "runner infra bootstrap --stack dev --project my-project",
        "runner infra bootstrap --stack dev --project my-project --dry-run",
        "runner infra bootstrap --install-engine",
    ),
    changes=True,
)
preview = _verb(
    "preview",
    embedded_option,
    _POLICIES,
    click.option("--expect-no-changes", is_flag=True, help="Exit with code 1 if anything would change."),
    _DRY_RUN,
    help="Compare the stack with the cloud and show what `up` would change.",
    examples=(
        "runner infra preview --stack dev",
        "runner infra preview --stack prod --policies --expect-no-changes",
        "runner infra preview --stack local --embedded",
        "runner infra preview --stack prod --dry-run",
    ),
)
up = _verb(
    "up",
    embedded_option,
    _POLICIES,
    _DRY_RUN,
    help="Create or update the resources of the stack.",
    examples=(
        "runner infra up --stack dev",
        "runner infra up --stack prod --policies --yes",
        "runner infra up --stack local --embedded",
        "runner infra up --stack prod --dry-run",
    ),
    ask="Apply stack {}?",
    changes=True,
)
refresh = _verb(
    "refresh",
    embedded_option,
    click.option("--expect-no-changes", is_flag=True, help="Exit with code 1 if the state did not match the cloud."),
    help="Update Pulumi's state to match the cloud. The project itself does not change.\n\n"
    "With --embedded, list what was deleted or changed since the last `up`, and forget what was deleted.",
    examples=(
        "runner infra refresh --stack dev",
        "runner infra refresh --stack prod --yes",
        "runner infra refresh --stack local --embedded --expect-no-changes",
    ),
    ask="Refresh the state of stack {}?",
    changes=True,
)
destroy = _verb(
    "destroy",
    embedded_option,
    help="Delete the stack's resources. Protected resources stay, and the command lists them.",
    examples=("runner infra destroy --stack dev", "runner infra destroy --stack local --embedded --yes"),
    ask="Delete the resources of stack {}?",
    changes=True,
)
outputs = _verb(
    "outputs",
    embedded_option,
    help="Show the outputs of the last `up`: the environment document.\n\n"
    "Without access to Pulumi's state, read the document from the contract bucket: "
    "`--environment gs://BUCKET/environment.json`.",
    examples=("runner infra outputs --stack dev", "runner infra outputs --stack local --embedded --format json"),
)
graph = _verb(
    "graph",
    help="Draw the stack as a Mermaid diagram, or as JSON with every resource and its inputs. Works offline.",
    examples=("runner infra graph --stack prod", "runner infra graph --stack prod --format json"),
)
