"""`runner bill`: what jobs and deployments have cost, and cost now."""

from __future__ import annotations

import datetime

import click

from runner.cli import commands
from runner.cli.options import Invocation
from runner.cli.text import amount


@commands.command(
    name="bill",
    examples=(
        "runner bill",
        "runner bill --by day",
        "runner bill --since 2026-10-01 --format json",
        "runner bill --csv > bill.csv",
    ),
)
@click.option(
    "--by",
    type=click.Choice(["line", "day"]),
    default="line",
    show_default=True,
    help="A row for each job and deployed model, or for each day.",
)
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d"]),
    metavar="DATE",
    help="First day, in UTC [default: the first of this month].",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows of jobs and deployed models as CSV.")
@click.pass_obj
def command(invocation: Invocation, by: str, since: datetime.datetime | None, as_csv: bool) -> None:
    """Show what jobs and deployed models have cost at list price, what they cost per hour, and what is committed.

    Committed is the rest of running jobs, and serving until leases end. What was undeployed is no longer known to the
    service and is not included; neither are storage and network.
    """
    from runner.serving.bill import current_bill

    output = invocation.output
    start = None if since is None else since.replace(tzinfo=datetime.UTC).timestamp()
    with invocation.session() as session:
        bill = current_bill(session, start=start)
    if output.is_json:
        output.document(bill.to_json())
        return
    if as_csv:
        output.piece(bill.to_csv())
        return
    if by == "day":
        rows = [[day, amount(usd)] for day, usd in bill.days.items()]
        output.table(["day", "spent"], rows, body=[], names=list(bill.days), numbers=(1,), empty="nothing was spent")
    else:
        rows = [
            [
                line.kind,
                line.id,
                line.name,
                f"{line.quantity:,.2f} h" if line.unit == "hours" else f"{line.quantity:,.0f} tokens",
                "not known" if line.usd is None else amount(line.usd),
                "-" if not line.running or not line.usd_per_hour else amount(line.usd_per_hour),
                "-" if not line.running else "no end" if line.committed_usd is None else amount(line.committed_usd),
            ]
            for line in bill.lines
        ]
        headings = ["kind", "id", "name", "used", "spent", "per hour", "committed"]
        names = [line.id for line in bill.lines]
        output.table(headings, rows, body=[], names=names, numbers=(3, 4, 5, 6), empty="nothing was spent")
    output.note(
        f"spent {amount(bill.usd)}, {amount(bill.usd_per_hour)} per hour now, {amount(bill.committed_usd)} committed, "
        f"{amount(bill.month_end_usd)} by the end of the month if nothing changes; list prices of {bill.price_date} "
        f"and {bill.hourly_price_date}"
    )
