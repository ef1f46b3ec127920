"""Google's error shapes, made in one place.

Storage answers in the older shape with an `errors` list; every other API in that of google.rpc.Status. Handlers raise
`ApiError` and never build an error body.
"""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from typing import Any

from runner.status_codes import HTTP, NAMES

_STORAGE_REASONS = {
    304: "notModified",
    308: "resumeIncomplete",
    400: "invalid",
    401: "required",
    403: "forbidden",
    404: "notFound",
    405: "methodNotAllowed",
    409: "conflict",
    411: "lengthRequired",
    412: "conditionNotMet",
    413: "uploadTooLarge",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
    499: "clientClosedRequest",
    500: "backendError",
    501: "notImplemented",
    503: "backendError",
}


class ApiError(Exception):
    """An answer that is an error.

    Args:
        status: google.rpc.Code name, for example `NOT_FOUND`.
        message: Google's own wording where it is known.
        details: google.rpc detail messages, each with an `@type`.
        http: HTTP number when it is not the canonical one of `status` (Storage's 412, 416 and 308).
        reason: Storage's machine-readable reason; derived from the number when absent.
        headers: extra response headers.
    """

    def __init__(
        self,
        status: str,
        message: str,
        *,
        details: list[dict[str, Any]] | None = None,
        http: int | None = None,
        reason: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.details = details or []
        self.http = http or HTTP[status]
        self.reason = reason
        self.headers = headers or {}

    def to_rpc(self) -> dict[str, Any]:
        """Return the body used by every API but Storage."""
        body: dict[str, Any] = {"code": self.http, "message": self.message, "status": self.status}
        if self.details:
            body["details"] = self.details
        # The Terraform provider tells "gone" from "broken" by errors[].reason, which real services send too.
        body["errors"] = [
            {
                "domain": "global",
                "reason": self.reason or _STORAGE_REASONS.get(self.http, "backendError"),
                "message": self.message,
            }
        ]
        return {"error": body}

    def to_storage(self) -> dict[str, Any]:
        """Return the body used by the Cloud Storage JSON API."""
        reason = self.reason or _STORAGE_REASONS.get(self.http, "backendError")
        return {
            "error": {
                "code": self.http,
                "message": self.message,
                "errors": [{"domain": "global", "reason": reason, "message": self.message}],
            }
        }

    def to_status(self) -> dict[str, Any]:
        """Return a google.rpc.Status, as long-running operations and failed jobs carry it."""
        return {"code": NAMES.index(self.status), "message": self.message, "details": self.details}


def engine_error(status: str, message: str, reason: str) -> ApiError:
    """Return what a training or serving process says of its failure; `reason` is a code of docs/errors.md, or ""."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason.upper(),
        "domain": "aiplatform.googleapis.com",
    }
    return ApiError(status if status in HTTP else "INTERNAL", message, details=[info] if reason else [])


def invalid(message: str) -> ApiError:
    """Return a 400 INVALID_ARGUMENT."""
    return ApiError("INVALID_ARGUMENT", message)


def found_errors(field: str, message: str) -> ApiError:
    """Return the 400 in the form of Vertex AI's own checks of a resource."""
    return invalid(f"List of found errors:\t1.Field: {field}; Message: {message}\t")


def not_here(message: str) -> ApiError:
    """Return a 400 UNIMPLEMENTED: Google can do it, the emulator cannot.

    400 instead of 501, which clients of Google repeat (Go, Node and gcloud every 5xx).
    """
    return ApiError("UNIMPLEMENTED", f"{message} `runner explain emulator` lists what it supports.", http=400)


def not_found(message: str) -> ApiError:
    """Return a 404 NOT_FOUND."""
    return ApiError("NOT_FOUND", message)


def unknown_path(verb: str, path: str) -> ApiError:
    """Return the 404 of a path, or of a verb on it, that no method has."""
    message = f"{verb} {path} was not found on this server (`runner explain emulator` lists its methods)."
    return ApiError("NOT_FOUND", message)


def already_exists(message: str) -> ApiError:
    """Return a 409 ALREADY_EXISTS."""
    return ApiError("ALREADY_EXISTS", message)


def service_disabled(service: str, project_number: str) -> ApiError:
    """Return the 403 that Google sends while an API is switched off in a project."""
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={project_number}"
    message = (
        f"{service} API has not been used in project {project_number} before or it is disabled. "
        f"Enable it by visiting {url} then retry. If you enabled this API recently, wait a few minutes for the "
        "action to propagate to our systems and retry."
    )
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "SERVICE_DISABLED",
        "domain": "googleapis.com",
        "metadata": {"service": service, "consumer": f"projects/{project_number}", "activationUrl": url},
    }
    return ApiError("PERMISSION_DENIED", message, details=[info], reason="accessNotConfigured")


_DISK_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS})
_DISK_RESULTS = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY})


def disk_error(error: BaseException, directory: Path) -> ApiError | None:
    """Return what is answered when the emulator's disk is full, read-only or broken; None for any other error.

    507, which Google's clients do not repeat by themselves. What was not stored left nothing behind.

    Args:
        error: of a file, or of SQLite.
        directory: where the emulator keeps its state.
    """
    if isinstance(error, OSError):
        if error.errno not in _DISK_ERRNOS:
            return None
        reason = error.strerror
    elif isinstance(error, sqlite3.Error):
        if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DISK_RESULTS:
            return None
        reason = str(error)
    else:
        return None
    return ApiError(
        "INTERNAL",
        f"The emulator cannot write below {directory}: {reason}. Stored data has not changed. Free space on that "
        "disk, then repeat the request.",
        http=507,
        reason="insufficientStorage",
    )
