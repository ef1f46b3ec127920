"""OpenAI's completions of plain prompts, as in vLLM: parses requests, creates answers and chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.emulator.engine.serving.generation import Generation, Output
from runner.emulator.engine.serving.interface import ServingEngine
from runner.emulator.engine.serving.parameters import (
    READERS,
    Problems,
    Reader,
    SamplingParameters,
    boolean,
    integer,
    make_parameters,
    read_fields,
    read_stream_options,
    refuse_others,
    shown,
    usage,
)
from runner.emulator.engine.serving.prompts import PromptEncoder
from runner.emulator.engine.serving.sampling import Choice
from runner.emulator.engine.serving.sequence import Prompt

_READERS: dict[str, Reader] = {**READERS, "logprobs": integer(0, 5), "stream": boolean, "echo": boolean}
_READ_APART = {"prompt", "stream_options"}
_WITHOUT_EFFECT = {"model", "user"}
_NEUTRAL: dict[str, tuple[Any, ...]] = {"suffix": ("",), "best_of": (1,)}
"""Unsupported fields, and their values that request nothing."""
_MOST_PROMPTS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A validated request."""

    texts: tuple[str, ...]
    prompts: tuple[Prompt, ...]
    parameters: SamplingParameters
    stream: bool
    include_usage: bool
    echo: bool


def read_completion_request(
    body: Mapping[str, Any], engine: ServingEngine, encoder: PromptEncoder
) -> CompletionRequest:
    """Validate a completions request.

    Args:
        body: as JSON.
        engine: determines the context length.
        encoder: the encoder of the model.

    Raises:
        ApiError: INVALID_ARGUMENT with every field that is wrong or not supported.
    """
    problems = Problems()
    values = read_fields(body, _READERS, "", problems)
    texts = _read_prompts(body.get("prompt"), problems)
    include_usage = read_stream_options(body, "", problems)
    refuse_others(body, {*_READERS, *_WITHOUT_EFFECT, *_READ_APART}, _NEUTRAL, "", problems)
    stream, echo = values.pop("stream", False), values.pop("echo", False)
    if echo and "logprobs" in values:
        problems.add("echo", "goes without logprobs on this server")
    problems.raise_if_any()
    parameters = make_parameters(values, "", problems)
    problems.raise_if_any()
    prompts = tuple(encoder.encode_text(text) for text in texts)
    for prompt in prompts:
        engine.check(prompt, parameters)
    return CompletionRequest(
        texts=texts,
        prompts=prompts,
        parameters=parameters,
        stream=stream,
        include_usage=include_usage,
        echo=echo,
    )


def _read_prompts(value: Any, problems: Problems) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list) or not given or not all(isinstance(one, str) and one for one in given):
        problems.add("prompt", f"must be a text that is not empty, or a list of such, got {shown(value)}")
        return ()
    if len(given) > _MOST_PROMPTS:
        problems.add("prompt", f"at most {_MOST_PROMPTS} prompts are taken at once, got {len(given)}")
    return tuple(given)


class CompletionFormat:
    """Creates the answers to one request.

    Args:
        model: name to report.
        engine: converts tokens to text.
        request: the request.
    """

    def __init__(self, model: str, engine: ServingEngine, request: CompletionRequest) -> None:
        self._decode = engine.decode_all
        self._request = request
        self._common = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    def completion(self, outputs: list[list[Output]]) -> dict[str, Any]:
        """Return the complete answer: the choices of the first prompt, then those of the next."""
        choices: list[dict[str, Any]] = []
        for text, group in zip(self._request.texts, outputs, strict=True):
            before = text if self._request.echo else ""
            for output in group:
                logprobs = self._logprobs(output.choices, 0)
                choices.append(self._choice(len(choices), before + output.text, logprobs, output.finish_reason))
        generated = sum(len(output.choices) for group in outputs for output in group)
        return {**self._common, "choices": choices, "usage": self._usage(generated)}

    async def chunks(self, generation: Generation) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of a streamed answer, and its usage if requested."""
        count = self._request.parameters.n
        begun: dict[int, int] = {}
        pending: dict[int, list[Choice]] = {}
        generated = 0
        async for number, sequence, delta in generation.deltas():
            index = number * count + sequence
            generated += len(delta.choices)
            pending.setdefault(index, []).extend(delta.choices)
            text = delta.text
            if index not in begun and self._request.echo:
                text = self._request.texts[number] + text
            if not text and delta.finish_reason is None:
                continue
            offset = begun.get(index, 0)
            begun[index] = offset + len(text)
            logprobs = self._logprobs(pending.pop(index), offset)
            yield self._chunk([self._choice(index, text, logprobs, delta.finish_reason)], None)
        if self._request.include_usage:
            yield self._chunk([], self._usage(generated))

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None) -> dict[str, Any]:
        chunk = {**self._common, "choices": choices}
        return {**chunk, "usage": usage} if self._request.include_usage else chunk

    def _choice(self, index: int, text: str, logprobs: dict[str, Any] | None, reason: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}

    def _usage(self, generated: int) -> dict[str, int]:
        return usage(sum(len(one.ids) for one in self._request.prompts), generated)

    def _logprobs(self, choices: list[Choice], offset: int) -> dict[str, Any] | None:
        """Return OpenAI's older form: a list for each property of the tokens."""
        if self._request.parameters.logprobs is None:
            return None
        tokens = [self._decode([one.token]) for one in choices]
        offsets = []
        for token in tokens:
            offsets.append(offset)
            offset += len(token)
        return {
            "tokens": tokens,
            "token_logprobs": [one.logprob for one in choices],
            "top_logprobs": [{self._decode([token]): logprob for token, logprob in one.top} for one in choices],
            "text_offset": offsets,
        }


def queued(engine: ServingEngine, request: CompletionRequest) -> Generation:
    """Return the generation for all prompts of a request."""
    return Generation(engine, [(prompt, request.parameters) for prompt in request.prompts])


async def complete(model: str, engine: ServingEngine, request: CompletionRequest) -> dict[str, Any]:
    """Answer a request that is not streamed."""
    with queued(engine, request) as generation:
        outputs = await generation.outputs()
    return CompletionFormat(model, engine, request).completion(outputs)
