"""From the decoded lines of a block to columns, checked for what the types of `shapes` cannot say.

Whatever is not certainly right is left out, and the exact parser looks at it. Columns rather than objects: most of the
work is then done by `map` and comprehensions, whose cost per line is a small part of the decoder's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, pairwise
from operator import add, itemgetter, sub
from typing import Any

import pybase64
from msgspec import UNSET, UnsetType

from runner.datasets.digests import IMAGE, PART, address_digest, digest_of
from runner.datasets.examples import Format
from runner.datasets.images import GS_URI, MANY_IMAGES, MIME_TYPES, ImageError, read_header
from runner.datasets.parsing import PLACEHOLDERS
from runner.datasets.shapes import (
    Chat,
    ContentPart,
    FileData,
    GenerateContent,
    GenerateText,
    InlineData,
    PartsChat,
    PromptCompletion,
    Reading,
    TextPart,
)

MAX_TURNS = 64
"""Longer conversations go to the exact parser."""
_LONGEST_PLACEHOLDER = max(map(len, PLACEHOLDERS))


@dataclass(slots=True)
class Table:
    """Good rows of a block, in columns of the same length."""

    rows: list[int]
    """Place among the decoded lines."""
    contents: list[str]
    """Contents of the turns of all rows, one after the other, see `digests.content`."""
    turns: list[int]
    """Number of turns; odd where the first is the system's."""
    quotes: list[int]
    """What `scanning.quotes` gives for the JSON of a row if no key is there twice.

    Without `readings`, less one for each content that ends with a backslash.
    """
    readings: list[Reading] | None = None
    """Where a turn may have several parts, or images; else None."""

    @property
    def bounds(self) -> list[int]:
        """Return where the turns of each row begin in `contents`, and where the last row's end."""
        return list(accumulate(self.turns, initial=0))

    def conversations(self) -> list[list[str]]:
        """Return the turns of each row."""
        return [self.contents[start:end] for start, end in pairwise(self.bounds)]

    def characters(self) -> list[int]:
        """Return the length of each row's texts."""
        if self.readings is not None:
            return [sum(map(len, reading.texts)) for reading in self.readings]
        if not self.turns:
            return []
        if min(self.turns) == max(self.turns) == 2:
            lengths = list(map(len, self.contents))
            return list(map(add, lengths[::2], lengths[1::2]))
        sums = list(accumulate(map(len, self.contents), initial=0))
        at_bounds = itemgetter(*self.bounds)(sums)
        return list(map(sub, at_bounds[1:], at_bounds))

    def without(self, bad: set[int]) -> Table:
        """Return the table without some of its rows."""
        keep = [place for place in range(len(self.rows)) if place not in bad]
        conversations = self.conversations()
        return Table(
            [self.rows[place] for place in keep],
            list(chain.from_iterable([conversations[place] for place in keep])),
            [self.turns[place] for place in keep],
            [self.quotes[place] for place in keep],
            [self.readings[place] for place in keep] if self.readings is not None else None,
        )


def _roles(count: int, answer: str) -> list[str]:
    return ["system"] * (count % 2) + ["user", answer] * (count // 2)


_CHAT_ORDERS = {count: _roles(count, "assistant") for count in range(2, MAX_TURNS)}
_NO_ORDER = [""]
_CONTENT_ORDERS = frozenset(
    tuple(_roles(count, answer)) for count in range(2, MAX_TURNS, 2) for answer in ("model", "assistant")
)


def unsound(texts: Sequence[str]) -> bool:
    """Tell whether a text is empty, white space or what a program writes for a missing value."""
    short = [text for text in map(str.strip, texts) if len(text) <= _LONGEST_PLACEHOLDER]
    return bool(short) and not all(text and text.lower() not in PLACEHOLDERS for text in short)


def read_prompt_completion(lines: list[PromptCompletion], _: bool) -> Table:
    """Read lines of the prompt/completion format."""
    contents = [text for line in lines for text in (line.prompt, line.completion)]
    return _sound(Table(list(range(len(lines))), contents, [2] * len(lines), [8] * len(lines)))


def read_chat(lines: list[Chat], _: bool) -> Table:
    """Read lines of the chat format without parts."""
    conversations = [line.messages for line in lines]
    rows = list(range(len(lines)))
    counts = list(map(len, conversations))
    orders = [_CHAT_ORDERS.get(count, _NO_ORDER) for count in counts]
    if [turn.role for turns in conversations for turn in turns] != list(chain.from_iterable(orders)):
        rows = [row for row in rows if [turn.role for turn in conversations[row]] == orders[row]]
        conversations = [conversations[row] for row in rows]
        counts = list(map(len, conversations))
    contents = [turn.content for turns in conversations for turn in turns]
    return _sound(Table(rows, contents, counts, [2 + 8 * count for count in counts]))


def read_generate_text(lines: list[GenerateText], _: bool) -> Table:
    """Read lines of GenerateContent whose turns are one text each."""
    table = Table([], [], [], [])
    for row, line in enumerate(lines):
        turns = line.contents
        if tuple([turn.role for turn in turns]) not in _CONTENT_ORDERS:
            continue
        instruction = line.systemInstruction
        if instruction is UNSET:
            instruction = line.system_instruction
        elif line.system_instruction is not UNSET:
            continue
        count, quotes = len(turns), 2 + 10 * len(turns)
        if not isinstance(instruction, UnsetType):
            table.contents.append(instruction.parts[0].text)
            count += 1
            quotes += 8
            if isinstance(instruction.role, str):
                quotes += 4 - instruction.role.endswith("\\")
        table.rows.append(row)
        table.contents += [turn.parts[0].text for turn in turns]
        table.turns.append(count)
        table.quotes.append(quotes)
    return _sound(table)


def _sound(table: Table) -> Table:
    """Return a table without the rows that have a blank text."""
    if unsound(table.contents):
        return table.without({place for place, turns in enumerate(table.conversations()) if unsound(turns)})
    return table


def read_parts_chat(lines: list[PartsChat], images_allowed: bool) -> Table:
    """Read lines of the chat format with parts."""
    return _of_readings([_read_parts_chat(line, images_allowed) for line in lines])


def read_generate_content(lines: list[GenerateContent], images_allowed: bool) -> Table:
    """Read lines of the GenerateContent format."""
    return _of_readings([_read_generate_content(line, images_allowed) for line in lines])


def _of_readings(found: list[Reading | None]) -> Table:
    readings = [reading for reading in found if reading is not None]
    return Table(
        [row for row, reading in enumerate(found) if reading is not None],
        list(chain.from_iterable([reading.turns for reading in readings])),
        [len(reading.turns) for reading in readings],
        [reading.quotes for reading in readings],
        readings,
    )


@dataclass(slots=True)
class _Builder:
    """Collects the turns of one line."""

    turns: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    images: int = 0
    quotes: int = 2

    def add_image(self, address: str, strings: int) -> str | None:
        digest = _sound_image(address)
        if digest is None:
            return None
        self.images += 1
        self.quotes += 2 * strings - address.endswith("\\")
        return IMAGE + digest

    def add_text(self, text: str, strings: int) -> str:
        self.quotes += 2 * strings - text.endswith("\\")
        return text

    def finish_turn(self, pieces: list[str], texts: list[str]) -> bool:
        if not pieces:
            return False
        # A blank text is right beside others, unless all are blank.
        named = texts if len(pieces) == 1 else [text for text in texts if text.strip()]
        if (not named and len(texts) == len(pieces)) or unsound(named):
            return False
        self.turns.append(pieces[0] if len(pieces) == 1 else PART.join(pieces))
        self.texts.extend(texts)
        return True

    def reading(self, *, system: bool) -> Reading | None:
        if self.images > MANY_IMAGES:
            return None
        return Reading(self.turns, self.texts, system, self.images, self.quotes)


def _read_parts_chat(line: PartsChat, images_allowed: bool) -> Reading | None:
    messages = line.messages
    if [message.role for message in messages] != _CHAT_ORDERS.get(len(messages)):
        return None
    made = _Builder()
    for message in messages:
        content = message.content
        made.quotes += 6
        if isinstance(content, str):
            if not made.finish_turn([made.add_text(content, 1)], [content]):
                return None
            continue
        pieces: list[str] = []
        texts: list[str] = []
        for part in content:
            if isinstance(part, TextPart):
                pieces.append(made.add_text(part.text, 4))
                texts.append(part.text)
                continue
            image = part.image_url
            if not images_allowed or message.role != "user":
                return None
            strings = 5 if image.detail is UNSET else 6 if image.detail is None else 7
            if (mark := made.add_image(image.url, strings)) is None:
                return None
            pieces.append(mark)
        if not made.finish_turn(pieces, texts):
            return None
    return made.reading(system=len(messages) % 2 == 1)


def _read_generate_content(line: GenerateContent, images_allowed: bool) -> Reading | None:
    instruction = line.systemInstruction
    if instruction is UNSET:
        instruction = line.system_instruction
    elif line.system_instruction is not UNSET:
        return None
    roles = ["user" if content.role == "user" else "assistant" for content in line.contents]
    if len(roles) % 2 or roles != _CHAT_ORDERS.get(len(roles)):
        return None
    made = _Builder()
    system = not isinstance(instruction, UnsetType)
    if not isinstance(instruction, UnsetType):
        made.quotes += 4
        if isinstance(instruction.role, str):
            made.add_text(instruction.role, 2)
        if not _read_parts(instruction.parts, made, images_allowed=False):
            return None
    for role, content in zip(roles, line.contents, strict=True):
        made.quotes += 6
        if not _read_parts(content.parts, made, images_allowed=images_allowed and role == "user"):
            return None
    return made.reading(system=system)


def _read_parts(parts: list[ContentPart], made: _Builder, *, images_allowed: bool) -> bool:
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
            pieces.append(made.add_text(value, 2))
            texts.append(value)
            continue
        address = _image_of(value) if images_allowed else None
        if address is None or (mark := made.add_image(address, 5)) is None:
            return False
        pieces.append(mark)
    return made.finish_turn(pieces, texts)


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
    return address


def _sound_image(address: str) -> str | None:
    """Return the digest of an address that is certainly that of a good image, None for any other.

    All of the base64 of an inline image is decoded, and the structure of the image is read to its end.
    """
    if address.startswith("gs://"):
        return address_digest(address) if GS_URI.match(address) else None
    for mime_type in MIME_TYPES:
        if address.startswith(f"data:{mime_type};base64,") and address.isascii():
            return _sound_inline_image(address.encode(), len(mime_type) + 13, mime_type)
    return None


def _sound_inline_image(address: bytes, start: int, mime_type: str) -> str | None:
    if (len(address) - start) % 4:
        return None
    try:
        header = read_header(pybase64.b64decode(memoryview(address)[start:], validate=True))
    except (ValueError, ImageError):
        return None
    if header.mime_type != mime_type or header.trailing > 0 or header.notes:
        return None
    return digest_of(address)


Reader = Callable[[Any, bool], Table]

READERS: tuple[tuple[Any, Reader, Format], ...] = (
    (PromptCompletion, read_prompt_completion, "prompt_completion"),
    (Chat, read_chat, "chat"),
    (PartsChat, read_parts_chat, "chat"),
    (GenerateText, read_generate_text, "generate_content"),
    (GenerateContent, read_generate_content, "generate_content"),
)
"""Type of line, its reader, its format."""
