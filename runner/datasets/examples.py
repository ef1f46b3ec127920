"""The meaning of a line of a dataset, independent of its documented format.

The parser, the checks, the price estimate and the training process all use these types, so that the check of an example
and the training agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct, structs

Role = Literal["system", "user", "assistant"]
Format = Literal["prompt_completion", "chat", "generate_content"]
Severity = Literal["error", "warning"]


class TextPart(Struct, frozen=True, gc=False):
    """Text of a message."""

    text: str


class ImagePart(Struct, frozen=True, gc=False):
    """An image of a message: a `gs://` object or a `data:` URL."""

    uri: str
    mime_type: str | None = None
    """As declared; None if the format does not declare it."""
    detail: str | None = None


class Message(Struct, frozen=True, gc=False):
    """One turn. `model` in a file is `assistant` here."""

    role: Role
    parts: tuple[TextPart | ImagePart, ...]
    name: str | None = None
    """Name of the speaker; only chats have it, and it is not trained on."""

    @property
    def text(self) -> str:
        """Return the concatenated text parts."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Example:
    """One tuning example."""

    line: int
    """Line number in the file, from 1."""
    format: Format
    messages: tuple[Message, ...]

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """Return every image in order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, ImagePart))


class Finding(Struct, frozen=True, kw_only=True, gc=False):
    """A problem of a dataset, at one position.

    `code` is stable and documented in docs/dataset-format.md; `path` is a JSON path such as `messages[2].content`,
    empty for the line.
    """

    code: str
    severity: Severity
    file: str
    line: int
    path: str = ""
    message: str
    fix: str = ""

    @property
    def place(self) -> str:
        """Return `train.jsonl:6174 messages[2].content`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place} {self.path}" if self.path else place

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return structs.asdict(self)


class ParsedLine(Struct, frozen=True, kw_only=True):
    """The result for one line: an example, or its errors, and warnings in both cases."""

    line: int
    example: Example | None
    findings: tuple[Finding, ...] = ()
