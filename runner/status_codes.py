"""google.rpc.Code: names, numbers and HTTP statuses (google/rpc/code.proto)."""

from __future__ import annotations

HTTP = {
    "OK": 200,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}
"""HTTP status by name, in the order of the numbers."""

NAMES = tuple(HTTP)
"""Names by number."""


SERVICE_FAILURES = frozenset(
    NAMES.index(name) for name in ("UNKNOWN", "DEADLINE_EXCEEDED", "ABORTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS")
)
"""Numbers of failures of the service itself, which do not depend on the input."""
NO_CAPACITY = NAMES.index("RESOURCE_EXHAUSTED")
"""Number of the failure because of missing quota or machines."""


def name_of(number: object) -> str:
    """Return the name of a number; UNKNOWN for other numbers."""
    return NAMES[number] if isinstance(number, int) and 0 <= number < len(NAMES) else "UNKNOWN"
