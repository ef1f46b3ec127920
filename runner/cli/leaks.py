"""`runner leaks`: find resources that cost money but are no longer used."""

from __future__ import annotations

import click

from runner.cli import commands
from runner.cli.cost_gate import require_confirmed
from runner.cli.options import Invocation
from runner.cli.text import duration
from runner.cli.values import Duration
from runner.errors import RunnerError
from runner.prices import from_a_cent
from runner.wording import counted


@commands.command(
    name="leaks",
    changes=True,
    examples=(
        "runner leaks",
        "runner leaks --clean",
        "runner leaks --stale 7d",
        "runner leaks --clean --yes --format json",
    ),
)
@click.option("--clean", is_flag=True, help="Remove what is listed, after confirmation.")
@click.option(
    "--stale",
    type=Duration(),
    default="30d",
    show_default=True,
    help="Minimum age of the uploaded datasets, images and checkpoints to list.",
)
@click.option("--read-all-datasets", is_flag=True, help="Look for unused images even if datasets exceed 1 GiB.")
@click.pass_obj
def command(invocation: Invocation, clean: bool, stale: float, read_all_datasets: bool) -> None:
    """Find what this tool created that still costs money but is no longer used.

    This includes deployments with an expired lease or without requests, leftovers of interrupted deployments, empty
    endpoints, models that are not deployed, datasets that no recent job uses, images that no other dataset names, and
    intermediate checkpoints. Final weights stay, and so does everything that a model, an endpoint or an active job
    refers to.

    Only resources with this tool's labels are listed or removed. Requests to models are read from Cloud Monitoring;
    without access to it, only leases count.
    """
    from runner.serving.stale import clean as remove
    from runner.serving.stale import find_all

    output = invocation.output
    with invocation.session() as session:
        found = find_all(session, older_than=stale, note=output.note, read_all=read_all_datasets)
        rows = [
            [
                leak.kind,
                leak.resource if leak.generations else leak.resource.rsplit("/", 1)[-1],
                leak.display_name or "-",
                "?" if leak.age is None else duration(leak.age),
                "?" if leak.usd_per_day is None else from_a_cent(leak.usd_per_day),
                leak.reason,
            ]
            for leak in found
        ]
        if not clean or not output.is_json:
            output.table(
                ["kind", "id", "name", "age", "USD/day", "why"],
                rows,
                body=[leak.to_json() for leak in found],
                names=[leak.resource for leak in found],
                numbers=(3, 4),
                droppable=("age", "name"),
                empty="nothing leaks",
            )
        total = sum(leak.usd_per_day or 0.0 for leak in found)
        if total:
            output.note(f"together {from_a_cent(total)} per day")
        if not clean:
            if found:
                output.note("`runner leaks --clean` removes it, `runner endpoints extend` keeps an endpoint")
            return
        if found:
            require_confirmed(invocation, f"Remove {counted(len(found), 'thing')}?", "the removal")
        removed, failed = remove(session, found, progress=output.note)
    if output.is_json:
        output.document({"found": [leak.to_json() for leak in found], "removed": removed, "failed": failed})
    else:
        for name in removed:
            output.note(f"removed {name}")
    if failed:
        raise RunnerError(f"not removed: {'; '.join(failed)}", hint="run `runner leaks --clean` again in a minute")
