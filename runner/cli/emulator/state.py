"""`runner emulator provision|env|reset`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import require_confirmed
from runner.cli.emulator.group import running
from runner.cli.options import Invocation
from runner.json_text import parsed
from runner.state import emulator_directory

DEFAULT_PROJECT = "local-project"
DEFAULT_LOCATION = "us-central1"


@command(name="provision", examples=("runner emulator provision", "runner emulator provision --project demo"))
@click.pass_obj
def provision(invocation: Invocation) -> None:
    """Set up a project in the running emulator with the Pulumi program of this package: APIs, service agents, buckets.

    Afterwards, every command works in that project without further options.
    """
    from runner.infrastructure.provisioning import provision as set_up

    info = running()
    document: Path = emulator_directory() / "environment.json"
    environment = set_up(
        info.url,
        emulator_directory(),
        project=invocation.project or DEFAULT_PROJECT,
        location=invocation.location or DEFAULT_LOCATION,
        token=info.token,
    )
    buckets = environment.get("buckets", {})
    pairs = [("project", environment.get("project")), ("location", environment.get("location"))]
    pairs += [(f"{kind} bucket", name) for kind, name in buckets.items()]
    invocation.output.result(environment, [*pairs, ("environment", document)], name=str(document))


@command(
    name="env",
    examples=(
        'eval "$(runner emulator env)"',
        "runner emulator env --shell fish | source",
        "runner emulator env --shell powershell | Out-String | Invoke-Expression",
    ),
)
@click.option(
    "--shell",
    type=click.Choice(["bash", "fish", "powershell", "json"]),
    help="Shell syntax; bash also works in zsh and sh [default: bash].",
)
@click.pass_obj
def env(invocation: Invocation, shell: Any) -> None:
    """Print the variables that point Google's SDKs and tools at the running emulator.

    They are read by Google's client libraries, gcloud, gsutil, gcsfs, rclone, Pulumi and Terraform. After `provision`,
    Application Default Credentials are a key of the runner's service account, with its permissions.
    """
    from runner.cli.emulator import credentials
    from runner.cli.emulator.variables import emulator_variables, spelled

    info = running()
    place: Path = emulator_directory()
    document = place / "environment.json"
    known: dict[str, Any] = parsed(document.read_bytes()) if document.exists() else {}
    account: str = known.get("runnerServiceAccount", "")
    project: str = invocation.project or known.get("project", "")
    variables = emulator_variables(
        info.url,
        token=info.token,
        credentials=credentials.key_file(place, info, account),
        boto=credentials.boto_file(place, info, project),
        token_file=credentials.token_file(place, info),
        project=project,
        location=invocation.location or known.get("location", ""),
        document=str(document) if document.exists() else "",
    )
    chosen: Any = shell or ("json" if invocation.output.is_json else "bash")
    invocation.output.piece(spelled(variables, chosen) + "\n")


@command(name="reset", examples=("runner emulator reset", "runner emulator reset --yes"))
@click.pass_obj
def reset(invocation: Invocation) -> None:
    """Stop the emulator and delete its state: every project, object, job and model in it."""
    from runner.emulator import daemon

    place: Path = emulator_directory()
    if place.exists():
        require_confirmed(invocation, f"Delete everything in {place}?", f"deleting {place}")
    daemon.stop(place)
    deleted = daemon.reset(place)
    invocation.output.result({"deleted": deleted, "directory": str(place)}, "deleted" if deleted else "nothing to do")
