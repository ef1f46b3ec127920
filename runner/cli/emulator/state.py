"""`runner emulator provision|env|reset`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import require_confirmed
from runner.cli.emulator.group import running
from runner.cli.options import Invocation
from runner.cli.values import FILE, OneOf
from runner.errors import require_sound
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
    type=OneOf(["bash", "fish", "powershell", "json"]),
    help="Shell syntax; bash also works in zsh and sh [default: bash].",
)
@click.pass_obj
def env(invocation: Invocation, shell: Any) -> None:
    """Print the variables that point Google's SDKs and tools at the running emulator.

    Google's client libraries, gcloud, gsutil, gcsfs, rclone, Pulumi and Terraform read them. After `provision`,
    Application Default Credentials are a key of the runner's service account, with its permissions.
    """
    from runner.cli.emulator import credentials
    from runner.cli.emulator.variables import emulator_variables, gcloud_endpoints, spelled

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
        gcloud=credentials.gcloud_folder(place, gcloud_endpoints(info.url), project),
        token_file=credentials.token_file(place, info),
        project=project,
        location=invocation.location or known.get("location", ""),
        document=str(document) if document.exists() else "",
    )
    chosen: Any = shell or ("json" if invocation.output.is_json else "bash")
    invocation.output.piece(spelled(variables, chosen) + "\n")


@command(
    name="key",
    examples=(
        "runner emulator key --to key.json",
        "runner emulator key ci-tests --role roles/aiplatform.user --role roles/storage.objectUser --to ci.json",
    ),
)
@click.argument("account", required=False)
@click.option(
    "--role", "roles", multiple=True, metavar="ROLE", help="Role to grant to ACCOUNT in the project; repeatable."
)
@click.option("--to", type=FILE, help="File to write [default: standard output].")
@click.option("--force", is_flag=True, help="Overwrite FILE.")
@click.pass_obj
def key(invocation: Invocation, account: str | None, roles: tuple[str, ...], to: Path | None, force: bool) -> None:
    """Create a key file for ACCOUNT, a service account in the emulator, so that Google's clients can sign in.

    ACCOUNT is the email address or ID of the service account [default: the runner's]. If it does not exist, the command
    creates it. Set GOOGLE_APPLICATION_CREDENTIALS to the file for client libraries; for gcloud, run `gcloud auth
    activate-service-account --key-file`.
    """
    from runner import local_files
    from runner.cli.emulator import credentials

    info = running()
    document: Path = emulator_directory() / "environment.json"
    known: dict[str, Any] = parsed(document.read_bytes()) if document.exists() else {}
    project: str = invocation.project or known.get("project", "")
    account = account or known.get("runnerServiceAccount", "")
    problems = {}
    if info.token:
        problems["this emulator takes its own token only, and no keys"] = "start it without --token"
    if not project or not account:
        problems["no project is set up, and every account belongs to a project"] = (
            "`runner emulator provision` makes a project"
        )
    if to is not None and to.exists() and not force:
        problems[f"{to} exists"] = "overwrite it with --force"
    require_sound(list(problems), hint="; ".join(problems.values()))
    address = credentials.made_account(info, project, str(account), roles)
    content = credentials.new_key(info, address)
    if to is None:
        invocation.output.piece(content.decode() + "\n")
        return
    local_files.replace(to, content, private=True, hint="free disk space, or name another file with --to")
    invocation.output.result({"file": str(to), "account": address}, f"a key of {address} in {to}", name=str(to))


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
