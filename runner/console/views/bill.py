"""The bill of the month, and what could be removed from the next one."""

from __future__ import annotations

import json

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from runner.console import following
from runner.console.changes import Change
from runner.console.state import Console, text
from runner.errors import ConfigurationError, RunnerError
from runner.serving.leak import Leak
from runner.serving.leaks import clean as remove
from runner.serving.leaks import find_leaks


def page(console: Console, request: Request) -> Response:
    """Show the bill."""
    bill = following.bill(console)
    leaks = console.observer.read("leaks", lambda: find_leaks(console.session), keep=following.RARE_SECONDS).value
    most = max(bill.days.values(), default=0.0)
    return console.pages.answer(
        request,
        "bill.html",
        bill=bill,
        days=[(day, usd, round(100 * usd / most) if most else 0) for day, usd in reversed(bill.days.items())],
        leaks=leaks,
    )


def export(console: Console, request: Request) -> Response:
    """Return the bill as `json` or `csv`."""
    bill, form = following.bill(console), request.path_params["form"]
    headers = {"content-disposition": f'attachment; filename="bill.{form}"'}
    if form == "json":
        return Response(json.dumps(bill.to_json(), indent=2), headers=headers, media_type="application/json")
    if form == "csv":
        return Response(bill.to_csv(), headers=headers, media_type="text/csv")
    raise HTTPException(404)


def _chosen(console: Console, resource: str) -> Leak:
    for leak in find_leaks(console.session):
        if leak.resource == resource:
            return leak
    message = f"{resource} is in use again, or was removed already; nothing was changed"
    raise ConfigurationError(message, problems=[message])


def ask_clean(console: Console, request: Request) -> Response:
    """Ask whether something that is no longer used is to be removed."""
    leak = _chosen(console, request.query_params.get("resource", ""))
    usd = leak.usd_per_day
    return console.confirmation(
        request,
        title=f"Remove {leak.display_name or leak.resource.rsplit('/', 1)[-1]}?",
        button="Remove",
        back="/bill",
        price="Its price is unknown." if usd is None else f"This ends ${usd:,.2f} per day.",
        facts=[("Kind", leak.kind), ("Resource", leak.resource), ("Why", leak.reason)],
        fields={"resource": leak.resource},
        danger=True,
    )


def clean(console: Console, request: Request, form: FormData) -> Response:
    """Remove it."""
    resource = text(form, "resource")

    def work(change: Change) -> str:
        removed, failed = remove(console.session, [_chosen(console, resource)], progress=change.tell)
        if failed:
            raise RunnerError("; ".join(failed), hint="try again in a minute")
        change.title = f"{len(removed)} removed"
        return "/bill"

    return console.change(request, form, "Removed", work, back="/bill")
