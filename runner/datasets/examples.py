"""What a line of a dataset means, whichever of the documented formats it is written in.

The parser, the checks, the price estimate and the training process all work on these types, so that what `data check`
says of an example is what training does with it.
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
    """Name of the speaker; only chats have it, and nothing is trained on it."""

    @property
    def text(self) -> str:
        """Return the text parts joined, without separator."""
        return "".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True, slots=True)
class Example:
    """One tuning example."""

    line: int
    """1-based line of the file."""
    format: Format
    messages: tuple[Message, ...]

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """Return every image in order."""
        return tuple(part for message in self.messages for part in message.parts if isinstance(part, ImagePart))


class Finding(Struct, frozen=True, kw_only=True, gc=False):
    """Something wrong with a dataset, at one place.

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
    """The outcome of one line: an example, or the errors that keep it from being one, and warnings either way."""

    line: int
    example: Example | None
    findings: tuple[Finding, ...] = ()
