"""`runner emulator faults add|ls|clear`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from runner.cli import commands
from runner.cli.emulator.group import ask
from runner.cli.options import Invocation
from runner.cli.values import Count
from runner.errors import RunnerError, require_sound
from runner.wording import counted

command = commands.Group(
    name="faults",
    help="Make the emulator return errors, delay answers or stall, to test how a program reacts. "
    "FAULT is METHOD:ACTION[=VALUE][,OPTION…]; "
    "`runner explain faults` lists the actions.",
    examples=(
        "runner emulator faults add tuningJobs.get:status=503,times=3",
        "runner emulator faults add job:capacity-wait=30 job:fail=platform,match=nightly-*",
        "runner emulator faults ls",
    ),
    lazy={
        "add": ("runner.cli.emulator.faults:add", "Add faults."),
        "ls": ("runner.cli.emulator.faults:ls", "List faults and how often each fired."),
        "clear": ("runner.cli.emulator.faults:clear", "Remove one fault, or all."),
    },
)

_PATH = "/_emulator/faults"
_ask = partial(ask, about="emulator.faults", hint="`runner emulator faults ls` lists them")


@commands.command(
    name="add",
    examples=(
        "runner emulator faults add tuningJobs.get:status=429,times=5,retry-after=1",
        "runner emulator faults add tuningJobs.create:drop-after,times=1",
        "runner emulator faults add storage.objects.insert:delay=2,probability=0.3,seed=7",
        "runner emulator faults add job:quota-wait=60 job:fail=capacity",
    ),
)
@click.argument("faults", nargs=-1, required=True, metavar="FAULT...")
@click.pass_obj
def add(invocation: Invocation, faults: tuple[str, ...]) -> None:
    """Add faults to the running emulator. A fault stays until it is used up or cleared, or until the emulator stops."""
    armed = _ask("POST", _PATH, {"faults": list(checked(faults))})["faults"]
    lines = "\n".join(f"{fault['id']}  {fault['fault']}" for fault in armed)
    invocation.output.result(armed, lines, name=[str(fault["id"]) for fault in armed])


@commands.command(name="ls", examples=("runner emulator faults ls", "runner emulator faults ls --unused --format json"))
@click.option(
    "--unused",
    "only_unused",
    is_flag=True,
    help="List only faults that never fired; exit with code 1 if there are any.",
)
@click.pass_obj
def ls(invocation: Invocation, only_unused: bool) -> None:
    """List all faults: how many calls they matched, how often they fired, and which are used up."""
    found = [fault for fault in _ask("GET", _PATH)["faults"] if fault["unused"] or not only_unused]
    invocation.output.table(
        ["id", "fault", "met", "struck", "state"],
        [[fault["id"], fault["fault"], fault["seen"], fault["hits"], _state(fault)] for fault in found],
        body=found,
        names=[str(fault["id"]) for fault in found],
        numbers=(0, 2, 3),
        droppable=("met", "struck"),
        empty="no faults" if not only_unused else "no unused faults",
    )
    if only_unused and found:
        raise RunnerError(
            f"{counted(len(found), 'fault')} never fired", hint="the check that added them did not exercise them"
        )


@commands.command(name="clear", examples=("runner emulator faults clear", "runner emulator faults clear 3"))
@click.argument("fault", type=Count(1), required=False, metavar="[ID]")
@click.pass_obj
def clear(invocation: Invocation, fault: int | None) -> None:
    """Remove a fault by its number, or all faults, and list those that never fired."""
    answer = _ask("DELETE", _PATH if fault is None else f"{_PATH}/{fault}")
    gone = answer["faults"] if fault is None else [answer]
    idle = [item["fault"] for item in gone if item["unused"]]
    if idle:
        invocation.output.warning(f"faults that never fired: {'; '.join(idle)}")
    invocation.output.result(gone, f"{len(gone)} removed")


def checked(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the faults if all are valid. Raises ConfigurationError with all errors."""
    from runner.emulator.faults import FaultSyntaxError, parse

    problems = []
    for text in texts:
        try:
            parse(text)
        except FaultSyntaxError as error:
            problems.append(str(error))
    require_sound(problems, hint="`runner explain faults` lists the actions")
    return texts


def unused() -> list[str]:
    """Return the faults of the running emulator that never fired; [] if none is running."""
    return [str(fault["fault"]) for fault in _listed() if fault["unused"]]


def armed() -> list[str]:
    """Return the faults of the running emulator that can still fire; [] if none is running."""
    return [str(fault["fault"]) for fault in _listed() if not fault["spent"]]


def _listed() -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = _ask("GET", _PATH)["faults"]
    except RunnerError:
        return []
    return found


def _state(fault: dict[str, Any]) -> str:
    return "unused" if fault["unused"] else "spent" if fault["spent"] else "armed"
