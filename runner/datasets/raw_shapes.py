"""The documented formats as types whose texts stay as they are written: see `reshaping`."""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Raw, Struct, UnsetType


class RawPair(Struct, forbid_unknown_fields=True, gc=False):
    """`{"prompt": …, "completion": …}`."""

    prompt: Raw
    completion: Raw


class RawTurn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn whose content is not looked into."""

    role: Literal["system", "user", "assistant"]
    content: Raw


class RawChat(Struct, forbid_unknown_fields=True, gc=False):
    """`{"messages": […]}`."""

    messages: list[RawTurn]


class RawOnlyText(Struct, forbid_unknown_fields=True, gc=False):
    """A part of GenerateContent that is a text."""

    text: Raw


class RawTextContent(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of GenerateContent, texts only."""

    role: Literal["user", "assistant", "model"]
    parts: list[RawOnlyText]


class RawTextInstruction(Struct, forbid_unknown_fields=True, gc=False):
    """The system turn of GenerateContent, texts only."""

    parts: list[RawOnlyText]


class RawTextContents(Struct, forbid_unknown_fields=True, gc=False):
    """`{"contents": […]}`, texts only."""

    contents: list[RawTextContent]
    systemInstruction: RawTextInstruction | UnsetType = UNSET  # noqa: N815 - the key's name
    system_instruction: RawTextInstruction | UnsetType = UNSET


class RawText(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="text"):
    """A part of text."""

    text: Raw


class RawAddress(Struct, forbid_unknown_fields=True, gc=False):
    """The address of an image."""

    url: Raw


class RawImage(Struct, forbid_unknown_fields=True, gc=False, tag_field="type", tag="image_url"):
    """A part with an image."""

    image_url: RawAddress


class RawPartsTurn(Struct, forbid_unknown_fields=True, gc=False):
    """A turn whose content is a text or a list of parts."""

    role: Literal["system", "user", "assistant"]
    content: str | list[RawText | RawImage]


class RawPartsChat(Struct, forbid_unknown_fields=True, gc=False):
    """`{"messages": […]}` with parts."""

    messages: list[RawPartsTurn]


class RawInline(Struct, forbid_unknown_fields=True, gc=False):
    """An image in the line."""

    data: Raw
    mime_type: str | UnsetType = UNSET
    mimeType: str | UnsetType = UNSET  # noqa: N815 - the key's name


class RawPart(Struct, forbid_unknown_fields=True, gc=False):
    """A part of GenerateContent: exactly one of these."""

    text: Raw | UnsetType = UNSET
    inline_data: RawInline | UnsetType = UNSET
    inlineData: RawInline | UnsetType = UNSET  # noqa: N815


class RawContent(Struct, forbid_unknown_fields=True, gc=False):
    """A turn of GenerateContent."""

    role: Literal["user", "assistant", "model"]
    parts: list[RawPart]


class RawInstruction(Struct, forbid_unknown_fields=True, gc=False):
    """The system turn of GenerateContent."""

    parts: list[RawPart]


class RawContents(Struct, forbid_unknown_fields=True, gc=False):
    """`{"contents": […]}`."""

    contents: list[RawContent]
    systemInstruction: RawInstruction | UnsetType = UNSET  # noqa: N815
    system_instruction: RawInstruction | UnsetType = UNSET
