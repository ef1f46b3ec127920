"""Transfers generated tokens from the engine's thread to the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from runner.emulator.engine.serving.interface import ServingEngine
from runner.emulator.engine.serving.parameters import SamplingParameters
from runner.emulator.engine.serving.sampling import Choice
from runner.emulator.engine.serving.scores import PromptToken
from runner.emulator.engine.serving.sequence import Delta, FinishReason, Prompt
from runner.emulator.errors import ApiError


@dataclass(slots=True)
class Output:
    """A finished sequence."""

    text: str = ""
    choices: list[Choice] = field(default_factory=list)
    prompt: tuple[PromptToken, ...] = ()
    finish_reason: FinishReason = "stop"

    @property
    def cumulative_logprob(self) -> float:
        """Return the sum of the tokens' log probabilities, which the request must include."""
        return sum(one.logprob or 0.0 for one in self.choices)


class Generation:
    """All sequences of one HTTP request. A context manager, which cancels running sequences when it is left.

    Args:
        engine: the engine.
        requests: prompt and parameters, each for `n` sequences.

    Raises:
        ApiError: from `ServingEngine.submit_all`, on entering.
    """

    def __init__(self, engine: ServingEngine, requests: Sequence[tuple[Prompt, SamplingParameters]]) -> None:
        self._engine = engine
        self._requests = requests
        self._deltas: asyncio.Queue[tuple[int, int, Delta]] = asyncio.Queue()
        self.prompt_tokens = sum(len(prompt.ids) for prompt, _ in requests)

    def __enter__(self) -> Generation:
        loop = asyncio.get_running_loop()

        def deliver(request: int, sequence: int, delta: Delta) -> None:
            # The loop is closed only when the process ends, and nobody reads any more then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._deltas.put_nowait, (request, sequence, delta))

        self._sequences = self._engine.submit_all(
            (prompt, parameters, functools.partial(deliver, number))
            for number, (prompt, parameters) in enumerate(self._requests)
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._engine.cancel(self._sequences)

    async def deltas(self) -> AsyncIterator[tuple[int, int, Delta]]:
        """Yield request number, sequence number and delta until every sequence has ended.

        Raises:
            ApiError: INTERNAL if the model failed, UNAVAILABLE if the server is shutting down.
        """
        unfinished = len(self._sequences)
        while unfinished:
            request, sequence, delta = await self._deltas.get()
            if delta.finish_reason == "error":
                raise ApiError("INTERNAL", f"The model failed: {delta.error}")
            if delta.finish_reason == "cancelled":
                raise ApiError("UNAVAILABLE", "The model server is shutting down.")
            unfinished -= delta.finish_reason is not None
            yield request, sequence, delta

    async def outputs(self) -> list[list[Output]]:
        """Return the finished sequences of each request, in order."""
        outputs = [[Output() for _ in range(parameters.n)] for _, parameters in self._requests]
        async for request, sequence, delta in self.deltas():
            output = outputs[request][sequence]
            output.text += delta.text
            output.choices += delta.choices
            output.prompt = output.prompt or delta.prompt
            output.finish_reason = delta.finish_reason or output.finish_reason
        return outputs
