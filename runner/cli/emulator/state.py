"""`runner emulator provision|env|reset`."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import confirmed
from runner.cli.emulator.group import directory, running
from runner.cli.options import Invocation
from runner.errors import ConfigurationError, RunnerError, UnreachableError

if TYPE_CHECKING:
    from runner.emulator.daemon import ServerInfo

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
    document: Path = directory() / "environment.json"
    environment = set_up(
        info.url,
        directory(),
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
    """Print the variables that point Google's SDKs, gcsfs, Pulumi and Terraform at the running emulator.

    After `provision` Application Default Credentials are a key of the runner's service account, with its permissions.
    """
    from runner.cli.emulator.variables import emulator_variables, spelled

    info = running()
    place: Path = directory()
    document = place / "environment.json"
    known: dict[str, Any] = json.loads(document.read_bytes()) if document.exists() else {}
    variables = emulator_variables(
        info.url,
        token=info.token,
        credentials=_credentials(place, info, known.get("runnerServiceAccount", "")),
        project=invocation.project or known.get("project", ""),
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

    place: Path = directory()
    if place.exists() and not confirmed(invocation, f"Delete everything in {place}?"):
        problem = f"deleting {place} was not confirmed"
        raise ConfigurationError(problem, problems=[problem], hint="confirm with --yes")
    daemon.stop(place)
    deleted = daemon.reset(place)
    invocation.output.result({"deleted": deleted, "directory": str(place)}, "deleted" if deleted else "nothing to do")


def _credentials(place: Path, info: ServerInfo, account: str) -> str:
    """Return a key file of a service account in the emulator, asked for when there is none yet; "" without an account.

    A server that demands a token takes no other credentials, so there is none either.
    """
    if not account or info.token:
        return ""
    path = place / "credentials.json"
    try:
        present = json.loads(path.read_bytes())
        if (present.get("token_uri"), present.get("client_email")) == (f"{info.url}/token", account):
            return str(path)
    except (OSError, ValueError):
        pass
    key = base64.b64decode(_new_key(info.url, account)["privateKeyData"])
    aside = path.with_name("credentials.json.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key)
    aside.replace(path)
    return str(path)


def _new_key(url: str, account: str) -> dict[str, Any]:
    """Ask the emulator for a key of a service account. Raises RunnerError."""
    import http.client
    from urllib.parse import urlsplit

    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    try:
        connection.request("POST", f"/v1/projects/-/serviceAccounts/{account}/keys", body=b"{}")
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UnreachableError(f"the emulator at {url} does not answer: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise RunnerError(f"no key for {account}: {answer.get('error', {}).get('message', response.status)}")
    return answer
