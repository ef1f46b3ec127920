"""generateContent, streamGenerateContent, countTokens: Gemini's format, converted to chat completions."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import AsyncGenerator
from typing import Any

import httpx
from starlette.responses import Response

from runner.emulator.aiplatform import pictures
from runner.emulator.aiplatform.asking import headers_of, measured, pick, serving_of
from runner.emulator.aiplatform.forwarding import ask, begin
from runner.emulator.aiplatform.scope import PARENT
from runner.emulator.errors import invalid, not_here
from runner.emulator.routing import ApiRequest, Method, StreamedResponse, json_response

_ROUTE = "/chat/completions"
_PARAMETERS = {
    "temperature": "temperature",
    "topP": "top_p",
    "candidateCount": "n",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "seed": "seed",
}
"""Maps fields of GenerationConfig to those of chat completions."""
_IGNORED = frozenset({"responseModalities", "mediaResolution", "audioTimestamp", "routingConfig", "modelConfig"})
_FINISHED = {"stop": "STOP", "length": "MAX_TOKENS"}


def chat_request(body: dict[str, Any]) -> dict[str, Any]:
    """Return a GenerateContentRequest as a chat completions request. Raises ApiError."""
    if body.get("tools") or body.get("cachedContent"):
        raise not_here("The emulator does not generate content with tools or cached content.")
    if not body.get("contents"):
        raise invalid("Model input cannot be empty.")
    messages = []
    if "systemInstruction" in body:
        messages.append({"role": "system", "content": _content(body["systemInstruction"])})
    for index, content in enumerate(body["contents"]):
        role = content.get("role", "user")
        if role not in ("user", "model"):
            raise invalid("Please use a valid role: user, model.")
        if not content.get("parts"):
            raise invalid(f"Unable to submit request because contents[{index}] must include at least one parts field.")
        messages.append({"role": {"model": "assistant"}.get(role, role), "content": _content(content)})
    return {"messages": messages, **_parameters(body.get("generationConfig", {}))}


def _content(content: dict[str, Any]) -> Any:
    """Return the content of a message: text, or a list of texts and images."""
    parts: list[dict[str, Any]] = []
    for part in content.get("parts", []):
        if "text" in part:
            parts.append({"type": "text", "text": part["text"]})
        elif "inlineData" in part:
            data = part["inlineData"]
            url = f"data:{data.get('mimeType', '')};base64,{data.get('data', '')}"
            parts.append({"type": "image_url", "image_url": {"url": url}})
        elif "fileData" in part:
            parts.append({"type": "image_url", "image_url": {"url": part["fileData"].get("fileUri", "")}})
        else:
            raise not_here(f"The emulator does not take {', '.join(sorted(part))} in the parts of contents.")
    if all(part["type"] == "text" for part in parts):
        return "".join(part["text"] for part in parts)
    return parts


def _parameters(config: dict[str, Any]) -> dict[str, Any]:
    given = {_PARAMETERS[name]: value for name, value in config.items() if name in _PARAMETERS}
    if "topK" in config:
        given["top_k"] = int(config["topK"])
    if config.get("responseLogprobs"):
        given |= {"logprobs": True, "top_logprobs": config.get("logprobs", 0)}
    schema = config.get("responseJsonSchema")
    if schema is not None:
        given["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    elif config.get("responseMimeType", "text/plain") == "application/json":
        given["response_format"] = {"type": "json_object"}
    known = {*_PARAMETERS, *_IGNORED, "topK", "responseLogprobs", "logprobs", "responseJsonSchema", "responseMimeType"}
    other = sorted(config.keys() - known)
    if other:
        raise not_here(f"The emulator does not support {', '.join(other)} of generation_config.")
    return given


async def generate(request: ApiRequest) -> Response:
    """Answer a conversation."""
    endpoint, deployed = pick(request)
    chat = chat_request(await request.read_json())

    async def answer() -> Response:
        serving = await serving_of(request, endpoint, deployed)
        content = pictures.embedded(request.emulator, json.dumps(chat).encode())
        response = (await ask(serving, _ROUTE, content)).json()
        candidates = [
            _candidate(choice["index"], choice["message"]["content"] or "", choice["finish_reason"], choice["logprobs"])
            for choice in response["choices"]
        ]
        shown = {"candidates": candidates, "usageMetadata": _usage(response["usage"]), **_about(request, deployed)}
        return json_response(shown, headers=headers_of(deployed))

    return await measured(request, endpoint, deployed, answer())


async def stream(request: ApiRequest) -> Response:
    """Answer a conversation part by part: as server-sent events (`alt=sse`), or as a JSON array."""
    endpoint, deployed = pick(request)
    chat = chat_request(await request.read_json())
    content = json.dumps({**chat, "stream": True, "stream_options": {"include_usage": True}}).encode()
    events = (request.query_params.get("alt") or request.query_params.get("$alt")) == "sse"
    about = _about(request, deployed)

    async def answer() -> Response:
        serving = await serving_of(request, endpoint, deployed)
        response = await begin(serving, _ROUTE, pictures.embedded(request.emulator, content))
        pieces = _pieces(response, about)
        if events:
            return StreamedResponse(_as_events(pieces), 200, headers_of(deployed), "text/event-stream")
        return StreamedResponse(_as_array(pieces), 200, headers_of(deployed), "application/json; charset=UTF-8")

    return await measured(request, endpoint, deployed, answer())


async def _pieces(response: httpx.Response, about: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the chunks of a streamed chat completion as GenerateContentResponse."""
    try:
        async for line in response.aiter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if "error" in chunk:
                yield chunk
                return
            candidates = [
                _candidate(choice["index"], choice["delta"].get("content") or "", choice["finish_reason"], None)
                for choice in chunk["choices"]
                if choice["delta"].get("content") or choice["finish_reason"]
            ]
            usage = {"usageMetadata": _usage(chunk["usage"])} if chunk.get("usage") else {}
            if candidates or usage:
                yield {**({"candidates": candidates} if candidates else {}), **usage, **about}
    finally:
        # Closing it when the client disconnects stops the generation.
        await response.aclose()


async def _as_events(pieces: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes]:
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield b"data: " + _json(piece) + b"\r\n\r\n"


async def _as_array(pieces: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes]:
    before = b"["
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            yield before + _json(piece)
            before = b"\n,\r\n"
    yield b"]" if before != b"[" else b"[]"


def _json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _candidate(index: int, text: str, reason: str | None, logprobs: dict[str, Any] | None) -> dict[str, Any]:
    made: dict[str, Any] = {"content": {"role": "model", "parts": [{"text": text}] if text else []}}
    if not text:
        made["content"].pop("parts")
    if index:
        made["index"] = index
    if reason is not None:
        made["finishReason"] = _FINISHED.get(reason, "OTHER")
    scores = [item["logprob"] for item in (logprobs or {}).get("content") or []]
    if scores:
        made["avgLogprobs"] = sum(scores) / len(scores)
    return made


def _usage(usage: dict[str, Any]) -> dict[str, int]:
    return {
        "promptTokenCount": usage["prompt_tokens"],
        "candidatesTokenCount": usage["completion_tokens"],
        "totalTokenCount": usage["total_tokens"],
    }


def _about(request: ApiRequest, deployed: dict[str, Any]) -> dict[str, Any]:
    return {
        "modelVersion": deployed["displayName"],
        "createTime": request.emulator.clock.timestamp(),
        "responseId": uuid.uuid4().hex[:22],
    }


async def count_tokens(request: ApiRequest) -> Response:
    """Return the number of tokens of a conversation in the model's chat template."""
    endpoint, deployed = pick(request)
    body = await request.read_json()
    if "instances" in body or body.get("tools"):
        raise not_here("The emulator counts the tokens of contents only.")
    chat = {"messages": chat_request(body)["messages"], "max_tokens": 1}

    async def answer() -> Response:
        serving = await serving_of(request, endpoint, deployed)
        # The process has no route that only counts; one token costs almost nothing.
        response = await ask(serving, _ROUTE, json.dumps(chat).encode())
        texts = [part.get("text", "") for content in body["contents"] for part in content.get("parts", [])]
        characters = sum(not letter.isspace() for text in texts for letter in text)
        total = response.json()["usage"]["prompt_tokens"]
        return json_response({"totalTokens": total, "totalBillableCharacters": characters})

    return await measured(request, endpoint, deployed, answer())


_API = "aiplatform.projects.locations.endpoints"
_ENDPOINT = f"{PARENT}/endpoints/{{endpoint}}"
METHODS = [
    Method(f"{_API}.generateContent", "POST", f"{_ENDPOINT}:generateContent", generate),
    Method(f"{_API}.streamGenerateContent", "POST", f"{_ENDPOINT}:streamGenerateContent", stream),
    Method(f"{_API}.countTokens", "POST", f"{_ENDPOINT}:countTokens", count_tokens),
]
