"""Converts prompts and chat messages to token IDs and image inputs."""

from __future__ import annotations

import base64
import binascii
import io
import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, UnidentifiedImageError

from runner.datasets.tokens.rendering import Renderer
from runner.emulator.engine.chat_templates import renderer_of
from runner.emulator.engine.serving.parameters import Problems, shown
from runner.emulator.engine.serving.sequence import Prompt
from runner.emulator.errors import engine_error, invalid
from runner.errors import ConfigurationError

READERS = 4
"""Number of requests that are read concurrently, each with a process for its template."""
_MOST_PIXELS = 33_000_000
"""Maximum number of pixels of one image (8K), because a small file can decode to gigabytes."""

_ROLES = ("system", "developer", "user", "assistant", "tool")
_MESSAGE_FIELDS = {"role", "content", "name", "refusal", "annotations", "audio", "tool_calls", "tool_call_id"}

Message = dict[str, Any]
"""`role`, and `content`: a string, or a list of text and image parts, as in chat templates."""


class PromptEncoder:
    """Encodes for one model, for several threads: templates are rendered concurrently, but tokens are not made so.

    Args:
        tokenizer: the tokenizer of the model, which nobody else may use.
        processor: for images; None if the model accepts only text.
    """

    def __init__(self, tokenizer: Any, processor: Any | None) -> None:
        self._tokenizer = tokenizer
        self._processor = processor
        self._one_at_a_time = threading.Lock()
        self._renderers: dict[bool, Renderer] = {}

    def encode_text(self, text: str) -> Prompt:
        """Encode a plain prompt, with special tokens at its beginning."""
        with self._one_at_a_time:
            return Prompt([int(one) for one in self._tokenizer(text)["input_ids"]])

    def encode_chat(
        self,
        messages: list[Message],
        *,
        answering: bool = True,
        tools: Sequence[dict[str, Any]] = (),
        own: Mapping[str, Any] | None = None,
    ) -> Prompt:
        """Render messages with the model's chat template.

        Args:
            messages: the messages of the conversation.
            answering: whether the assistant's next message begins at the end; vLLM's `add_generation_prompt`.
            tools: functions that the model can call.
            own: other arguments of the template; vLLM's `chat_template_kwargs`.

        Raises:
            ApiError: the template refuses the messages, or needs too much memory or time.
        """
        renderer = self._renderer(tools)
        if "tool_calls" not in renderer.source:
            # The template does not know calls; the conversation still shows them, as text.
            messages = [_with_calls_in_text(one) for one in messages]
        images = self._processor is not None and any(isinstance(one["content"], list) for one in messages)
        # Templates for images require all content as parts.
        shown_messages = [_without_pixels(one, parts=images) for one in messages]
        try:
            text = renderer.render(shown_messages, prompt=answering, tools=tools, own=own)
        except ConfigurationError as error:
            reason = error.code if error.code != ConfigurationError.code else ""
            raise engine_error("INVALID_ARGUMENT", f"messages: {error.message}", reason) from error
        with self._one_at_a_time:
            if images:
                return self._encode_images(text, messages)
            return Prompt([int(one) for one in self._tokenizer(text, add_special_tokens=False)["input_ids"]])

    def _renderer(self, tools: Sequence[dict[str, Any]]) -> Renderer:
        """Return the renderer, with the template for tools if there is one. Raises ApiError."""
        with self._one_at_a_time:
            if not self._tokenizer.chat_template:
                # The message is vLLM's.
                raise invalid(
                    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat "
                    "template if the tokenizer does not define one."
                )
            if bool(tools) not in self._renderers:
                self._renderers[bool(tools)] = renderer_of(self._tokenizer, processes=READERS, tools=tools)
            return self._renderers[bool(tools)]

    def _encode_images(self, text: str, messages: list[Message]) -> Prompt:
        assert self._processor is not None  # noqa: S101 - checked by the caller
        images = [
            part["image"]
            for one in messages
            if isinstance(one["content"], list)
            for part in one["content"]
            if part["type"] == "image"
        ]
        encoded = self._processor(text=[text], images=images, add_special_tokens=False, return_tensors="pt")
        inputs = {name: value for name, value in encoded.items() if name not in ("input_ids", "attention_mask")}
        return Prompt([int(one) for one in encoded["input_ids"][0]], inputs)

    def read_messages(self, value: Any, path: str, problems: Problems) -> list[Message]:
        """Validate chat messages and load their images.

        Args:
            value: OpenAI's `messages`.
            path: path of the field, for messages.
            problems: gets the errors.
        """
        if not isinstance(value, list) or not value:
            problems.add(path, "must be a list of at least one message")
            return []
        messages = []
        for number, one in enumerate(value):
            place = f"{path}[{number}]"
            if not isinstance(one, dict):
                problems.add(place, f"must be an object, got {shown(one)}")
                continue
            if one.get("role") not in _ROLES:
                problems.add(f"{place}.role", f"must be one of {', '.join(_ROLES)}, got {shown(one.get('role'))}")
            for name in sorted(one.keys() - _MESSAGE_FIELDS):
                if one[name] not in (None, []):
                    problems.add(f"{place}.{name}", "is not supported by this server")
            # Chat templates only know the older name of the role.
            role = "system" if one.get("role") == "developer" else one.get("role")
            calls = _read_calls(one, place, problems)
            content = one.get("content")
            if content is None and calls:
                content = ""
            message = {"role": role, "content": self._read_content(content, f"{place}.content", problems)}
            if calls:
                message["tool_calls"] = calls
            if role == "tool":
                message |= {key: one[key] for key in ("tool_call_id", "name") if isinstance(one.get(key), str)}
            messages.append(message)
        return messages

    def _read_content(self, value: Any, path: str, problems: Problems) -> str | list[dict[str, Any]]:
        if isinstance(value, str):
            return value
        if not isinstance(value, list):
            problems.add(path, f"must be a string or a list of parts, got {shown(value)}")
            return ""
        parts = []
        for number, part in enumerate(value):
            try:
                parts.append(self._read_part(part))
            except ValueError as error:
                problems.add(f"{path}[{number}]", str(error))
        if all(part["type"] == "text" for part in parts):
            return "\n".join(part["text"] for part in parts)  # as vLLM does
        return parts

    def _read_part(self, part: Any) -> dict[str, Any]:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            if not isinstance(part.get("text"), str):
                raise ValueError(f"text must be a string, got {shown(part.get('text'))}")
            return {"type": "text", "text": part["text"]}
        if kind == "image_url":
            if self._processor is None:
                raise ValueError("this model takes no images")
            url = part.get("image_url")
            return {"type": "image", "image": read_image(url.get("url") if isinstance(url, Mapping) else url)}
        raise ValueError(f"type must be text or image_url, got {shown(kind)}")


def _without_pixels(message: Message, *, parts: bool) -> Message:
    """Return a message for the template: images without their contents, and all content as parts if requested."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": [{"type": "text", "text": content}]} if parts else message
    return {**message, "content": [{"type": "image"} if part["type"] == "image" else part for part in content]}


def _read_calls(message: Mapping[str, Any], place: str, problems: Problems) -> list[dict[str, Any]]:
    """Return the calls of an assistant's message, with arguments as objects, as chat templates require."""
    calls = message.get("tool_calls") or []
    read = []
    for number, call in enumerate(calls if isinstance(calls, list) else [None]):
        function = call.get("function") if isinstance(call, dict) else None
        try:
            if not isinstance(function, dict):
                raise ValueError("no function")
            given = function.get("arguments") or "{}"
            arguments = json.loads(given) if isinstance(given, str) else given
            read.append(
                {**call, "type": "function", "function": {"name": str(function["name"]), "arguments": arguments}}
            )
        except (ValueError, KeyError):
            problems.add(f"{place}.tool_calls[{number}]", "must be a function with a name and JSON arguments")
    return read


def _with_calls_in_text(message: Message) -> Message:
    if not message.get("tool_calls"):
        return message
    text = "\n".join(json.dumps(call["function"]) for call in message["tool_calls"])
    content = message["content"]
    return {"role": message["role"], "content": f"{content}\n{text}".strip() if isinstance(content, str) else text}


def read_image(url: Any) -> Image.Image:
    """Decode an image given as a `data:` URL.

    Raises:
        ValueError: it is not such a URL, or not a readable image.
    """
    if not isinstance(url, str) or not url.startswith("data:"):
        scheme = url.split(":", 1)[0] if isinstance(url, str) and ":" in url else shown(url)
        raise ValueError(f"image_url must be a data: URL, got {scheme[:20]}: this server fetches nothing")
    header, _, data = url.partition(",")
    if not header.endswith(";base64"):
        raise ValueError("image_url must be base64: data:image/png;base64,…")
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        if image.width * image.height > _MOST_PIXELS:
            raise ValueError(f"an image may have {_MOST_PIXELS} pixels, this one has {image.width} x {image.height}")
        return image.convert("RGB")
    except (binascii.Error, UnidentifiedImageError, OSError, Image.DecompressionBombError, SyntaxError) as error:
        raise ValueError(f"image_url holds no readable image: {shown(str(error))}") from error
