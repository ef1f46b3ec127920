"""`runner repair`: repair damaged state."""

from __future__ import annotations

import click

from runner.cli import commands
from runner.cli.cost_gate import require_confirmed
from runner.cli.options import Invocation
from runner.wording import counted


@commands.command(name="repair", changes=True, examples=("runner repair", "runner repair --dry-run --format json"))
@click.option("--dry-run", is_flag=True, help="Show the damage without changing anything.")
@click.pass_obj
def command(invocation: Invocation, dry_run: bool) -> None:
    """Repair damaged state: files on this machine, and records of manifests in the contract bucket.

    The command deletes nothing. It renames files and records that it cannot read, and finds their jobs and deployments
    again on the service. If several jobs have the identity of one manifest, it chooses one and lists the others without
    cancelling them.
    """
    from runner.serving.repair import cloud_damages, local_damages

    output = invocation.output
    with invocation.session() as session:
        found = local_damages()
        if session.environment.contract_bucket:
            found += cloud_damages(session)
        if dry_run or not output.is_json:
            output.table(
                ["what", "problem", "remedy"],
                [[item.resource, item.problem, item.remedy] for item in found],
                body=[item.to_json() for item in found],
                names=[item.resource for item in found],
                empty="nothing is damaged",
            )
        if dry_run:
            return
        if found:
            require_confirmed(invocation, f"Mend {counted(len(found), 'thing')}?", "the repair")
        done = [{**item.to_json(), "outcome": item.mend()} for item in found]
    if output.is_json:
        output.document(done)
    else:
        for body in done:
            output.note(f"{body['resource']}: {body['outcome']}")
