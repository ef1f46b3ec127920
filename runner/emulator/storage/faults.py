"""Cloud Storage's errors with the service's messages."""

from __future__ import annotations

from runner.emulator.errors import ApiError


class NotModifiedError(ApiError):
    """A read whose `if…NotMatch` precondition failed: 304, without a body."""

    def __init__(self) -> None:
        super().__init__("FAILED_PRECONDITION", "Not Modified", http=304)


def bad_request(message: str, reason: str = "invalid") -> ApiError:
    """Return a 400."""
    return ApiError("INVALID_ARGUMENT", message, reason=reason)


def no_such_bucket() -> ApiError:
    """Return the 404 of a bucket."""
    return ApiError("NOT_FOUND", "The specified bucket does not exist.")


def no_such_object(bucket: str, name: str, generation: int | None = None) -> ApiError:
    """Return the 404 of an object, or of one of its generations."""
    suffix = "" if generation is None else f"#{generation}"
    return ApiError("NOT_FOUND", f"No such object: {bucket}/{name}{suffix}")


def unsupported(what: str) -> ApiError:
    """Return the response for features that only the service has, which no client retries."""
    message = f"The emulator does not support {what} (`runner explain emulator` lists what it supports)."
    return ApiError("UNIMPLEMENTED", message, http=405, reason="methodNotAllowed")


def conflict(message: str) -> ApiError:
    """Return a 409 `conflict`."""
    return ApiError("ALREADY_EXISTS", message, reason="conflict")


def condition_not_met(
    message: str = "At least one of the pre-conditions you specified did not hold.",
) -> ApiError:
    """Return the 412 of a failed precondition."""
    return ApiError("FAILED_PRECONDITION", message, http=412, reason="conditionNotMet")


def not_satisfiable(size: int) -> ApiError:
    """Return the 416 for a range that begins after the end of `size` bytes."""
    return ApiError(
        "OUT_OF_RANGE",
        "The requested range cannot be satisfied.",
        http=416,
        reason="requestedRangeNotSatisfiable",
        headers={"Content-Range": f"bytes */{size}"},
    )
