"""Counters of one serving process, for `GET /metrics`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Metrics:
    """Counters since the start. One thread writes each counter; a reader may see one a token ahead of another."""

    started: float = field(default_factory=time.monotonic)
    requests: dict[str, int] = field(default_factory=dict)
    """Answered HTTP requests by path and status: `"/predict 200"`."""
    rejected: int = 0
    """Requests refused because the queue was full."""
    waiting: int = 0
    running: int = 0
    preempted: int = 0
    """Number of times that a sequence returned to the queue because of missing cache."""
    steps: int = 0
    """Forward passes that added a token to each running sequence."""
    prompt_tokens: int = 0
    reused_tokens: int = 0
    """Prompt tokens whose keys and values were cached."""
    generated_tokens: int = 0
    finished: dict[str, int] = field(default_factory=lambda: {"stop": 0, "length": 0, "cancelled": 0, "error": 0})
    """Sequences, by how they ended."""
    first_tokens: int = 0
    """Sequences with a first token; `first_token_seconds` is the sum over them."""
    first_token_seconds: float = 0.0
    sequence_seconds: float = 0.0
    """Sum over the finished sequences, including waiting."""

    def count_request(self, path: str, status: int) -> None:
        """Count one answered HTTP request."""
        key = f"{path} {status}"
        self.requests[key] = self.requests.get(key, 0) + 1

    def to_json(self) -> dict[str, Any]:
        """Return all counters; seconds are sums, which must be divided by their count."""
        return {
            "uptimeSeconds": round(time.monotonic() - self.started, 3),
            "requests": dict(self.requests),
            "rejectedRequests": self.rejected,
            "queueDepth": self.waiting,
            "runningSequences": self.running,
            "preemptedSequences": self.preempted,
            "finishedSequences": dict(self.finished),
            "steps": self.steps,
            "promptTokens": self.prompt_tokens,
            "reusedPromptTokens": self.reused_tokens,
            "generatedTokens": self.generated_tokens,
            "firstTokenCount": self.first_tokens,
            "firstTokenSeconds": round(self.first_token_seconds, 6),
            "sequenceSeconds": round(self.sequence_seconds, 6),
        }
