"""`runner emulator`: the local server's process, state and variables."""

from __future__ import annotations

from typing import Any

from runner.cli.commands import Group

command = Group(
    name="emulator",
    help="The local server that speaks Google's protocols: its tuning jobs train, its endpoints serve.",
    examples=(
        "runner emulator start",
        "runner emulator provision",
        'eval "$(runner emulator env)"',
        "runner emulator stop",
    ),
    lazy={
        "start": ("runner.cli.emulator.process:start", "Start it, unless it runs already."),
        "stop": ("runner.cli.emulator.process:stop", "Stop it; its state stays."),
        "status": ("runner.cli.emulator.process:status", "Show where it listens."),
        "provision": ("runner.cli.emulator.state:provision", "Set a project up in it with the Pulumi program."),
        "env": ("runner.cli.emulator.state:env", "Print variables that point Google's tools at it."),
        "faults": ("runner.cli.emulator.faults", "Make it misbehave: errors, delays, stalls."),
        "logs": ("runner.cli.emulator.process:logs", "Show its log."),
        "reset": ("runner.cli.emulator.state:reset", "Stop it and delete its state."),
    },
)


def directory() -> Any:
    """Return the state directory of this user's emulator."""
    from runner.environment import state_directory

    return state_directory() / "emulator"


def running() -> Any:
    """Return the running emulator. Raises UnreachableError."""
    from runner.emulator import daemon
    from runner.errors import UnreachableError

    found = daemon.find(directory())
    if found is None:
        raise UnreachableError("no emulator runs here", hint="`runner emulator start`")
    return found
