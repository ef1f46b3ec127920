"""Ask a deployed model, by its ID, its display name or the environment's default."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from runner.gcp.prediction import ChatAnswer, ChatChunk, chat, predict, resolve_endpoint
from runner.serving.messages import image_part

__all__ = ["ChatAnswer", "ChatChunk", "chat", "instances_of", "predict", "resolve_endpoint", "text_of", "why_empty"]


def instances_of(
    prompts: Sequence[str], *, images: Sequence[str] = (), repeat_prompt: bool = False, **sampling: Any
) -> list[dict[str, Any]]:
    """Return an instance for each prompt.

    Args:
        prompts: the texts.
        images: images for every prompt, as for `image_part`; an instance is then a chat, because prompts cannot contain
            images.
        repeat_prompt: let the service put the prompt before each text.
        sampling: `max_tokens`, `temperature`, …; None values are omitted.

    Raises:
        ConfigurationError: an image cannot be read.
    """
    options = {key: value for key, value in sampling.items() if value is not None}
    if not images:
        raw = {} if repeat_prompt else {"raw_response": True}
        return [{"prompt": prompt, **options, **raw} for prompt in prompts]
    parts = [image_part(image) for image in images] if prompts else []
    return [
        {
            "@requestFormat": "chatCompletions",
            "messages": [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}],
            **options,
        }
        for text in prompts
    ]


def text_of(prediction: Any) -> str:
    """Return the text of a prediction: the prediction itself, the text of a chat answer, or JSON."""
    if isinstance(prediction, str):
        return prediction
    try:
        return str(prediction["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        return json.dumps(prediction, ensure_ascii=False)


def why_empty(prediction: Any, instance: Mapping[str, Any]) -> str:
    """Return the most likely reason why an answer has no text.

    Args:
        prediction: the answer.
        instance: the request.
    """
    try:
        reason = prediction["choices"][0].get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        reason = None
    if reason == "length" or instance.get("max_tokens") == 1:
        return "it reached the maximum number of tokens before its first visible character: raise `max_tokens`"
    if "prompt" in instance:
        return (
            "the model ended at once. `predict` sends the text as it is, without the chat template that the model was "
            "tuned with: ask with `runner chat`, or end the text as the training data does"
        )
    return "the model ended at once, as it does where the training data has empty answers"
