"""What the functions of the API that ask a model take, and the request that it becomes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

from runner.api.boundary import Called, plain
from runner.errors import ConfigurationError
from runner.serving.messages import image_part

Message = Annotated[Mapping[str, Any], Called("messages such as {'role': 'user', 'content': '…'}")]
Messages = str | Sequence[Message]
"""One message of the user, or a conversation: `{"role": "user", "content": "…"}` in order."""
Instances = str | Iterable[str | Mapping[str, Any]]
"""A prompt, or a list of prompts and of instances in the service's format."""
_TAKEN = frozenset({"endpoint", "instances", "messages", "model", "prompts", "repeat_prompt", "session", "stream"})
"""What a request says besides its sampling."""


def sampling_of(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sampling options of a request. Raises ConfigurationError for names that are not sampling options."""
    if taken := sorted(_TAKEN & set(options)):
        hint = "`chat_stream` streams; `runner.chat(…, model=…)` asks a Google-managed model"
        raise ConfigurationError(f"this function does not accept {', '.join(taken)}", hint=hint)
    return {name: plain(value) for name, value in options.items()}


def conversation_of(messages: Messages, system: str | None, images: Sequence[str]) -> list[Mapping[str, Any]]:
    """Return the messages of a request, images first. Raises ConfigurationError: an image cannot be read."""
    before: list[Mapping[str, Any]] = [{"role": "system", "content": system}] if system else []
    if not isinstance(messages, str):
        return [*before, *messages]
    parts = [image_part(image) for image in images]
    content: Any = [*parts, {"type": "text", "text": messages}] if parts else messages
    return [*before, {"role": "user", "content": content}]
