"""Long-running operations of Vertex AI."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from runner.errors import GoogleApiError, NotFoundError, WaitTimeoutError
from runner.gcp.failures import about, api_error
from runner.gcp.session import Session
from runner.status_codes import HTTP, name_of
from runner.waiting import looks

POLL_SECONDS = 10.0
_METHOD = "operation"
"""Method of errors that are the end of an operation, not of a failed request."""


def ended_badly(error: Exception) -> bool:
    """Return whether an error is the end of an operation, after which the service does nothing more."""
    return isinstance(error, GoogleApiError) and error.method == _METHOD


def get(session: Session, name: str) -> dict[str, Any]:
    """Return the document of an operation. Raises NotFoundError."""
    return about(session.ask("GET", f"/v1beta1/{name}", "operations.get", name), name, "operations.get")


def wait(
    session: Session,
    name: str,
    *,
    timeout: float = 3600.0,
    poll: float = POLL_SECONDS,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Wait for an operation and return its `response`.

    Args:
        session: the project and location.
        name: full name of the operation.
        timeout: seconds.
        poll: maximum pause between two polls, in seconds; the first pauses are shorter.
        progress: called after every poll with the elapsed seconds and the stage of a deployment, `PREPARING_MODEL`, or
            "" if the service returns none.

    Raises:
        GoogleApiError: the operation ended with an error.
        WaitTimeoutError: it has not ended; it continues.
    """
    for waited in looks(0.2, poll, factor=1.5, within=timeout, what=f"the operation {name.rsplit('/', 1)[-1]}"):
        try:
            document = get(session, name)
        except NotFoundError as error:
            raise GoogleApiError(
                f"the service no longer knows {name}: its result is unknown",
                status="UNKNOWN",
                http=500,
                method="operations.get",
                resource=name,
                hint="run the command again",
            ) from error
        if document.get("done"):
            return _result(document, name)
        if progress:
            progress(waited, str((document.get("metadata") or {}).get("deploymentStage", "")))
    raise WaitTimeoutError(f"{name} has not ended after {timeout:.0f} s; it continues")


def _result(document: dict[str, Any], name: str) -> dict[str, Any]:
    error = document.get("error")
    if isinstance(error, dict) and error:
        status = name_of(error.get("code"))
        body = {"message": error.get("message", "unknown error"), "status": status, "details": error.get("details")}
        failure: GoogleApiError = api_error(HTTP[status], body, method=_METHOD, resource=name)
        raise failure
    response = document.get("response")
    return dict(response) if isinstance(response, dict) else {}
