"""`runner schema`: the JSON Schema of manifests, for editors and other checks."""

from __future__ import annotations

import json

import click

from runner.cli import commands
from runner.cli.options import Invocation

HEADER = "# yaml-language-server: $schema={}"


@commands.command(
    name="schema",
    examples=("runner schema", "runner schema --header tuning-job.schema.json"),
)
@click.option("--header", metavar="ADDRESS", help="Print the line that tells an editor where the schema is.")
@click.pass_obj
def command(invocation: Invocation, header: str | None) -> None:
    """Print the JSON Schema of TuningJob manifests.

    An editor with the YAML language server checks and completes manifests whose first line names the schema.
    """
    from runner.jobs.manifests.schema import json_schema

    if header is not None:
        line = HEADER.format(header)
        invocation.output.result({"header": line}, line, name=line)
        return
    body = json_schema()
    text = json.dumps(body, indent=2)
    invocation.output.result(body, text, name=text)
