"""`runner explain`: the meaning of a code, from the documents of this package."""

from __future__ import annotations

import click

from runner.cli import commands
from runner.cli.completing import completed
from runner.cli.options import Invocation


@commands.command(
    name="explain",
    examples=("runner explain over-length", "runner explain cost_refused", "runner explain 7", "runner explain faults"),
)
@click.argument("name", metavar="[CODE]", required=False, shell_complete=completed("explanations"))
@click.pass_obj
def command(invocation: Invocation, name: str | None) -> None:
    """Explain CODE: an error code, a finding code, an exit code, or the name of a document.

    Without CODE, list all of them.
    """
    from runner import explanations

    output = invocation.output
    if name is None:
        known = explanations.every()
        rows = [[item.name, item.kind, "" if item.exit_code is None else item.exit_code, item.means] for item in known]
        output.table(
            ["code", "kind", "exit", "means"],
            rows,
            body=[item.to_json() for item in known],
            names=[item.name for item in known],
            numbers=(2,),
            droppable=("means", "exit"),
        )
        return
    found = explanations.explain(name)
    if found[0].kind == "document":
        text = explanations.document(found[0].name)
        output.result({**found[0].to_json(), "text": text}, text, name=found[0].name)
        return
    if output.is_json:
        output.document([item.to_json() for item in found])
        return
    for item in [item for item in found if item.kind == "document"]:
        output.note(f"`runner explain docs/{item.name}` prints the document of that name")
    for number, item in enumerate(item for item in found if item.kind != "document"):
        if number:
            output.text("")
        kind = f"{item.severity} of a dataset" if item.severity else item.kind
        output.pairs(
            [
                ("code", f"{item.name} ({kind})"),
                ("exit code", item.exit_code),
                ("means", item.means),
                ("do", item.do),
            ]
        )
        if item.examples:
            output.text(f"\n{item.examples}")
