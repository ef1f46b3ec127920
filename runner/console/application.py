"""The ASGI application of the console: addresses, errors, access checks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from runner.console.changes import Changes
from runner.console.observing import Observer
from runner.console.pages import Pages
from runner.console.security import Access, Guard
from runner.console.state import Console, Form, blank, changing, reading
from runner.console.views import (
    bill,
    changes,
    create,
    datasets,
    deploy,
    endpoints,
    evaluations,
    garden,
    job,
    overview,
    playground,
    tuning,
)
from runner.errors import ConfigurationError, NotFoundError, RunnerError, UnreachableError
from runner.formatting import size
from runner.gcp.session import Session
from runner.local_files import DISK_ERRORS

logger = logging.getLogger(__name__)

FORM_BYTES = 2**20
PICTURES_BYTES = 32 * 2**20
UPLOAD_BYTES = 2**30
_LIMITS = {"a file of": UPLOAD_BYTES, "pictures of": PICTURES_BYTES, "texts of": FORM_BYTES}


class _Resource(Convertor[str]):
    """The last part of a resource's name, which cannot lead to another address."""

    regex = "[A-Za-z0-9][A-Za-z0-9_-]{0,127}"

    def convert(self, value: str) -> str:
        """Return the matched text."""
        return value

    def to_string(self, value: str) -> str:
        """Return the text for an address."""
        return value


register_url_convertor("resource", _Resource())


_FORMS: dict[str, Form] = {
    "/tuning/create": create.model,
    "/tuning/create/data": create.data,
    "/tuning/create/parameters": create.parameters,
    "/models/deploy": deploy.page,
    "/endpoints/{id:resource}/traffic": endpoints.ask_traffic,
    "/endpoints/{id:resource}/extend": endpoints.ask_extend,
    "/endpoints/{id:resource}/playground": playground.page,
    "/datasets": datasets.page,
    "/evaluations/new": evaluations.new,
    "/bill": bill.page,
}
"""Pages with a form, which is shown again if a request to the same address is refused."""
_FILLED_IN = {
    "/tuning/create/data": create.model,
    "/tuning/create/parameters": create.model,
    "/models/deploy/review": deploy.page,
    "/evaluations/review": evaluations.new,
}
"""Maps pages after a form with values in the address to this form, which is shown if they are refused."""


def _post(path: str, view: Any, *, most: int = FORM_BYTES) -> Route:
    return Route(path, changing(view, _FORMS.get(path)), methods=["POST"], max_body_size=most)


def _routes() -> list[Route]:
    get = {path: blank(form) for path, form in _FORMS.items()} | {
        "/": overview.page,
        "/tuning": tuning.page,
        "/tuning/compare": tuning.compare,
        "/tuning/create/review": create.review,
        "/tuning/jobs/{id:resource}": job.monitor,
        "/tuning/jobs/{id:resource}/dataset": job.dataset,
        "/tuning/jobs/{id:resource}/details": job.details,
        "/tuning/jobs/{id:resource}/events": job.events,
        "/tuning/jobs/{id:resource}/metrics.{form}": job.metrics,
        "/tuning/jobs/{id:resource}/cancel": job.ask_cancel,
        "/tuning/jobs/{id:resource}/clone": create.clone,
        "/models": garden.page,
        "/models/deploy/review": deploy.review,
        "/endpoints": endpoints.page,
        "/endpoints/{id:resource}": endpoints.one,
        "/endpoints/{id:resource}/undeploy": endpoints.ask_undeploy,
        "/datasets/check": datasets.check,
        "/evaluations": evaluations.page,
        "/evaluations/review": evaluations.review,
        "/evaluations/{id:resource}": evaluations.one,
        "/evaluations/{id:resource}/report.html": evaluations.export,
        "/bill.{form}": bill.export,
        "/bill/clean": bill.ask_clean,
        "/changes/{id:resource}": changes.page,
    }
    return [
        Route("/open", _open),
        Route("/static/{digest}/{name:path}", _static),
        *(Route(path, reading(view, _FILLED_IN.get(path))) for path, view in get.items()),
        _post("/tuning/create/data", create.upload, most=UPLOAD_BYTES),
        _post("/tuning/create/review", create.start),
        _post("/tuning/jobs/{id:resource}/cancel", job.cancel),
        _post("/models/deploy/review", deploy.start),
        _post("/endpoints/{id:resource}/traffic", endpoints.traffic),
        _post("/endpoints/{id:resource}/extend", endpoints.extend),
        _post("/endpoints/{id:resource}/undeploy", endpoints.undeploy),
        _post("/endpoints/{id:resource}/playground", playground.ask, most=PICTURES_BYTES),
        _post("/datasets", datasets.upload, most=UPLOAD_BYTES),
        _post("/evaluations/new", evaluations.upload, most=UPLOAD_BYTES),
        _post("/evaluations/review", evaluations.start),
        _post("/bill", bill.upload, most=UPLOAD_BYTES),
        _post("/bill/clean", bill.clean),
    ]


def build(
    session: Session, *, port: int, read_only: bool = False, announce: Callable[[str], None] | None = None
) -> tuple[ASGIApp, Access]:
    """Return the application for a connection, and the issuer of its one-time addresses.

    Args:
        session: the connection; it stays open after the application ends.
        port: the loopback port of the console.
        read_only: refuse every change.
        announce: called with each one-time address after the previous one was used.
    """
    observer = Observer(session)
    access = Access(port, announce)
    target = session.environment.target
    place = f"Emulator at {urlsplit(session.environment.vertex_base).netloc}" if target.free else target.service
    pages = Pages(target=target, place=place, read_only=read_only)
    console = Console(
        session=session,
        observer=observer,
        changes=Changes(observer.forget),
        access=access,
        pages=pages,
        target=target,
        read_only=read_only,
    )
    pages.templates.globals |= {"changes": console.changes, "now": session.now, "upload_bytes": UPLOAD_BYTES}

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        console.close()

    app = Starlette(
        routes=_routes(),
        lifespan=lifespan,
        exception_handlers={RunnerError: _failure, HTTPException: _missing, OSError: _disk, Exception: _bug},
        max_body_size=FORM_BYTES,
    )
    app.state.console = console

    async def locked(scope: Scope, receive: Receive, send: Send) -> None:
        response = pages.answer(Request(scope), "locked.html", status=403)
        await response(scope, receive, send)

    async def too_large(scope: Scope, receive: Receive, send: Send) -> None:
        most = ", ".join(f"{what} {size(limit)}" for what, limit in _LIMITS.items())
        body = {"code": "page", "message": f"this is more than a form takes: at most {most}"}
        body["hint"] = "upload a larger dataset to a bucket, and enter its address"
        response = _error(pages, Request(scope), 413, body)
        await response(scope, receive, send)

    guard = Guard(app, access=access, port=port, read_only=read_only, locked=locked, too_large=too_large)
    return guard, access


def _open(request: Request) -> Response:
    console: Console = request.app.state.console
    session = console.access.admit(request.query_params.get("token", ""))
    if session is None:
        return console.pages.answer(request, "locked.html", status=403)
    # Without a redirect, because a browser that came from another page would not send the new cookie with it.
    response = console.pages.answer(request, "opened.html")
    response.set_cookie(console.access.cookie, session, path="/", httponly=True, samesite="strict")
    return response


def _static(request: Request) -> Response:
    found = request.app.state.console.pages.assets.get(request.path_params["name"])
    if found is None or found.digest != request.path_params["digest"]:
        raise HTTPException(404)
    return Response(found.content, media_type=found.kind)


_TITLES = {
    404: "Not found",
    405: "Not allowed",
    413: "Too large",
    500: "Internal error",
    502: "Refused by the service",
    503: "Service not available",
    507: "Disk full",
}


def _error(pages: Pages, request: Request, status: int, body: dict[str, Any]) -> Response:
    """Return the page for an error."""
    return pages.answer(request, "error.html", status=status, error=body, title=_TITLES.get(status, "Not possible"))


def _failure(request: Request, error: Exception) -> Response:
    """Return the page for an expected failure."""
    console: Console = request.app.state.console
    status = 500
    if isinstance(error, NotFoundError):
        status = 404
    elif isinstance(error, UnreachableError):
        status = 503
    elif isinstance(error, ConfigurationError):
        status = 400
    elif isinstance(error, RunnerError):
        status = 502 if hasattr(error, "http") else 400
    body = error.to_json() if isinstance(error, RunnerError) else {"code": "internal", "message": str(error)}
    return _error(console.pages, request, status, body)


def _missing(request: Request, error: Exception) -> Response:
    console: Console = request.app.state.console
    status = error.status_code if isinstance(error, HTTPException) else 500
    reasons = {404: "there is no such page", 405: "this address only shows"}
    body = {"code": "page", "message": reasons.get(status, "the request could not be read")}
    return _error(console.pages, request, status, body)


def _disk(request: Request, error: Exception) -> Response:
    """Return the page for a full disk; any other error of the operating system is a bug, as in commands."""
    if not isinstance(error, OSError) or error.errno not in DISK_ERRORS:
        return _bug(request, error)
    console: Console = request.app.state.console
    body = {"code": "disk", "message": f"this machine: {error.strerror}", "hint": "free some space, then try again"}
    return _error(console.pages, request, 507, body)


def _bug(request: Request, error: Exception) -> Response:
    logger.exception("bug while answering %s %s", request.method, request.url.path, exc_info=error)
    console: Console = request.app.state.console
    body = {"code": "internal", "message": f"internal error: {type(error).__name__}: {error}"}
    return _error(console.pages, request, 500, body)
