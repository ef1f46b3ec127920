"""The progress and the result of a change that takes longer."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from runner.console.state import Console


def page(console: Console, request: Request) -> Response:
    """Show the progress; when it is complete, redirect to the result."""
    change = console.changes.get(request.path_params["id"])
    if change is None:
        raise HTTPException(404)
    if change.state == "done":
        if request.headers.get("hx-request") == "true":
            return Response(status_code=204, headers={"hx-redirect": console.after(change)})
        return RedirectResponse(console.after(change), 303)
    every = 1 if change.state == "running" else 0
    return console.pages.answer(request, "change.html", part="parts/change.html", change=change, every=every)
