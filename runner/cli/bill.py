"""`runner bill`: the past and current cost of jobs and deployments."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli import commands
from runner.cli.options import Invocation
from runner.cli.text import amount
from runner.cli.values import INPUT, Day, OneOf
from runner.prices import cents
from runner.wording import counted

if TYPE_CHECKING:
    from runner.serving.bill import Line

_EMPTY = "nothing was spent"


@commands.command(
    name="bill",
    examples=(
        "runner bill",
        "runner bill --by day",
        "runner bill --since 2026-10-01 --format json",
        "runner bill --csv > bill.csv",
        "runner bill --by kind --billed billed.json",
    ),
)
@click.option(
    "--by",
    type=OneOf(["line", "kind", "day"]),
    default="line",
    show_default=True,
    help="One row for each job, deployed model and bucket; for each kind; or for each day.",
)
@click.option(
    "--since",
    type=Day(),
    help="First day, in UTC [default: the first of this month].",
)
@click.option(
    "--billed",
    type=INPUT,
    help="Rows of Google's billing export to compare with list prices; --billing-query prints how to get them.",
)
@click.option("--billing-query", is_flag=True, help="Print the command that gets those rows from the export.")
@click.option("--csv", "as_csv", is_flag=True, help="Print the rows of jobs, deployed models and buckets as CSV.")
@click.pass_obj
def command(
    invocation: Invocation,
    by: str,
    since: datetime.datetime | None,
    billed: Path | None,
    billing_query: bool,
    as_csv: bool,
) -> None:
    """Show the list price of jobs, deployed models and buckets: so far, per hour, and committed.

    Committed is the rest of running jobs, and serving until leases end. The bill omits network traffic. It also omits
    what was undeployed or deleted, because the service no longer knows it. --billed adds what Google has billed.
    """
    from runner.serving.bill import month_start
    from runner.serving.billed import query
    from runner.serving.billing import current_bill

    output = invocation.output
    start = None if since is None else since.timestamp()
    with invocation.session() as session:
        if billing_query:
            begin = month_start(session.now()) if start is None else start
            output.piece(query(session.environment.project, time.strftime("%Y-%m-%d", time.gmtime(begin))) + "\n")
            return
        bill = current_bill(session, start=start, billed=billed)
        free = session.environment.target.free
    if output.is_json:
        output.document(bill.to_json())
        return
    if as_csv:
        output.piece(bill.to_csv())
        return
    if by != "line":
        parts = bill.days if by == "day" else bill.kinds
        rows = [[name, cents(usd)] for name, usd in parts.items()]
        headings = [by, "spent"]
        if bill.billed is not None:
            google = bill.billed.days if by == "day" else bill.billed.kinds
            both = dict.fromkeys([*parts, *google])
            headings = [by, "list price", "billed"]
            rows = [[name, cents(parts.get(name, 0.0)), cents(google.get(name, 0.0))] for name in both]
        output.table(
            headings, rows, body=[], names=list(parts), numbers=(1, 2)[: len(headings) - 1], droppable=(), empty=_EMPTY
        )
    else:
        rows = [
            [
                f"{line.kind}, no longer used" if line.no_longer_used else line.kind,
                line.id,
                line.name,
                _used(line),
                "not known" if line.usd is None else cents(line.usd),
                "-" if not line.running or not line.usd_per_hour else amount(line.usd_per_hour),
                line.rest or "-",
            ]
            for line in bill.lines
        ]
        headings = ["kind", "id", "name", "used", "spent", "per hour", "committed"]
        names = [line.id for line in bill.lines]
        spare = ("committed", "id", "used")
        output.table(headings, rows, body=[], names=names, numbers=(3, 4, 5, 6), droppable=spare, empty=_EMPTY)
    output.note(
        f"spent {cents(bill.usd)}, {amount(bill.usd_per_hour)} per hour now, {amount(bill.committed_usd)} committed, "
        f"{amount(bill.month_end_usd)} by the end of the month if nothing changes; list prices of {bill.price_date} "
        f"and {bill.hourly_price_date}{': nothing is charged in the emulator' if free else ''}"
    )
    if bill.billed is not None:
        other = cents(bill.billed.kinds["other"])
        output.note(f"Google has billed {cents(bill.billed.usd)}, and {other} for other things")
    for name in bill.unread:
        output.warning(f"not included: {name}")
    if any(line.stand_in for line in bill.lines):
        output.note("tokens of a stand-in are counted with its own tokenizer: the real model's number differs")
    if any(line.unit == "tokens" for line in bill.lines):
        output.note("tokens are those of all epochs so far; `runner jobs show` shows the tokens of one epoch")
    if bill.leaks:
        count = counted(len(bill.leaks), "thing")
        output.note(f"{count} no longer used: {amount(bill.leaks_usd_per_day)} per day; `runner leaks` lists them")


def _used(line: Line) -> str:
    if line.unit == "tokens":
        return f"{line.quantity:,.0f} tokens{' (stand-in)' if line.stand_in else ''}"
    return f"{line.quantity:,.2f} {'h' if line.unit == 'hours' else line.unit}"
