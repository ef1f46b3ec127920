"""OpenAI's chat completions: parses requests, creates answers and chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.emulator.engine.serving.constraints import check_schema
from runner.emulator.engine.serving.generation import Generation, Output
from runner.emulator.engine.serving.interface import ServingEngine
from runner.emulator.engine.serving.parameters import (
    MOST_LOGPROBS,
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
from runner.emulator.engine.serving.tools import Tools, read_tools
from runner.emulator.errors import invalid

_READERS: dict[str, Reader] = {
    **READERS,
    "logprobs": boolean,
    "top_logprobs": integer(0, 20),
    "max_completion_tokens": integer(1),
    "stream": boolean,
    "prompt_logprobs": integer(0, MOST_LOGPROBS),
    "add_generation_prompt": boolean,
}
"""The last two are vLLM's own."""

_READ_APART = {"messages", "stream_options", "tools", "tool_choice", "response_format"} | {
    "reasoning_effort",
    "chat_template_kwargs",
}
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_FIXED = ("chat_template", "tokenize", "messages", "tools", "add_generation_prompt", "continue_final_message")
"""Names that a request must not pass to a chat template."""
_LEAST_LOGPROB = -9999.0
"""JSON has no infinity; this is the lowest value of OpenAI and vLLM."""

_WITHOUT_EFFECT = {"model", "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key"}
"""Fields without effect on the answer; also `model`, because an endpoint has one, and Google's examples send ""."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "functions": ([],),
    "function_call": ("none",),
    "modalities": (["text"],),
    "parallel_tool_calls": (True, False),
    "continue_final_message": (False,),
}
"""Unsupported fields, and their values that request nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A validated request."""

    prompt: Prompt
    parameters: SamplingParameters
    stream: bool
    include_usage: bool
    tools: Tools | None = None


def read_chat_request(
    body: Mapping[str, Any], engine: ServingEngine, encoder: PromptEncoder, defaults: Mapping[str, Any], path: str = ""
) -> ChatRequest:
    """Validate a chat completions request.

    Args:
        body: as JSON.
        engine: determines the context length.
        encoder: the encoder of the model.
        defaults: sampling parameters of the model's generation configuration.
        path: path of the body with its trailing dot, for messages.

    Raises:
        ApiError: INVALID_ARGUMENT with every field that is wrong or not supported.
    """
    problems = Problems()
    values = read_fields(body, _READERS, path, problems)
    messages = encoder.read_messages(body.get("messages"), f"{path}messages", problems)
    include_usage = read_stream_options(body, path, problems)
    tools = read_tools(body, path, problems)
    own = _read_template_values(body, path, problems)
    called = tools.schema() if tools else None
    values["schema"] = called or _read_response_format(body.get("response_format"), path, problems)
    if values["schema"] is not None:
        try:
            check_schema(values["schema"])
        except ValueError as error:
            problems.add(f"{path}{'tools' if called else 'response_format.json_schema.schema'}", str(error))
    refuse_others(body, {*_READERS, *_WITHOUT_EFFECT, *_READ_APART}, _NEUTRAL, path, problems)
    stream = values.pop("stream", False)
    answering = values.pop("add_generation_prompt", True)
    if stream and "prompt_logprobs" in values:
        problems.add(path + "prompt_logprobs", "are not available when stream is true")
    limit = values.pop("max_completion_tokens", None)
    if limit is not None:
        values["max_tokens"] = limit
    alternatives = values.pop("top_logprobs", 0)
    if values.pop("logprobs", False):
        values["logprobs"] = alternatives
    elif alternatives:
        problems.add(path + "top_logprobs", "needs logprobs to be true")
    problems.raise_if_any()
    prompt = encoder.encode_chat(messages, answering=answering, tools=tools.definitions if tools else (), own=own)
    room = engine.max_length - len(prompt.ids)
    asked = values.setdefault("max_tokens", max(1, room))
    parameters = make_parameters({**defaults, **values}, path, problems)
    problems.raise_if_any()
    if asked > room:
        raise invalid(
            f"This model's maximum context length is {engine.max_length} tokens. However, you requested "
            f"{len(prompt.ids) + asked} tokens ({len(prompt.ids)} in the messages, {asked} in the completion). "
            "Please reduce the length of the messages or completion."
        )
    return ChatRequest(prompt=prompt, parameters=parameters, stream=stream, include_usage=include_usage, tools=tools)


def _read_template_values(body: Mapping[str, Any], path: str, problems: Problems) -> dict[str, Any]:
    """Return the chat template's arguments besides the messages, as in vLLM; a family reads those that it knows."""
    values: dict[str, Any] = {}
    effort, given = body.get("reasoning_effort"), body.get("chat_template_kwargs")
    if effort is not None:
        if effort not in _EFFORTS:
            problems.add(f"{path}reasoning_effort", f"must be one of {', '.join(_EFFORTS)}, got {shown(effort)}")
        values["reasoning_effort"] = effort
    if given is not None and not isinstance(given, dict):
        problems.add(f"{path}chat_template_kwargs", f"must be an object, got {shown(given)}")
        return values
    for name in sorted((given or {}).keys() & set(_FIXED)):
        problems.add(f"{path}chat_template_kwargs.{name}", "is not for a request to set")
    return values | (given or {})


def _read_response_format(value: Any, path: str, problems: Problems) -> dict[str, Any] | None:
    """Return the schema of a response format; None for text."""
    kind = value.get("type") if isinstance(value, dict) else value
    if kind in (None, "text"):
        return None
    if kind == "json_object":
        return {"type": "object"}
    given = value.get("json_schema") if kind == "json_schema" else None
    schema = given.get("schema") if isinstance(given, dict) else None
    if not isinstance(schema, dict):
        problems.add(f"{path}response_format", f"must be text, json_object or json_schema, got {shown(value)}")
        return None
    return schema


class ChatFormat:
    """Creates the answers to one request.

    Args:
        model: name to report.
        engine: converts tokens to text.
        request: the request.
    """

    def __init__(self, model: str, engine: ServingEngine, request: ChatRequest) -> None:
        self._decode = engine.decode_all
        self._request = request
        self._common = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": model}

    def completion(self, outputs: list[Output]) -> dict[str, Any]:
        """Return the complete answer."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", **self._said(output.text), "refusal": None},
                "logprobs": self._logprobs(output.choices),
                "finish_reason": self._reason(output.text, output.finish_reason),
            }
            for index, output in enumerate(outputs)
        ]
        usage = self._usage(sum(len(output.choices) for output in outputs))
        scores = {} if self._request.parameters.prompt_logprobs is None else {"prompt_logprobs": self._scores(outputs)}
        return {**self._common, "object": "chat.completion", "choices": choices, "usage": usage, **scores}

    def _said(self, text: str) -> dict[str, Any]:
        """Return the content of a message, or its calls."""
        calls = self._request.tools.calls(text) if self._request.tools else []
        return {"content": None, "tool_calls": calls} if calls else {"content": text}

    def _reason(self, text: str, reason: str | None) -> str | None:
        tools = self._request.tools
        called = tools is not None and not tools.named and reason == "stop" and bool(tools.calls(text))
        return "tool_calls" if called else reason

    async def chunks(self, generation: Generation) -> AsyncIterator[dict[str, Any]]:
        """Yield the chunks of a streamed answer: a role, texts, an end for each choice, the usage."""
        count = self._request.parameters.n
        pending: list[list[Choice]] = [[] for _ in range(count)]
        # A text that may be a call is held back until it ends; None if it cannot be one any more.
        held: list[str | None] = ["" if self._request.tools else None] * count
        generated = 0
        for index in range(count):
            yield self._chunk(index, {"role": "assistant", "content": ""}, None, None)
        async for _, index, delta in generation.deltas():
            generated += len(delta.choices)
            pending[index] += delta.choices
            if (before := held[index]) is not None:
                text = before + delta.text
                if delta.finish_reason is None and (not text or self._request.tools.may_begin(text)):  # type: ignore[union-attr]
                    held[index] = text
                    continue
                held[index] = None
                yield self._chunk(index, _streamed(self._said(text)), self._logprobs(pending[index]), None)
                pending[index] = []
                if delta.finish_reason is not None:
                    yield self._chunk(index, {}, None, self._reason(text, delta.finish_reason))
                continue
            if delta.text or (delta.finish_reason and pending[index] and self._request.parameters.logprobs is not None):
                # Tokens whose text was held back are sent with the text that contains them.
                yield self._chunk(index, {"content": delta.text}, self._logprobs(pending[index]), None)
                pending[index] = []
            if delta.finish_reason is not None:
                yield self._chunk(index, {}, None, delta.finish_reason)
        if self._request.include_usage:
            yield {**self._common, "object": "chat.completion.chunk", "choices": [], "usage": self._usage(generated)}

    def _chunk(
        self, index: int, delta: dict[str, Any], logprobs: dict[str, Any] | None, reason: str | None
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        chunk = {**self._common, "object": "chat.completion.chunk", "choices": [choice]}
        return {**chunk, "usage": None} if self._request.include_usage else chunk

    def _usage(self, generated: int) -> dict[str, int]:
        return usage(len(self._request.prompt.ids), generated)

    def _logprobs(self, choices: list[Choice]) -> dict[str, Any] | None:
        if self._request.parameters.logprobs is None:
            return None
        return {
            "content": [
                {
                    **self._token(one.token, one.logprob),
                    "top_logprobs": [self._token(token, logprob) for token, logprob in one.top],
                }
                for one in choices
            ]
        }

    def _scores(self, outputs: list[Output]) -> list[dict[str, Any] | None]:
        """Return vLLM's `prompt_logprobs`: by token ID, the token's own first; null for the prompt's first token."""
        return [
            None,
            *(
                {
                    str(token): {
                        "logprob": max(logprob, _LEAST_LOGPROB),
                        "rank": rank,
                        "decoded_token": self._decode([token]),
                    }
                    for token, logprob, rank in (place.own, *place.top)
                }
                for place in outputs[0].prompt
            ),
        ]

    def _token(self, token: int, logprob: float | None) -> dict[str, Any]:
        text = self._decode([token])
        return {"token": text, "logprob": max(logprob or 0.0, _LEAST_LOGPROB), "bytes": list(text.encode())}


def _streamed(said: dict[str, Any]) -> dict[str, Any]:
    """Return the content in the form of a chunk, with numbered calls."""
    if "tool_calls" not in said:
        return said
    return {"tool_calls": [{"index": number, **call} for number, call in enumerate(said["tool_calls"])]}


async def complete_chat(model: str, engine: ServingEngine, request: ChatRequest) -> dict[str, Any]:
    """Answer a request that is not streamed."""
    with Generation(engine, [(request.prompt, request.parameters)]) as generation:
        outputs = await generation.outputs()
    return ChatFormat(model, engine, request).completion(outputs[0])
