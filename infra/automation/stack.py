"""The stack that a verb works on: its folder and its configuration, including command line options."""

from __future__ import annotations

import os
import re
import shlex
from argparse import Namespace
from pathlib import Path

from infra import stack_files
from infra.settings.reader import NAMESPACE
from runner.errors import ConfigurationError
from runner.infrastructure import stack_file

EMULATOR = "http://127.0.0.1:8085"
_COMMAND = re.compile(r"`(runner infra (bootstrap|preview|up|refresh|destroy|outputs|graph|iam|doctor)[^`]*)`")
_WITHOUT_ENGINE = ("preview", "up", "refresh", "destroy", "outputs")


def complete(hint: str, options: Namespace) -> str:
    """Return a hint whose commands, as printed, apply to the stack that the options name, with the same options."""

    def completed(match: re.Match[str]) -> str:
        words = shlex.split(match[1])
        given = [("--stack", options.stack), ("--directory", options.directory and str(options.directory))]
        given += [("--project", options.project), ("--location", options.location)]
        more = [word for name, value in given if value and name not in words for word in (name, value)]
        if options.embedded and match[2] in _WITHOUT_ENGINE and "--embedded" not in words:
            more.insert(0, "--embedded")
        return f"`{' '.join([match[1], *map(shlex.quote, more)])}`"

    return _COMMAND.sub(lambda match: match[0] if "--install-engine" in match[1] else completed(match), hint)


def directory(options: Namespace, *, runs: bool = False) -> Path:
    """Return the folder of Pulumi.yaml: the one in the options, or else the current folder.

    Args:
        options: options of the verb.
        runs: whether the engine is to run the folder's program. Without an explicit folder, it runs only the program in
            this installation's own clone: anyone may have written the current folder.

    Raises:
        ConfigurationError: there is no project of this program.
    """
    chosen = Path(options.directory or "")
    file = chosen / "Pulumi.yaml"
    if not file.is_file():
        folder, other = (
            shlex.quote(str(chosen)),
            "" if options.directory else "; to use another folder, pass --directory",
        )
        if options.embedded:
            other += ". `runner emulator provision` works without one"
        raise ConfigurationError(
            f"there is no Pulumi.yaml in {chosen if options.directory else 'this folder'}",
            hint=f"run `runner infra init {folder} --stack {shlex.quote(options.stack)}` to create one{other}",
        )
    name = stack_files.project_name(chosen)
    if name != NAMESPACE:
        raise ConfigurationError(f"{file} is of the project {name!r}, not of {NAMESPACE}", hint="use another folder")
    if runs and not options.directory and chosen.resolve() != stack_files.ROOT:
        raise ConfigurationError(
            "Pulumi's engine would run the program in this folder, which needs --directory",
            hint="if you trust the program, add `--directory .`",
        )
    return chosen


def located(error: ConfigurationError, options: Namespace) -> None:
    """Put the file and line in front of each problem of a stack's settings."""
    given = {"gcp:project": options.project, "gcp:region": options.location}
    given[f"{NAMESPACE}:emulator"] = options.embedded
    try:
        file = stack_file(options.stack, Path(options.directory or ""))
    except ConfigurationError:
        return  # the unreadable file is the problem itself
    lines = stack_files.lines(file)
    before = "\n  ".join(error.problems)
    error.problems = [
        f"{file}:{lines[key]}: {problem}" if key in lines and not given.get(key) else problem
        for problem, key in ((problem, problem.split(" ", 1)[0]) for problem in error.problems)
    ]
    error.message = error.message.replace(before, "\n  ".join(error.problems))


def configuration(options: Namespace) -> dict[str, str]:
    """Return the stack's configuration; with --embedded, with the emulator's addresses."""
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
