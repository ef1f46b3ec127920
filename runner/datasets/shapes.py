"""The documented formats as types for the fast decoder, and what a decoded line is made of.

A line that decodes into one of these types has no key too many, no value of a wrong type and valid UTF-8. What types
cannot say (order of turns, empty texts, images) `read_*` check; they return None for whatever is not certainly right,
and the exact parser looks at it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pybase64
from msgspec import UNSET, Struct, UnsetType

from runner.datasets.digests import IMAGE, PART
from runner.datasets.examples import Format
from runner.datasets.images import GS_URI, MANY_IMAGES, MIME_TYPES, ImageError, read_header
from runner.datasets.parsing import PLACEHOLDERS

MAX_TURNS = 64
"""Longer conversations go to the exact parser."""
_LONGEST_PLACEHOLDER = max(map(len, PLACEHOLDERS))


class PromptCompletion(Struct, forbid_unknown_fields=True, gc=False):
    """`{"prompt": …, "completion": …}`."""

    prompt: str
    completion: str


class ChatTurn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn whose content is a text."""

    role: Literal["system", "user", "assistant"]
    content: str


class Chat(Struct, forbid_unknown_fields=True, gc=False):
    """`{"messages": […]}`, texts only."""

    messages: list[ChatTurn]


class TextPart(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="text"):
    """`{"type": "text", …}`."""

    text: str


class ImageUrl(Struct, forbid_unknown_fields=True, gc=False):
    """The address of an image."""

    url: str
    detail: Literal["low", "high", "auto"] | UnsetType | None = UNSET


class ImagePart(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="image_url"):
    """`{"type": "image_url", …}`."""

    image_url: ImageUrl


class PartsTurn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn whose content is a text or a list of parts."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart | ImagePart]


class PartsChat(Struct, forbid_unknown_fields=True, gc=False):
    """`{"messages": […]}` with parts."""

    messages: list[PartsTurn]


class FileData(Struct, forbid_unknown_fields=True, gc=False):
    """An object in a bucket, in either spelling."""

    mime_type: str | UnsetType = UNSET
    mimeType: str | UnsetType = UNSET  # noqa: N815 - the key's name
    file_uri: str | UnsetType = UNSET
    fileUri: str | UnsetType = UNSET  # noqa: N815


class InlineData(Struct, forbid_unknown_fields=True, gc=False):
    """An image in the line, in either spelling."""

    data: str
    mime_type: str | UnsetType = UNSET
    mimeType: str | UnsetType = UNSET  # noqa: N815


class ContentPart(Struct, forbid_unknown_fields=True, gc=False):
    """A part of GenerateContent: exactly one of these."""

    text: str | UnsetType = UNSET
    file_data: FileData | UnsetType = UNSET
    fileData: FileData | UnsetType = UNSET  # noqa: N815
    inline_data: InlineData | UnsetType = UNSET
    inlineData: InlineData | UnsetType = UNSET  # noqa: N815


class Content(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of GenerateContent."""

    role: Literal["user", "assistant", "model"]
    parts: list[ContentPart]


class Instruction(Struct, forbid_unknown_fields=True, gc=False):
    """The system turn of GenerateContent."""

    parts: list[ContentPart]
    role: str | UnsetType = UNSET


class GenerateContent(Struct, forbid_unknown_fields=True, gc=False):
    """`{"contents": […]}`."""

    contents: list[Content]
    systemInstruction: Instruction | UnsetType = UNSET  # noqa: N815
    system_instruction: Instruction | UnsetType = UNSET


class Reading(Struct, gc=False):
    """What a good line is made of."""

    turns: list[str]
    """Content of each turn, see `digests.content`."""
    texts: list[str]
    """Every text."""
    system: bool
    keys: int
    """How often the names of keys stand in the line as JSON strings, if no key is there twice."""
    marks: int
    """The same for the strings of `mark_strings`."""
    images: int = 0


def _sequences(first: tuple[str, ...], names: tuple[str, str]) -> set[tuple[str, ...]]:
    return {first + names * count for count in range(1, MAX_TURNS // 2)}


_CHAT_ORDERS = frozenset(_sequences((), ("user", "assistant")) | _sequences(("system",), ("user", "assistant")))


def texts_are_sound(texts: list[str]) -> bool:
    """Tell whether no text is empty, white space or what a program writes for a missing value."""
    # Two passes in C over all texts; the loop is for the few that have a very short one.
    if min(map(len, map(str.strip, texts))) > _LONGEST_PLACEHOLDER:
        return True
    return all((bare := text.strip()) and bare.lower() not in PLACEHOLDERS for text in texts)


def read_prompt_completion(line: PromptCompletion, _: bool) -> Reading | None:
    """Read a line of the prompt/completion format."""
    texts = [line.prompt, line.completion]
    return Reading(texts, texts, False, 2, 2) if texts_are_sound(texts) else None


def read_chat(line: Chat, _: bool) -> Reading | None:
    """Read a line of the chat format without parts."""
    messages = line.messages
    roles = tuple([message.role for message in messages])
    if roles not in _CHAT_ORDERS:
        return None
    texts = [message.content for message in messages]
    if not texts_are_sound(texts):
        return None
    return Reading(texts, texts, roles[0] == "system", 1 + 2 * len(texts), len(texts))


def read_parts_chat(line: PartsChat, images_allowed: bool) -> Reading | None:
    """Read a line of the chat format with parts."""
    messages = line.messages
    roles = tuple([message.role for message in messages])
    if roles not in _CHAT_ORDERS:
        return None
    reading = Reading([], [], roles[0] == "system", 1 + 2 * len(roles), 0)
    for message in messages:
        content = message.content
        if isinstance(content, str):
            if not texts_are_sound([content]):
                return None
            reading.turns.append(content)
            reading.texts.append(content)
            continue
        pieces: list[str] = []
        texts: list[str] = []
        for part in content:
            if isinstance(part, TextPart):
                pieces.append(part.text)
                texts.append(part.text)
                reading.keys += 3  # "type", "text" as its value, "text"
                continue
            image = part.image_url
            if not images_allowed or message.role != "user" or not _address_is_sound(image.url):
                return None
            pieces.append(IMAGE + image.url)
            reading.images += 1
            reading.keys += 4 if image.detail is UNSET else 5
        if not _finish_turn(reading, pieces, texts):
            return None
    reading.marks = reading.keys
    return reading if reading.images <= MANY_IMAGES else None


def read_generate_content(line: GenerateContent, images_allowed: bool) -> Reading | None:
    """Read a line of the GenerateContent format."""
    instruction = line.systemInstruction
    if instruction is UNSET:
        instruction = line.system_instruction
    elif line.system_instruction is not UNSET:
        return None
    roles = tuple(["user" if content.role == "user" else "assistant" for content in line.contents])
    if roles not in _CHAT_ORDERS:
        return None
    reading = Reading([], [], not isinstance(instruction, UnsetType), 1, 0)
    if not isinstance(instruction, UnsetType):
        reading.keys += 2 if instruction.role is UNSET else 3
        if not _read_parts(instruction.parts, reading, images_allowed=False):
            return None
    for role, content in zip(roles, line.contents, strict=True):
        reading.keys += 2
        if not _read_parts(content.parts, reading, images_allowed=images_allowed and role == "user"):
            return None
    reading.marks = reading.keys
    return reading if reading.images <= MANY_IMAGES else None


def _read_parts(parts: list[ContentPart], reading: Reading, *, images_allowed: bool) -> bool:
    pieces: list[str] = []
    texts: list[str] = []
    for part in parts:
        given = [
            value
            for value in (part.text, part.file_data, part.fileData, part.inline_data, part.inlineData)
            if not isinstance(value, UnsetType)
        ]
        if len(given) != 1:
            return False
        value = given[0]
        if isinstance(value, str):
            pieces.append(value)
            texts.append(value)
            reading.keys += 1
            continue
        address = _image_of(value) if images_allowed else None
        if address is None:
            return False
        pieces.append(IMAGE + address)
        reading.images += 1
        reading.keys += 3
    return _finish_turn(reading, pieces, texts)


def _finish_turn(reading: Reading, pieces: list[str], texts: list[str]) -> bool:
    if not pieces:
        return False
    # A blank text is right beside others, unless all are blank.
    named = texts if len(pieces) == 1 else [text for text in texts if text.strip()]
    if (not named and len(texts) == len(pieces)) or (named and not texts_are_sound(named)):
        return False
    reading.turns.append(pieces[0] if len(pieces) == 1 else PART.join(pieces))
    reading.texts.extend(texts)
    return True


def _image_of(value: FileData | InlineData) -> str | None:
    declared = value.mime_type if isinstance(value.mime_type, str) else value.mimeType
    if not isinstance(declared, str) or (isinstance(value.mime_type, str) and isinstance(value.mimeType, str)):
        return None
    if isinstance(value, InlineData):
        address = f"data:{declared};base64,{value.data}"
    else:
        uri = value.file_uri if isinstance(value.file_uri, str) else value.fileUri
        if not isinstance(uri, str) or (isinstance(value.file_uri, str) and isinstance(value.fileUri, str)):
            return None
        if declared.lower() not in MIME_TYPES:
            return None
        address = uri
    return address if _address_is_sound(address) else None


def _address_is_sound(address: str) -> bool:
    if address.startswith("gs://"):
        return GS_URI.match(address) is not None
    for mime_type in MIME_TYPES:
        if address.startswith(f"data:{mime_type};base64,"):
            return _inline_image_is_sound(address[len(mime_type) + 13 :], mime_type)
    return False


def _inline_image_is_sound(text: str, mime_type: str) -> bool:
    padding = 2 if text.endswith("==") else 1 if text.endswith("=") else 0
    if len(text) % 4 or "=" in text[: len(text) - padding]:
        return False
    try:
        header = read_header(pybase64.b64decode(text, validate=True))
    except (ValueError, ImageError):
        return False
    return header.mime_type == mime_type and header.trailing <= 0 and not header.notes


def key_strings(kind: Any) -> list[bytes]:
    """Return the JSON strings that `Reading.keys` counts for a type of line."""
    names = {
        PromptCompletion: ("prompt", "completion"),
        Chat: ("messages", "role", "content"),
        PartsChat: ("messages", "role", "content", "type", "text", "image_url", "url", "detail"),
        GenerateContent: (
            *("contents", "systemInstruction", "system_instruction", "role", "parts", "text", "data"),
            *("file_data", "fileData", "inline_data", "inlineData"),
            *("mime_type", "mimeType", "file_uri", "fileUri"),
        ),
    }[kind]
    return [f'"{name}"'.encode() for name in names]


def mark_strings(kind: Any) -> list[bytes]:
    """Return fewer strings that do for texts-only chats in the usual order, `{"role": …, "content": …}`.

    There every `"role"` and `"messages"` follows a brace, and a second one in the same object would not.
    """
    if kind is not Chat:
        return key_strings(kind)
    return [
        b'"content"',
        *(before + key for key in (b'"role"', b'"messages"') for before in (b",", b" ", b"\t", b"\r")),
    ]


READERS: tuple[tuple[Any, Any, Format], ...] = (
    (PromptCompletion, read_prompt_completion, "prompt_completion"),
    (Chat, read_chat, "chat"),
    (PartsChat, read_parts_chat, "chat"),
    (GenerateContent, read_generate_content, "generate_content"),
)
"""Type of line, its reader, its format."""

DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises on a line it does not take."""
