"""`runner emulator`: the local server's process, state and variables."""

from __future__ import annotations

from typing import Any

from runner.cli.commands import Group

command = Group(
    name="emulator",
    help="Run the local server that speaks Google's protocols: its tuning jobs train, its endpoints serve.",
    examples=(
        "runner emulator start",
        "runner emulator provision",
        'eval "$(runner emulator env)"',
        "runner emulator stop",
    ),
    lazy={
        "start": ("runner.cli.emulator.process:start", "Start the emulator, unless it is already running."),
        "stop": ("runner.cli.emulator.process:stop", "Stop the emulator and keep its state."),
        "status": ("runner.cli.emulator.process:status", "Show the address of the running emulator."),
        "provision": (
            "runner.cli.emulator.state:provision",
            "Set up a project in the emulator with the Pulumi program.",
        ),
        "env": ("runner.cli.emulator.state:env", "Print variables that point Google's tools at the emulator."),
        "key": ("runner.cli.emulator.state:key", "Make a key file of a service account in the emulator."),
        "faults": ("runner.cli.emulator.faults", "Inject faults: errors, delays, stalls."),
        "logs": ("runner.cli.emulator.process:logs", "Show the emulator's log."),
        "reset": ("runner.cli.emulator.state:reset", "Stop the emulator and delete its state."),
    },
)


def directory() -> Any:
    """Return the state directory of this user's emulator."""
    from runner.state import emulator_directory

    return emulator_directory()


def running() -> Any:
    """Return the running emulator. Raises UnreachableError."""
    from runner import running_emulator
    from runner.errors import UnreachableError

    found = running_emulator.find(directory())
    if found is None:
        raise UnreachableError("no emulator is running", hint="`runner emulator start`")
    return found
