"""The documented formats as types for the fast decoder.

A line that decodes into one of these types has no unknown key, no value of a wrong type and valid UTF-8. What types
cannot say (order of turns, empty texts, images) is checked in `tables`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType


class Reading(Struct, gc=False):
    """What a good line is made of."""

    turns: Sequence[str]
    """Content of each turn, see `digests.content`."""
    texts: Sequence[str]
    """Every text."""
    system: bool
    images: int = 0
    quotes: int = 0
    """What `scanning.quotes` gives for its JSON if no key is there twice."""


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


class OnlyText(Struct, forbid_unknown_fields=True, gc=False):
    """A part of GenerateContent that is a text."""

    text: str


class TextContent(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of GenerateContent that is one text."""

    role: Literal["user", "assistant", "model"]
    parts: tuple[OnlyText]


class TextInstruction(Struct, forbid_unknown_fields=True, gc=False):
    """The system turn of GenerateContent, one text."""

    parts: tuple[OnlyText]
    role: str | UnsetType = UNSET


class GenerateText(Struct, forbid_unknown_fields=True, gc=False):
    """`{"contents": […]}`, one text in each turn."""

    contents: list[TextContent]
    systemInstruction: TextInstruction | UnsetType = UNSET  # noqa: N815
    system_instruction: TextInstruction | UnsetType = UNSET


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


DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises on a line it does not take."""
