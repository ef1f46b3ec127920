"""States of tuning jobs and batch prediction jobs, as the API names them."""

from __future__ import annotations

SUCCEEDED = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"})
ENDED = SUCCEEDED | {"JOB_STATE_FAILED", "JOB_STATE_CANCELLED", "JOB_STATE_EXPIRED"}
"""Final states of a job. An unknown state counts as running."""

STATES = (
    *("queued", "pending", "running", "succeeded", "partially succeeded", "failed", "cancelling", "cancelled"),
    *("paused", "expired", "updating"),
)
"""Descriptions of the states of the API's JobState."""


class HasState:
    """A job with its state."""

    __slots__ = ()

    state: str
    """The API's name: `JOB_STATE_RUNNING`."""

    @property
    def ended(self) -> bool:
        """Return whether the job has ended."""
        return self.state in ENDED

    @property
    def succeeded(self) -> bool:
        """Return whether the job created its result: a tuned model, or predictions."""
        return self.state in SUCCEEDED

    @property
    def alive(self) -> bool:
        """Return whether it is running or has succeeded, so that an equal job would be paid twice."""
        return self.succeeded or not self.ended
