"""Set up a project in an emulator with the Pulumi program: for `runner emulator provision`, quickstart and tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.errors import RunnerError
from runner.infrastructure import program_command, require_program
from runner.json_text import parsed


def provision(
    url: str,
    directory: Path,
    *,
    project: str,
    location: str,
    token: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Set up a project in an emulator with the program, and return its environment document.

    Args:
        url: the emulator's address.
        directory: its state directory, which gets `environment.json` and the program's own state.
        project: project ID.
        location: for example `us-central1`.
        token: the emulator's token.
        tell: called with a line for each step.

    Raises:
        EngineMissingError: the extra `infra` is not installed.
        RunnerError: the program failed.
    """
    require_program("provisioning")
    document = directory / "environment.json"
    arguments = program_command("infra.embedded", "--emulator", url, "--project", project, "--location", location)
    arguments += ["--output", str(document), "--state", str(directory / "infra.json")]
    variables = {**os.environ, **({"RUNNER_EMULATOR_TOKEN": token} if token else {})}
    done = subprocess.run(
        arguments, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        message = f"the Pulumi program failed: {lines[-1] if lines else f'status {done.returncode}'}"
        raise RunnerError(message, hint="see `runner emulator logs`, then run the command again")
    for line in done.stderr.strip().splitlines() if tell else ():
        if tell and not line.startswith((" ", "+")):  # the steps and the sum; not every resource
            tell(line)
    body: dict[str, Any] = parsed(document.read_bytes())
    return body
