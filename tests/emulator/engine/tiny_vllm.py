"""Stands in for vLLM's `AsyncLLM`: its documented methods and shapes, with the tokens that the tiny model chooses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

SAMPLING_FIELDS = {
    "n", "presence_penalty", "frequency_penalty", "repetition_penalty", "temperature", "top_p", "top_k", "min_p",
    "seed", "stop", "stop_token_ids", "ignore_eos", "max_tokens", "min_tokens", "logprobs", "prompt_logprobs",
    "detokenize", "skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output", "output_kind",
    "logit_bias", "allowed_token_ids", "extra_args", "bad_words",
}  # fmt: skip
"""Fields of `SamplingParams` that vLLM documents."""


@dataclass
class Logprob:
    """As `vllm.logprobs.Logprob`."""

    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    """As `vllm.outputs.CompletionOutput`, with what a text model fills."""

    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    """As `vllm.outputs.RequestOutput`."""

    request_id: str
    prompt: str | None
    prompt_token_ids: list[int]
    prompt_logprobs: list[dict[int, Logprob] | None] | None
    outputs: list[CompletionOutput]
    finished: bool


class EngineDeadError(Exception):
    """As `vllm.v1.engine.exceptions.EngineDeadError`."""

    def __init__(self) -> None:
        super().__init__("EngineCore encountered an issue. See stack trace (above) for the root cause.")


class TinyAsyncLLM:
    """Stands in for `vllm.v1.engine.async_llm.AsyncLLM`: greedy, one forward pass a token, up to two tokens a delta."""

    def __init__(self, model: Any, delay_seconds: float = 0) -> None:
        self._model = model
        self._delay = delay_seconds
        self.aborted: list[str] = []
        self.most_at_once = 0
        self.at_once = 0
        self.failing = False
        self.is_shut_down = False
        self.errored = False
        """As vLLM's: its engine core is dead, noticed with or without requests."""

    @property
    def dead_error(self) -> BaseException:
        return EngineDeadError()

    async def generate(
        self, prompt: Mapping[str, Any], sampling_params: Mapping[str, Any], request_id: str
    ) -> AsyncIterator[RequestOutput]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.failing:
                raise RuntimeError("EngineCore encountered an issue")
            ids = list(prompt["prompt_token_ids"])
            asked = sampling_params["prompt_logprobs"]
            scores = None if asked is None else self._score(ids, asked)
            pending: list[tuple[int, dict[int, Logprob]]] = []
            generated = 0
            while True:
                await asyncio.sleep(self._delay)
                if self.errored:
                    raise EngineDeadError
                places = self._places(ids)[-1]
                token = int(places.argmax())
                ids.append(token)
                generated += 1
                pending.append((token, self._named(places, token, sampling_params["logprobs"] or 0)))
                reason = None
                if token in sampling_params["stop_token_ids"]:
                    reason = "stop"
                elif generated >= sampling_params["max_tokens"]:
                    reason = "length"
                if reason is None and generated % 2 == 0 and not self._delay:
                    continue
                logprobs = None if sampling_params["logprobs"] is None else [one for _, one in pending]
                completion = CompletionOutput(0, "", [one for one, _ in pending], None, logprobs, reason)
                yield RequestOutput(request_id, None, [], scores, [completion], reason is not None)
                scores, pending = None, []
                if reason is not None:
                    return
        except (asyncio.CancelledError, GeneratorExit):
            self.aborted.append(request_id)
            raise
        finally:
            self.at_once -= 1

    def shutdown(self) -> None:
        self.is_shut_down = True

    @torch.inference_mode()
    def _places(self, ids: list[int]) -> torch.Tensor:
        logits: torch.Tensor = self._model(torch.tensor([ids])).logits[0]
        return torch.log_softmax(logits.float(), -1)

    def _score(self, ids: list[int], count: int) -> list[dict[int, Logprob] | None]:
        places = self._places(ids)
        return [None, *(self._named(places[at], token, count) for at, token in enumerate(ids[1:]))]

    @staticmethod
    def _named(places: torch.Tensor, token: int, count: int) -> dict[int, Logprob]:
        named = {token: Logprob(float(places[token]), int((places >= places[token]).sum()))}
        values, tokens = places.topk(count)
        for rank, (other, value) in enumerate(zip(tokens.tolist(), values.tolist(), strict=True), 1):
            named.setdefault(other, Logprob(value, rank))
        return named
