"""`runner infra init`: create a stack from answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner.cli import commands
from runner.cli.infra.process import call
from runner.cli.options import Invocation, require_absent
from runner.cli.questions import asked, may_ask
from runner.cli.values import FOLDER, Count
from runner.environment import DEFAULT_LOCATION
from runner.errors import ConfigurationError
from runner.infrastructure import STACK_KINDS, stack_file

_NONE = "none"


@commands.command(
    name="init",
    examples=(
        "runner infra init my-stacks --stack dev --project my-project",
        "runner infra init . --stack prod --project my-project --notify ml-team@your-company.com",
        "runner infra init local --stack local --emulator http://127.0.0.1:8085",
    ),
)
@click.argument("folder", type=FOLDER, metavar="[FOLDER]", required=False)
@click.option("--stack", metavar="NAME", help="Stack name: Pulumi.NAME.yaml [default: dev].")
@click.option(
    "--kind", metavar="NAME", help="What the stack is for; prod protects its buckets [default: the stack's name]."
)
@click.option(
    "--notify", multiple=True, metavar="EMAIL", help="Email address for alerts and budget notifications; repeatable."
)
@click.option(
    "--operator",
    multiple=True,
    metavar="MEMBER",
    help="Principal that can act as the runner: user:…, group:… or serviceAccount:…; repeatable.",
)
@click.option("--budget", type=Count(0), metavar="AMOUNT", help="Monthly budget in whole units; it only warns.")
@click.option("--currency", metavar="CODE", help="Currency of the billing account [default: USD].")
@click.option("--billing-account", metavar="ID", help="Billing account of the budget.")
@click.option("--emulator", metavar="URL", help="Write a stack for an emulator at this address.")
@click.option("--force", is_flag=True, help="Overwrite the stack's file.")
@click.pass_obj
def command(invocation: Invocation, /, folder: Path | None, force: bool, **given: Any) -> None:
    """Write the settings of a stack into FOLDER, and a Pulumi project if FOLDER has none.

    The project runs the Pulumi program of this installation. At a terminal, the command asks for values that you did
    not pass as options. It sends nothing, and overwrites nothing without --force.
    """
    directory = folder or Path()
    asks = may_ask(invocation)
    if asks and given["stack"] is None:
        given["stack"] = asked("Stack", "dev")
    given["stack"] = given["stack"] or "dev"
    existing = stack_file(given["stack"], directory)
    require_absent(existing, force=force)
    result = _written(invocation, asks and not given["emulator"], given, directory=directory, force=force)
    settings = result["settings"].items()
    text, then = result.pop("text"), result["next"]
    invocation.output.result(result, text, name=text)
    shown = ", ".join(f"{key.partition(':')[2]} {_shown(value)}" for key, value in settings)
    invocation.output.note(f"stack {result['stack']}: {shown}\nnext: `{then}`")


def _written(invocation: Invocation, asks: bool, given: dict[str, Any], **fixed: Any) -> dict[str, Any]:
    """Write the stack, and return the message. At a terminal, ask again after wrong answers."""
    while True:
        if asks:
            before = {**given, **invocation.flags()}
            _ask(invocation, given)
        try:
            return call(invocation, "init", **fixed, **given)
        except ConfigurationError as error:
            if not asks or before == {**given, **invocation.flags()}:
                raise
            invocation.output.warning(error.message)


def _ask(invocation: Invocation, given: dict[str, Any]) -> None:
    """Ask for the settings without a default, with the given values as proposals."""
    stack = given["stack"]
    invocation.project = asked("Google Cloud project", invocation.project)
    invocation.location = asked("Region", invocation.location or DEFAULT_LOCATION)
    kind = given["kind"] or (stack if stack in STACK_KINDS else _NONE)
    given["kind"] = _answer(asked(f"What it is for ({', '.join(STACK_KINDS)} or another name)", kind))
    for name, question in (
        ("notify", "Email addresses for alerts"),
        ("operator", "Principals that can act as the runner (user:…, group:…)"),
    ):
        given[name] = tuple(_answer(asked(question, " ".join(given[name]) or _NONE)).replace(",", " ").split())
    given["budget"] = int(asked("Monthly budget, 0 for none", str(given["budget"] or 0), Count(0)))
    if given["budget"]:
        given["currency"] = asked("Its currency", given["currency"] or "USD")
        given["billing_account"] = asked("Billing account", given["billing_account"])


def _answer(text: str) -> str:
    return "" if text == _NONE else text


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)
