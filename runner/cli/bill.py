"""`runner bill`: what jobs and endpoints have cost, as far as this tool can tell."""

from __future__ import annotations

from typing import Any

import click

from runner.cli import commands
from runner.cli.options import Duration, Invocation
from runner.cli.stand_ins import tell_of_job
from runner.cli.text import ago, amount


@commands.command(name="bill", examples=("runner bill", "runner bill --since 7d --json"))
@click.option(
    "--since", type=Duration(), default="30d", show_default=True, metavar="TIME", help="Jobs created within this time."
)
@click.pass_obj
def command(invocation: Invocation, since: float) -> None:
    """Show what tuning jobs and endpoints have cost by list price: jobs by billed tokens, endpoints that serve by age.

    Google's invoice decides: discounts, storage, and what has been undeployed are not in here.
    """
    import datetime

    from runner.gcp import tuning_jobs
    from runner.jobs.following.progress import billed
    from runner.serving.listing import list_deployments
    from runner.serving.lives import lives

    oldest = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=since)
    rows: list[list[Any]] = []
    body: list[dict[str, Any]] = []
    with invocation.session() as session:
        jobs = [job for job in tuning_jobs.list_jobs(session) if job.create_time and job.create_time >= oldest]
        serving = [item for item in list_deployments(session) if item.billed]
        known = lives(session, [item.endpoint for item in serving])
        target = session.environment.target
    for job in jobs:
        used = billed(job)
        usd = used.usd if used else None
        rows.append(["job", job.id, job.display_name or job.base_model, ago(job.create_time), _usd(usd)])
        body.append({"kind": "job", "id": job.id, "name": job.display_name, "usd": usd})
    for item in serving:
        life = known[item.endpoint.id]
        rows.append(["endpoint", item.endpoint.id, item.endpoint.display_name, "serves", _usd(life.usd)])
        body.append({"kind": "endpoint", "id": item.endpoint.id, "name": item.endpoint.display_name, "usd": life.usd})
    amounts = [entry["usd"] for entry in body]
    total = sum(usd for usd in amounts if usd is not None)
    invocation.output.table(
        ["what", "id", "name", "when", "list price"],
        rows,
        body={"items": body, "usd": total, "charged": not target.free, "target": target.to_json()},
        names=[f"{total:.2f}"],
        numbers=(4,),
        ids=(1,),
        droppable=("when", "name"),
        empty="nothing has cost anything",
    )
    if rows:
        unknown = f"; the price of {amounts.count(None)} is unknown" if None in amounts else ""
        free = ": nothing is charged in the emulator" if target.free else ""
        invocation.output.note(f"together {amount(total)} at list price{unknown}{free}")
    for job in jobs[:1]:
        tell_of_job(invocation, job)


def _usd(usd: float | None) -> str:
    return "?" if usd is None else amount(usd)
