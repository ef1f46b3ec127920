"""Writes examples as lines of each format."""

from __future__ import annotations

from typing import Any

import msgspec

from runner.datasets.examples import Example, Format, ImagePart, Message, TextPart
from runner.datasets.records.fields import Loss, leaves, shortened
from runner.datasets.rules.parsing import parse_line
from runner.errors import RunnerError

_encode = msgspec.json.Encoder().encode


class NotExpressibleError(RunnerError):
    """A format cannot express this example; the message says why."""

    code = "not_expressible"
    usual_hint = "convert to another format, such as `--to chat`"


def to_line(example: Example, form: Format) -> bytes:
    """Return an example as a line of a format, with its line end. Raises NotExpressibleError."""
    writer = {"prompt_completion": _pair, "chat": _chat, "generate_content": _contents}[form]
    return _encode(writer(example)) + b"\n"


def reshaped(line: str, form: Format) -> str:
    """Return a good line in a format. Raises NotExpressibleError."""
    example = parse_line(line, 1).example
    assert example is not None, line  # noqa: S101 - the caller has a good one
    return to_line(example, form).decode()


def losses_of(example: Example, form: Format) -> list[Loss]:
    """Return what a format cannot express: names of speakers, details and declared types of images."""
    found: list[Loss] = []
    for index, message in enumerate(example.messages):
        path = f"messages[{index}]"
        if form != "chat":
            found += [Loss(*leaf) for leaf in leaves(message.name, f"{path}.name")]
        for place, part in enumerate(message.parts):
            if not isinstance(part, ImagePart):
                continue
            if form != "chat":
                found += [Loss(*leaf) for leaf in leaves(part.detail, f"{path}.content[{place}].detail")]
            elif part.mime_type and not part.uri.startswith("data:") and _type_of(part.uri) != part.mime_type.lower():
                found.append(Loss(f"{path}.content[{place}].mime_type", shortened(part.mime_type)))
    return found


def _pair(example: Example) -> dict[str, Any]:
    if [message.role for message in example.messages] != ["user", "assistant"]:
        raise NotExpressibleError("prompt and completion hold one question and one answer: no system turn, no history")
    if example.images:
        raise NotExpressibleError("prompt and completion hold no images")
    prompt, answer = example.messages
    return {"prompt": prompt.text, "completion": answer.text}


def _chat(example: Example) -> dict[str, Any]:
    return {"messages": [_chat_turn(message) for message in example.messages]}


def _chat_turn(message: Message) -> dict[str, Any]:
    name = {"name": message.name} if message.name else {}
    return {"role": message.role, "content": _chat_content(message), **name}


def _chat_content(message: Message) -> str | list[dict[str, Any]]:
    if len(message.parts) == 1 and isinstance(message.parts[0], TextPart):
        return message.parts[0].text
    parts: list[dict[str, Any]] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            parts.append({"type": "text", "text": part.text})
        else:
            detail = {"detail": part.detail} if part.detail else {}
            parts.append({"type": "image_url", "image_url": {"url": part.uri, **detail}})
    return parts


def _contents(example: Example) -> dict[str, Any]:
    body: dict[str, Any] = {}
    messages = list(example.messages)
    if messages[0].role == "system":
        body["systemInstruction"] = {"parts": [_part(part) for part in messages.pop(0).parts]}
    body["contents"] = [
        {
            "role": "model" if message.role == "assistant" else message.role,
            "parts": [_part(part) for part in message.parts],
        }
        for message in messages
    ]
    return body


def _part(part: TextPart | ImagePart) -> dict[str, Any]:
    if isinstance(part, TextPart):
        return {"text": part.text}
    if part.uri.startswith("data:"):
        head, _, data = part.uri.partition(",")
        return {"inline_data": {"mime_type": head.removeprefix("data:").removesuffix(";base64"), "data": data}}
    return {"file_data": {"mime_type": _declared(part), "file_uri": part.uri}}


def _declared(image: ImagePart) -> str:
    found = image.mime_type or _type_of(image.uri)
    if found is None:
        message = f"GenerateContent needs the type of an image, which {image.uri[-60:]!r} does not tell"
        raise NotExpressibleError(message)
    return found


def _type_of(uri: str) -> str | None:
    """Return the type that the suffix of an address indicates."""
    suffix = uri.rsplit(".", 1)[-1].lower()
    return {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}.get(suffix)
