"""`runner environment`: the project, location and service that commands use."""

from __future__ import annotations

import re
from typing import Any

import click

from runner.cli import commands
from runner.cli.options import Invocation

command = commands.Group(
    name="environment",
    help="Show the project, location, buckets and addresses that commands use, and the source of each value.",
    examples=("runner environment show",),
    lazy={"show": ("runner.cli.environment:show", "Show every value and its source.")},
)


@commands.command(
    name="show", examples=("runner environment show", "runner environment show --environment production.json")
)
@click.pass_obj
def show(invocation: Invocation) -> None:
    """Show every value that commands use and its source: a flag, a variable, a document, or a default."""
    environment = invocation.resolved()
    body = environment.to_json()
    sources = body.get("sources", {})
    # Its address is shown once, in the last column, where it makes no other line longer.
    document = next((source for source in sources.values() if "/" in source), "")
    rows: list[list[Any]] = [["document", "-", document]] if document else []
    for name, value in body.items():
        if name == "sources":
            continue
        words = re.sub("[A-Z]", lambda letter: f" {letter[0].lower()}", name)
        parts = (
            {f"{words.removesuffix('s')}, {key}": part for key, part in value.items()}
            if value and isinstance(value, dict)
            else {words: value}
        )
        source = sources.get(name, "-")
        rows += [[key, part or "-", "document" if source == document else source] for key, part in parts.items()]
    invocation.output.table(["name", "value", "source"], rows, body=body, names=[environment.project])
