"""The bounded queue of an engine: which sequences are accepted, and the errors for the others."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable

from runner.emulator.engine.serving.constraints import Constraint
from runner.emulator.engine.serving.metrics import Metrics
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.sequence import Delta, Prompt, Sequence
from runner.emulator.engine.serving.text import Decode
from runner.emulator.errors import ApiError, invalid

Request = tuple[Prompt, SamplingParameters, Callable[[int, Delta], None]]
"""Prompt, parameters and a callback that gets the number of the sequence (0 to n - 1) and a delta."""


class Admission(ABC):
    """The common processing of requests before generation, for all engines.

    Args:
        decode: converts token IDs to text, without special tokens.
        decode_all: the same with special tokens.
        end_tokens: IDs that end a sequence.
        max_queue: maximum number of waiting sequences.
        metrics: counts refused sequences.
    """

    def __init__(
        self, decode: Decode, decode_all: Decode, end_tokens: frozenset[int], *, max_queue: int, metrics: Metrics
    ) -> None:
        self.decode = decode
        self.decode_all = decode_all
        self.end_tokens = end_tokens
        self.metrics = metrics
        self._max_queue = max(1, max_queue)
        self._waiting: deque[Sequence] = deque()
        self._closing = False

    @property
    @abstractmethod
    def death(self) -> str | None:
        """Return why the engine has failed permanently; None if it has not."""

    @abstractmethod
    def check(self, prompt: Prompt, parameters: SamplingParameters) -> None:
        """Raise INVALID_ARGUMENT if a prompt cannot be answered."""

    def _constraint(self, parameters: SamplingParameters) -> Constraint | None:
        """Return the constraint for a schema, if the engine enforces schemas itself."""
        return None

    def _sequences(self, requests: Iterable[Request]) -> list[Sequence]:
        """Return the sequences of several prompts.

        Raises ApiError INVALID_ARGUMENT for those that can never be answered.
        """
        sequences = []
        for prompt, parameters, deliver in requests:
            self.check(prompt, parameters)
            decode = self.decode if parameters.skip_special_tokens else self.decode_all
            for index in range(parameters.n):
                numbered, constraint = functools.partial(deliver, index), self._constraint(parameters)
                sequences.append(Sequence(prompt, parameters, index, numbered, self.end_tokens, decode, constraint))
        if len(sequences) > self._max_queue:
            raise invalid(
                f"{len(sequences)} sequences in one request are more than the {self._max_queue} that may wait."
            )
        return sequences

    def _queue(self, sequences: list[Sequence]) -> None:
        """Add sequences to the queue. Raises ApiError RESOURCE_EXHAUSTED, UNAVAILABLE: none of them was added."""
        if self._closing:
            raise ApiError("UNAVAILABLE", "The model server is shutting down.")
        if (death := self.death) is not None:
            raise dead_error(death)
        if len(self._waiting) + len(sequences) > self._max_queue:
            self.metrics.rejected += 1
            raise ApiError(
                "RESOURCE_EXHAUSTED",
                f"The queue of this model is full ({len(self._waiting)} of {self._max_queue} wait). Retry later.",
            )
        self._waiting.extend(sequences)


def dead_error(death: str) -> ApiError:
    """Return the error for requests to a failed engine."""
    return ApiError("UNAVAILABLE", f"The model server's engine is dead ({death}); it is being started again.")
