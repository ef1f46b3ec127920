"""States of tuning jobs and batch prediction jobs, as the API names them."""

from __future__ import annotations

SUCCEEDED = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"})
ENDED = SUCCEEDED | {"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}
"""States that a job never leaves. A state that is not known here counts as running."""

STATES = (
    *("queued", "pending", "running", "succeeded", "partially succeeded", "failed", "cancelling", "cancelled"),
    *("paused", "expired", "updating"),
)
"""States of the API's JobState, in words."""


class HasState:
    """A job with its state."""

    __slots__ = ()

    state: str
    """The API's name: `JOB_STATE_RUNNING`."""

    @property
    def ended(self) -> bool:
        """Return whether the job is over."""
        return self.state in ENDED

    @property
    def succeeded(self) -> bool:
        """Return whether the job left what it was to make: a tuned model, predictions."""
        return self.state in SUCCEEDED

    @property
    def alive(self) -> bool:
        """Return whether it continues or has succeeded: another job like it would be paid for twice."""
        return self.succeeded or not self.ended
