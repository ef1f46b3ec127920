"""Runs the verbs of the Pulumi program in a separate process, so that nothing here imports pulumi."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from typing import Any

import click

from runner.cli.options import Invocation, together
from runner.cli.values import FOLDER
from runner.errors import ConfigurationError, EngineMissingError, RunnerError, UnreachableError
from runner.infrastructure import program_command, require_program
from runner.json_text import parsed
from runner.local_processes import STOPS, HandedOn, kept_back, signals

_ERRORS = {"engine_missing": EngineMissingError, "unreachable": UnreachableError}


class InfraError(RunnerError):
    """The engine, Google or the emulator refused. `problems` contains every cause with its resource."""

    code = "infrastructure"
    usual_hint = "`runner infra doctor` checks the engine, the credentials and the settings"
    problems: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Add the list of problems."""
        return {**super().to_json(), **({"problems": list(self.problems)} if self.problems else {})}


stack_options = together(
    click.option(
        "--stack", default="dev", show_default=True, metavar="NAME", help="Stack name, as in Pulumi.NAME.yaml."
    ),
    click.option(
        "--directory",
        type=FOLDER,
        metavar="DIR",
        help="Folder of Pulumi.yaml [default: the current one].",
    ),
)
embedded_option = click.option(
    "--embedded", is_flag=True, help="Apply to the running emulator, without Pulumi's engine."
)


def call(invocation: Invocation, verb: str, *, embedded: bool = False, **options: Any) -> dict[str, Any]:
    """Run a verb and return its document. Messages of the engine go to standard error.

    Raises:
        EngineMissingError: the Pulumi program or its engine is not installed.
        ConfigurationError: the stack has errors, or something was not confirmed.
        InfraError: the engine, Google or the emulator refused.
    """
    require_program("this")
    arguments = program_command("infra.automation", verb)
    for name, value in (("project", invocation.project), ("location", invocation.location), *options.items()):
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif isinstance(value, tuple):
            arguments += [f"{flag}={item}" for item in value]
        elif value not in (None, False):
            arguments.append(f"{flag}={value}")
    if not embedded:
        return _result(invocation, arguments, {})
    from runner.cli.emulator.group import running
    from runner.state import emulator_directory

    arguments.append("--embedded")
    try:
        info = running()
    except RunnerError:
        _result(invocation, [*arguments, "--only-check"], {})  # the stack's own errors come first
        raise
    arguments += [f"--emulator={info.url}", f"--state={emulator_directory() / 'infra.json'}"]
    return _result(invocation, arguments, {"RUNNER_EMULATOR_TOKEN": info.token} if info.token else {})


def _result(invocation: Invocation, arguments: list[str], more: dict[str, str]) -> dict[str, Any]:
    """Run the program with additional variables; return its document, or raise the error that it reports."""
    status, said = _run(invocation, arguments, {**os.environ, **more})
    try:
        body: dict[str, Any] = parsed(said.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise InfraError(f"the infrastructure program exited with status {status} and no result") from error
    if "error" in body:
        raise _error(body["error"], status)
    result: dict[str, Any] = body["result"]
    return result


def _run(invocation: Invocation, arguments: list[str], variables: dict[str, str]) -> tuple[int, str]:
    """Run the program to its end, even if it is stopped; return its status and output.

    It runs in its own process group, so that it gets Ctrl-C once, from here, and can stop its engine in a way that
    keeps the state. Messages of the engine go directly to this process's standard error.
    """
    errors = subprocess.DEVNULL if invocation.quiet else None

    def told(times: int) -> None:
        invocation.output.note(
            "stopping: operations that have started finish first. Press Ctrl-C again to end at once; resources that "
            "are being created may then be missing from the state"
            if times == 1
            else "ending at once: the next `up` looks for resources that were being created"
        )

    stops = HandedOn(told=told)
    with signals(STOPS, stops.stop):
        with kept_back(STOPS):  # the program unblocks them when it can end properly
            process = subprocess.Popen(
                arguments,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                process_group=0,
            )
        stops.to(process)
        said, _ = process.communicate()
    if stops.times and not said:
        raise _error(
            {
                "code": "interrupted",
                "message": "it was ended at once",
                "hint": "run the same command again to continue",
            },
            130,
        )
    return process.returncode, said


def show(invocation: Invocation, result: dict[str, Any], name: str = "") -> None:
    """Print a verb's document: its text for people, the rest for programs."""
    text = result.pop("text")
    invocation.output.result(result, text, name=name)


def _error(body: dict[str, Any], status: int) -> RunnerError:
    message, hint = body["message"], body.get("hint")
    if body["code"] == "configuration":
        return ConfigurationError(message, problems=body.get("problems"), hint=hint)
    found = _ERRORS.get(body["code"], InfraError)(message, hint=hint)
    if isinstance(found, InfraError):
        found.problems = list(body.get("problems") or [])
    if isinstance(found, InfraError):
        found.code, found.exit_code = body["code"], status  # type: ignore[misc]
    return found
