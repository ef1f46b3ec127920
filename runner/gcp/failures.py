"""Turn what clients raise into `runner.errors`, and repeat what may be repeated.

Only calls whose repetition changes nothing are repeated: reads, and writes with a precondition. A create of a tuning
job, an upload of a model and a deployment are sent once.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import httpx

from runner.errors import (
    AlreadyExistsError,
    GoogleApiError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RunnerError,
    UnreachableError,
)

Result = TypeVar("Result")

ATTEMPTS = 5
"""Tries of an idempotent call; with the pauses below about 15 s in all."""
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 32.0
_PASSING = frozenset({408, 429, 500, 502, 503, 504})

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
    """The connection broke or went silent after the request was, or may have been, sent."""


def call(method: str, resource: str, function: Callable[[], Result], *, idempotent: bool = False) -> Result:
    """Return `function()`, its failures turned into this package's errors.

    Args:
        method: what is asked, for messages: `tuningJobs.create`.
        resource: of which resource.
        function: the call.
        idempotent: try again, with pauses, after failures that pass by themselves.

    Raises:
        GoogleApiError: the service refused (or one of its subclasses).
        UnreachableError: no connection; ConnectionLostError when the request may have been received.
    """
    attempts = ATTEMPTS if idempotent else 1
    for attempt in range(1, attempts + 1):
        try:
            return function()
        except Exception as error:
            if attempt == attempts or not _passes(error):
                raise_from(error, method, resource)
            time.sleep(_pause(attempt, error))
    raise AssertionError("unreachable")


def raise_from(error: Exception, method: str, resource: str) -> NoReturn:
    """Raise this package's error for a client's `error`; what is no client error is raised as it is."""
    translated = translate(error, method, resource)
    if translated is error:
        raise error
    raise translated from error


def translate(error: Exception, method: str, resource: str) -> Exception:
    """Return this package's error for a client's, or `error` itself when it is none."""
    if isinstance(error, RunnerError):
        return error
    described = _describe(error)
    if described is not None:
        http, body, fallback = described
        return api_error(http, body, fallback, method=method, resource=resource)
    kind = _connection_kind(error)
    if kind is not None:
        text = str(error) or type(error).__name__
        message = f"{method} {resource}: {text}"
        hint = "check the address and the network; `runner emulator status` tells whether the local server runs"
        return kind(message, hint=hint)
    if _is_login_failure(error):
        return PermissionDeniedError(
            f"{method} {resource}: the credentials cannot be used: {error}",
            status="UNAUTHENTICATED",
            http=401,
            method=method,
            resource=resource,
            hint="`gcloud auth application-default login`, or set RUNNER_TOKEN",
        )
    return error


def api_error(http: int, body: Any, fallback: str = "", *, method: str, resource: str) -> GoogleApiError:
    """Return the error for an answer with HTTP number `http` and Google's JSON `body`."""
    inner = body.get("error", body) if isinstance(body, dict) else {}
    inner = inner if isinstance(inner, dict) else {}
    text = str(inner.get("message") or fallback or f"HTTP {http}")
    status = str(inner.get("status") or _STATUS_OF_HTTP.get(http, "UNKNOWN"))
    kind = _kind(http, status)
    message = f"{method} {resource}: {text}" if resource else f"{method}: {text}"
    hint = _hint(http, inner, text)
    return kind(message, status=status, http=http, method=method, resource=resource, hint=hint)


def check(response: httpx.Response, method: str, resource: str) -> dict[str, Any]:
    """Return the JSON object of a REST answer. Raises GoogleApiError for an error answer or one that is not JSON."""
    if response.is_error:
        response.raise_for_status()
    if not response.content:
        return {}
    try:
        body = response.json()
    except (ValueError, RecursionError) as error:
        message = f"{method} {resource}: the answer is not JSON"
        raise GoogleApiError(
            message, status="INTERNAL", http=response.status_code, method=method, resource=resource
        ) from error
    return body if isinstance(body, dict) else {"value": body}


def maybe_sent(error: Exception) -> bool:
    """Tell whether the request behind `error` may have taken effect though no answer says so."""
    if isinstance(error, GoogleApiError):
        return (error.http >= 500 and error.http != 501) or error.http == 408
    return isinstance(error, ConnectionLostError)


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


def _hint(http: int, body: dict[str, Any], text: str) -> str | None:
    details = body.get("details")
    for detail in details if isinstance(details, list) else []:
        if not isinstance(detail, dict) or detail.get("reason") != "SERVICE_DISABLED":
            continue
        metadata = detail.get("metadata") or {}
        project = str(metadata.get("consumer", "")).removeprefix("projects/")
        suffix = f" --project {project}" if project else ""
        return f"`gcloud services enable {metadata.get('service', 'aiplatform.googleapis.com')}{suffix}`"
    if http == 401:
        return "`gcloud auth application-default login`, or set RUNNER_TOKEN"
    match = re.search(r"(\S+@\S+) does not have (storage\.\S+) access", text)
    if match:
        return f"grant roles/storage.objectUser on the bucket to {match[1]}"
    if http == 429:
        return "ask again later, or request more quota"
    return None


def _describe(error: Exception) -> tuple[int, Any, str] | None:
    """Return HTTP number, JSON body and a text of an error answer, None for another exception."""
    if isinstance(error, httpx.HTTPStatusError):
        response = error.response
        return response.status_code, _json(response), response.reason_phrase
    module = type(error).__module__
    if module.startswith("google.genai"):
        code = getattr(error, "code", None)
        if isinstance(code, int):
            return code, getattr(error, "details", None), str(error)
    if module.startswith("google.api_core"):
        code = getattr(error, "code", None)
        if code is not None:
            answer = getattr(error, "response", None)
            return int(code), _json(answer), str(getattr(error, "message", error))
    if module.startswith("google.cloud.storage") and type(error).__name__ == "InvalidResponse":
        answer = getattr(error, "response", None)
        return int(getattr(answer, "status_code", 500)), _json(answer), str(error)
    return None


def _json(response: Any) -> Any:
    try:
        return response.json()
    except Exception:
        return None


def _connection_kind(error: Exception) -> type[UnreachableError] | None:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.UnsupportedProtocol):
        return UnreachableError
    if isinstance(error, httpx.TransportError | httpx.StreamError):
        return ConnectionLostError
    names = {kind.__name__ for kind in type(error).__mro__}
    if type(error).__module__.startswith(("requests", "urllib3")):
        refused = re.search(r"NewConnectionError|Name or service not known|Failed to resolve|refused", str(error))
        return UnreachableError if refused or "ConnectTimeout" in names else ConnectionLostError
    if type(error).__module__.startswith("google.api_core") and "RetryError" in names:
        return ConnectionLostError
    if "TransportError" in names and type(error).__module__.startswith("google.auth"):
        return UnreachableError
    return None


def _is_login_failure(error: Exception) -> bool:
    return type(error).__module__.startswith("google.auth")


def _passes(error: Exception) -> bool:
    described = _describe(error)
    if described is not None:
        return described[0] in _PASSING
    if isinstance(error, GoogleApiError):
        return error.http in _PASSING
    return _connection_kind(error) is ConnectionLostError


def _pause(attempt: int, error: Exception) -> float:
    """Return seconds: what `Retry-After` says, else truncated exponential with full jitter."""
    response = getattr(error, "response", None)
    headers = getattr(response, "headers", None) or {}
    try:
        return min(LONGEST_PAUSE_SECONDS, max(0.0, float(headers.get("retry-after", ""))))
    except (TypeError, ValueError):
        pass
    return random.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** (attempt - 1)))
