"""The stack that a verb works on: its folder and its configuration, with what the command line says about them."""

from __future__ import annotations

import os
import re
import shlex
from argparse import Namespace
from pathlib import Path

from infra import stack_files
from infra.settings.reader import NAMESPACE
from runner.errors import ConfigurationError

EMULATOR = "http://127.0.0.1:8085"
_COMMAND = re.compile(r"`(runner infra (bootstrap|preview|up|refresh|destroy|outputs|graph|iam|doctor)[^`]*)`")
_WITHOUT_ENGINE = ("preview", "up", "destroy", "outputs")


def complete(hint: str, options: Namespace) -> str:
    """Return a hint whose commands act, as they stand, on the stack that the options name, and in the same way."""

    def completed(match: re.Match[str]) -> str:
        words = shlex.split(match[1])
        given = [("--stack", options.stack), ("--directory", options.directory and str(options.directory))]
        given += [("--project", options.project), ("--location", options.location)]
        more = [word for name, value in given if value and name not in words for word in (name, value)]
        if options.embedded and match[2] in _WITHOUT_ENGINE and "--embedded" not in words:
            more.insert(0, "--embedded")
        return f"`{' '.join([match[1], *map(shlex.quote, more)])}`"

    return _COMMAND.sub(lambda match: match[0] if "--install-engine" in match[1] else completed(match), hint)


def directory(options: Namespace) -> Path:
    """Return the folder of Pulumi.yaml."""
    chosen = Path(options.directory or stack_files.ROOT)
    if not (chosen / "Pulumi.yaml").is_file():
        raise ConfigurationError(
            f"there is no Pulumi.yaml in {chosen}", hint=f"`runner infra init {shlex.quote(str(chosen))}` writes one"
        )
    return chosen


def configuration(options: Namespace) -> dict[str, str]:
    """Return the stack's configuration; with --embedded, at the emulator's addresses."""
    values = stack_files.configuration(options.stack, directory(options))
    if options.project:
        values["gcp:project"] = options.project
    if options.location:
        values["gcp:region"] = options.location
    if options.embedded:
        values = {key: value for key, value in values.items() if not key.endswith("CustomEndpoint")}
        values[f"{NAMESPACE}:emulator"] = options.emulator or EMULATOR
        token = os.environ.get("RUNNER_EMULATOR_TOKEN")
        if token:
            values["gcp:accessToken"] = token
    return values
