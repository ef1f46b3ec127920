"""The bill of the month, the amounts that Google has billed, and resources that you can remove."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.console import following
from runner.console.changes import Change
from runner.console.pages import address
from runner.console.state import Console, text
from runner.errors import ConfigurationError, RunnerError
from runner.prices import from_a_cent
from runner.serving import billed as google
from runner.serving.bill import Bill, month_start
from runner.serving.billed import Billed
from runner.serving.leak import Leak
from runner.serving.leaks import find_leaks
from runner.serving.stale import clean as remove
from runner.serving.stale import find_all

SHOWN = 100


def page(console: Console, request: Request, given: Mapping[str, str], error: dict[str, Any]) -> Response:
    """Show the bill."""
    source = given.get("billed", "")
    billed = None
    try:
        billed = _billed(console, source)
    except RunnerError as problem:
        error = problem.to_json()
    bill = following.bill(console, whole=True, billed=billed)
    most = max(bill.days.values(), default=0.0)
    rest = bill.lines[SHOWN:]
    days = {**dict.fromkeys(billed.days if billed else (), 0.0), **bill.days}
    return console.pages.answer(
        request,
        "bill.html",
        bill=bill,
        lines=bill.lines[:SHOWN],
        rest=round(sum(line.usd or 0.0 for line in rest), 4),
        left_out=len(rest),
        days=[(day, usd, usd / most if most else 0.0) for day, usd in sorted(days.items(), reverse=True)],
        leaks=bill.leaks,
        source=source,
        error=error,
        query=google.query(console.session.environment.project, bill.to_json()["from"][:10]),
    )


def _billed(console: Console, source: str) -> Billed | None:
    if not source:
        return None
    now = console.session.now()
    since, until = (time.strftime("%Y-%m-%d", time.gmtime(moment)) for moment in (month_start(now), now))
    return google.read(console.uploads.path(source), since=since, until=until)


def upload(console: Console, request: Request, form: FormData) -> Response:
    """Store a file with Google's billed amounts, and show the bill with it."""
    sent = console.uploads.sent(form, "billed_file")
    if not sent:
        raise ConfigurationError("no file was chosen")
    return RedirectResponse(address("/bill", billed=sent), 303)


def export(console: Console, request: Request) -> Response:
    """Return the bill as `json` or `csv`."""
    form = request.path_params["form"]
    bill: Bill = following.bill(console, whole=True, billed=_billed(console, request.query_params.get("billed", "")))
    headers = {"content-disposition": f'attachment; filename="bill.{form}"'}
    if form == "json":
        return Response(json.dumps(bill.to_json(), indent=2), headers=headers, media_type="application/json")
    if form == "csv":
        return Response(bill.to_csv(), headers=headers, media_type="text/csv")
    raise HTTPException(404)


def _chosen(console: Console, resource: str) -> Leak:
    look = find_all if resource.startswith("gs://") else find_leaks
    for leak in look(console.session):
        if leak.resource == resource:
            return leak
    raise ConfigurationError(f"{resource} is in use again, or was removed already; nothing was changed")


def ask_clean(console: Console, request: Request) -> Response:
    """Ask for confirmation before unused resources are removed."""
    leak = _chosen(console, request.query_params.get("resource", ""))
    usd = leak.usd_per_day
    facts = [("Kind", leak.kind), ("Resource", leak.resource), ("Why", leak.reason)]
    if leak.generations:
        facts.append(("Objects", f"{len(leak.resources)}"))
    return console.confirmation(
        request,
        title=f"Remove {leak.display_name or leak.resource.rstrip('/').rsplit('/', 1)[-1]}?",
        button="Remove",
        back="/bill",
        price="Its price is unknown." if usd is None else f"This ends {from_a_cent(usd)} per day.",
        facts=facts,
        fields={"resource": leak.resource},
        danger=True,
    )


def clean(console: Console, request: Request, form: FormData) -> Response:
    """Remove them."""
    resource = text(form, "resource")

    def work(change: Change) -> str:
        removed, failed = remove(console.session, [_chosen(console, resource)], progress=change.tell)
        if failed:
            raise RunnerError("; ".join(failed), hint="try again in a minute")
        change.title = f"{len(removed)} removed"
        return "/bill"

    return console.change(request, form, "Removed", work, back="/bill")
