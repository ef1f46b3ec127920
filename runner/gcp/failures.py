"""Convert errors of the HTTP client into `runner.errors`, and retry idempotent calls.

Only calls whose repetition changes nothing are retried: reads, and writes with a precondition. Creating a tuning job,
uploading a model and deploying are sent once.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from runner.errors import (
    AlreadyExistsError,
    GoogleApiError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    UnreachableError,
)
from runner.gcp.rest import ConnectError, Response, StatusError, StrangerError, TransportError
from runner.gcp.shapes import problem_of
from runner.waiting import waiting

Result = TypeVar("Result")

ATTEMPTS = 5
"""Attempts of an idempotent call; with the pauses below, about 15 s in total."""
REPEAT_SECONDS = 100.0
"""A call that took longer is not retried, because a silent service has been asked twice by then."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 32.0
LISTED = "the service lists it, but answers that it does not exist"
"""Message for a removal that gets 404, which proves nothing: an unnoticed resource continues to cost money."""
PASSING = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses of temporary failures."""

_NOTHING_DEPLOYED = re.compile(r"traffic_split|no deployed model", re.IGNORECASE)
"""The service's message for an endpoint without a model."""
_LISTING = {
    "/endpoints/": "runner endpoints ls",
    "/tuningJobs/": "runner jobs ls",
    "gs://": "runner environment show",
}
"""Parts of a resource's name, and the command that lists such resources."""

_DECIDED_FIRST = frozenset({400, 401, 403, 404, 501})

_STATUS_OF_HTTP = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ConnectionLostError(UnreachableError):
    """The connection broke or became silent after the request was, or may have been, sent."""


def call(method: str, resource: str, function: Callable[[], Result], *, idempotent: bool = False) -> Result:
    """Return `function()`, and convert its failures into this package's errors.

    Args:
        method: the method, for messages: `tuningJobs.create`.
        resource: the resource, for messages.
        function: the call.
        idempotent: retry temporary failures with pauses.

    Raises:
        GoogleApiError: the service refused (or one of its subclasses).
        UnreachableError: no connection; ConnectionLostError if the request may have been received.
    """
    attempts, start = ATTEMPTS if idempotent else 1, time.monotonic()
    with waiting(f"the answer of {method} {resource}".rstrip()):
        for attempt in range(1, attempts + 1):
            try:
                return function()
            except Exception as error:
                last = attempt == attempts or time.monotonic() - start > REPEAT_SECONDS
                if last or not _passes(error):
                    raise_from(error, method, resource)
                time.sleep(pause(attempt, error))
    raise AssertionError("unreachable")


def raise_from(error: Exception, method: str, resource: str) -> NoReturn:
    """Raise this package's error for a client's `error`; other errors are raised unchanged."""
    translated = translate(error, method, resource)
    if translated is error:
        raise error
    raise translated from error


def translate(error: Exception, method: str, resource: str) -> Exception:
    """Return this package's error for a client's error; other errors are returned unchanged."""
    if isinstance(error, StatusError):
        response = error.response
        return api_error(
            response.status_code, _json(response), response.reason_phrase, method=method, resource=resource
        )
    if isinstance(error, TransportError):
        kind = UnreachableError if isinstance(error, ConnectError) else ConnectionLostError
        hint = "check the address and the network; `runner emulator status` shows whether the emulator runs"
        if isinstance(error, StrangerError):
            hint = "nothing was sent; an answer or a record in a bucket names that host: check who can write there"
        return kind(f"{method} {resource}: {error}", hint=hint)
    return error


def api_error(http: int, body: Any, fallback: str = "", *, method: str, resource: str) -> GoogleApiError:
    """Return the error for a response with HTTP status `http` and Google's JSON `body`."""
    inner = body.get("error", body) if isinstance(body, dict) else {}
    if isinstance(inner, str):  # OAuth (RFC 6749)
        inner = {"message": f"{inner}: {body.get('error_description') or 'no description'}"}
    inner = inner if isinstance(inner, dict) else {}
    text = str(inner.get("message") or fallback or f"HTTP {http}")
    status = str(inner.get("status") or _STATUS_OF_HTTP.get(http, "UNKNOWN"))
    kind = _kind(http, status)
    message = f"{method} {resource}: {text}" if resource else f"{method}: {text}"
    hint = _hint(http, inner, text, resource)
    return kind(message, status=status, http=http, method=method, resource=resource, hint=hint)


def document_of(response: Response, method: str, resource: str) -> dict[str, Any]:
    """Return the JSON object of a successful response.

    Raises:
        GoogleApiError: it is not a JSON object, or a field has another type than at Google.
    """
    body = _json(response)
    if not isinstance(body, dict):
        raise data_loss(resource, "the answer is not a JSON object", method=method)
    problem = problem_of(body)
    if problem:
        raise data_loss(resource, f"the answer is malformed: {problem}", method=method)
    return body


def about(document: dict[str, Any], name: str, method: str) -> dict[str, Any]:
    """Return the document of a resource that was requested by name. Raises GoogleApiError if it has another name.

    The project in the name can be its number.
    """
    found = str(document.get("name", ""))
    if found.partition("/locations/")[2].partition("@")[0] != name.partition("/locations/")[2].partition("@")[0]:
        raise data_loss(name, f"the answer is about {found[:200] or 'nothing'}", method=method)
    return document


def data_loss(resource: str, problem: str, *, method: str) -> GoogleApiError:
    """Return the error for bytes or metadata that changed in transit."""
    message = f"{method} {resource}: {problem}"
    return GoogleApiError(
        message, status="DATA_LOSS", http=500, method=method, resource=resource, hint="run the same command again"
    )


def maybe_sent(error: Exception) -> bool:
    """Return whether the request of `error` may have taken effect although no response confirms it."""
    if isinstance(error, GoogleApiError):
        # A redirect does not count as a refusal: it comes from something on the way, possibly after the service.
        return error.http < 400 or (error.http >= 500 and error.http != 501) or error.http == 408
    return isinstance(error, ConnectionLostError)


def is_certain(error: Exception) -> bool:
    """Return whether a refusal proves that nothing was created: it concerns the request, the caller or its permissions.

    The service checks these before it creates anything. An exhausted quota (429) or a conflict (409) can also come from
    a later stage, whose first attempt has created the resource.
    """
    return not isinstance(error, GoogleApiError) or error.http in _DECIDED_FIRST


def may_pass(error: Exception) -> bool:
    """Return whether a failure may be temporary, for callers that wait longer than `call`."""
    if isinstance(error, GoogleApiError):
        return error.http in (408, 429) or (error.http >= 500 and error.http != 501)
    return isinstance(error, UnreachableError)


def _kind(http: int, status: str) -> type[GoogleApiError]:
    if http in {401, 403}:
        return PermissionDeniedError
    if http == 404:
        return NotFoundError
    if http == 412 or (http == 409 and status != "ABORTED"):
        return AlreadyExistsError
    if http == 429:
        return QuotaExceededError
    return GoogleApiError


def _hint(http: int, body: dict[str, Any], text: str, resource: str) -> str | None:
    details = body.get("details")
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict) or detail.get("reason") != "SERVICE_DISABLED":
            continue
        metadata = detail.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        project = str(metadata.get("consumer", "")).removeprefix("projects/")
        suffix = f" --project {project}" if project else ""
        return f"`gcloud services enable {metadata.get('service', 'aiplatform.googleapis.com')}{suffix}`"
    if http == 401:
        return "`gcloud auth application-default login`, or set RUNNER_TOKEN"
    match = re.search(r"(\S+@\S+) does not have (storage\.\S+) access", text)
    if match:
        return f"grant roles/storage.objectUser on the bucket to {match[1]}"
    if http == 400 and _NOTHING_DEPLOYED.search(text):
        return f"deploy a model there: `runner endpoints deploy JOB --endpoint {resource.rpartition('/')[2]}`"
    if http == 404:
        return next((f"`{command}` lists them" for part, command in _LISTING.items() if part in resource), None)
    return "run the same command again later" if http in PASSING and http != 429 else None


def _json(response: Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _passes(error: Exception) -> bool:
    if isinstance(error, StatusError):
        return error.response.status_code in PASSING
    if isinstance(error, GoogleApiError):  # of a call inside this one
        return error.http in PASSING and error.status != "DATA_LOSS"
    return isinstance(error, ConnectionLostError) or type(error) is TransportError


def pause(attempt: int, error: Exception | None = None) -> float:
    """Return the pause before the next attempt: `Retry-After`, or truncated exponential backoff with full jitter."""
    given = error.response.headers.get("retry-after", "") if isinstance(error, StatusError) else ""
    try:
        return min(LONGEST_PAUSE_SECONDS, max(0.0, float(given)))
    except ValueError:
        return random.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)))
