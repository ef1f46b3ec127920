"""`runner emulator provision|env|reset`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from runner.cli.commands import command
from runner.cli.cost_gate import confirmed
from runner.cli.emulator import directory, running
from runner.cli.options import Invocation
from runner.errors import ConfigurationError, EngineMissingError, RunnerError

DEFAULT_PROJECT = "local-project"
DEFAULT_LOCATION = "us-central1"


@command(name="provision", examples=("runner emulator provision", "runner emulator provision --project demo"))
@click.pass_obj
def provision(invocation: Invocation) -> None:
    """Set a project up in the running emulator with the Pulumi program of this package: APIs, service agents, buckets.

    Afterwards every command works in it without further options.
    """
    info = running()
    _check_pulumi()
    document: Path = directory() / "environment.json"
    arguments = [sys.executable, "-m", "infra.embedded", "--emulator", info.url]
    arguments += ["--project", invocation.project or DEFAULT_PROJECT]
    arguments += ["--location", invocation.location or DEFAULT_LOCATION]
    arguments += ["--output", str(document), "--state", str(directory() / "infra.json")]
    variables = {**os.environ, **({"RUNNER_EMULATOR_TOKEN": info.token} if info.token else {})}
    done = subprocess.run(arguments, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise RunnerError(f"the Pulumi program failed: {lines[-1] if lines else f'status {done.returncode}'}")
    environment: dict[str, Any] = json.loads(document.read_bytes())
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
    help="How to spell them; bash suits zsh and sh [bash].",
)
@click.pass_obj
def env(invocation: Invocation, shell: Any) -> None:
    """Print the variables that point Google's SDKs, gcsfs, Pulumi and Terraform at the running emulator."""
    from runner.cli.variables import emulator_variables, spelled

    info = running()
    place: Path = directory()
    document = place / "environment.json"
    known: dict[str, Any] = json.loads(document.read_bytes()) if document.exists() else {}
    variables = emulator_variables(
        info.url,
        token=info.token,
        credentials=str(_credentials(place, info.url, known.get("project", "emulator"))),
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
    if place.exists() and not (invocation.yes or confirmed(f"Delete everything in {place}?")):
        problem = f"deleting {place} was not confirmed"
        raise ConfigurationError(problem, problems=[problem], hint="--yes confirms it")
    daemon.stop(place)
    deleted = daemon.reset(place)
    invocation.output.result({"deleted": deleted, "directory": str(place)}, "deleted" if deleted else "nothing to do")


def _check_pulumi() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("pulumi", "pulumi_gcp", "infra.embedded") if find_spec(name.split(".")[0]) is None]
    if missing:
        raise EngineMissingError(
            f"provisioning needs {', '.join(missing)}, which is not installed",
            hint='`pip install "open-model-tuning[infra]"`',
        )


def _credentials(place: Path, url: str, project: str) -> Path:
    """Return a service account file whose tokens the emulator issues; made once for each address.

    Its key opens nothing: no other service knows it.
    """
    path = place / "credentials.json"
    try:
        present = json.loads(path.read_bytes())
        if present.get("token_uri") == f"{url}/token" and present.get("project_id") == project:
            return path
    except (OSError, ValueError):
        pass
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    email = f"emulator@{project}.iam.gserviceaccount.com"
    body = {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "emulator",
        "private_key": key.private_bytes(*form).decode(),
        "client_email": email,
        "client_id": "0",
        "token_uri": f"{url}/token",
    }
    aside = path.with_name("credentials.json.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(body, file)
    aside.replace(path)
    return path
