"""Lines of one documented format as lines of another, texts carried over as they are written: no escape is undone.

Only what is certainly right is reshaped: the decoder takes the line, its keys are there once each, its turns are in
order, and its texts are not empty. Everything else `reshape` leaves to the exact parser, which gives the same line,
perhaps with its escapes written otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pybase64
from msgspec import Raw, UnsetType

from runner.datasets.examples import Format, Message, TextPart
from runner.datasets.images import MIME_TYPES, ImageError, read_header
from runner.datasets.parsing import PLACEHOLDERS, parse_line
from runner.datasets.raw_lines import WRITERS, Part, Piece, Turn, UnsureError
from runner.datasets.raw_shapes import (
    RawChat,
    RawContents,
    RawPair,
    RawPart,
    RawPartsChat,
    RawText,
    RawTextContent,
    RawTextContents,
    RawTextInstruction,
)
from runner.datasets.writing import NotExpressibleError, to_line

_SURE_BYTES = 12
"""Longer than any placeholder."""
_MAX_LAYOUTS = 1000


_Texts = tuple[tuple[str, ...], list[bytes]]
"""Roles as they are written, and the JSON strings of the turns."""
_MARK = "\0"
"""Stands for a text in the line that a layout is made of."""
_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_ERRORS = (msgspec.MsgspecError, ValueError, RecursionError, UnsureError)


@dataclass(slots=True)
class _Layout:
    """What stands around the texts of lines with the same roles in the same order."""

    known: tuple[list[bytes], ...]
    """The line as programs usually write it, in pieces; every second piece is the place of a text."""
    written: list[bytes] | None
    """The same of the line to write; None if the format cannot say it."""
    strings: int


class Reshaper:
    """Writes lines in a format."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._write = WRITERS[form]
        self._layouts: dict[tuple[Any, ...], _Layout | None] = {}
        self._readers: list[tuple[Callable[[bytes], Any], Callable[[Any, bytes], list[Piece]]]] = [
            (msgspec.json.Decoder(RawPair).decode, self._texts_of(_read_pair)),
            (msgspec.json.Decoder(RawChat).decode, self._texts_of(_read_chat)),
            (msgspec.json.Decoder(RawTextContents).decode, self._texts_of(_read_text_contents)),
            (msgspec.json.Decoder(RawPartsChat).decode, self._parts_of(_read_parts_chat)),
            (msgspec.json.Decoder(RawContents).decode, self._parts_of(_read_contents)),
        ]

    def reshape(self, line: bytes) -> list[Piece] | None:
        """Return the pieces of the line in the other format, with its line end; None to ask the exact parser.

        Args:
            line: of any documented format, without its line end.
        """
        for index, (decode, read) in enumerate(self._readers):
            try:
                pieces = read(decode(line), line)
            except _ERRORS:
                continue
            if index:  # the next line is most likely written in the same way
                self._readers.insert(0, self._readers.pop(index))
            return pieces
        return None

    def _texts_of(self, read: Callable[[Any], _Texts]) -> Callable[[Any, bytes], list[Piece]]:
        def pieces(body: Any, line: bytes) -> list[Piece]:
            roles, texts = read(body)
            try:
                layout = self._layouts[roles]
            except KeyError:
                if len(self._layouts) >= _MAX_LAYOUTS:
                    self._layouts.clear()
                layout = self._layouts[roles] = _layout(roles, self._form)
            if layout is None or layout.written is None:
                raise UnsureError
            for known in layout.known:
                known[1::2] = texts
                # If the whole line is these keys and texts, none is there twice.
                if b"".join(known) == line:
                    if not line.isascii():
                        line.decode()
                    break
            else:
                if not _is_sound(line, layout.strings):
                    raise UnsureError
            made: list[Piece] = [*layout.written]
            made[1::2] = texts
            return made

        return pieces

    def _parts_of(self, read: Callable[[Any], tuple[list[Turn], int]]) -> Callable[[Any, bytes], list[Piece]]:
        def pieces(body: Any, line: bytes) -> list[Piece]:
            turns, strings = read(body)
            if not _is_sound(line, strings, turns):
                raise UnsureError
            return self._write(turns)

        return pieces


def _layout(roles: tuple[str, ...], form: Format) -> _Layout | None:
    """Return the layout of lines with these roles; None if they are no example."""
    kind, *spelled = roles
    body: dict[str, Any]
    if kind == "prompt":
        body = {"prompt": _MARK, "completion": _MARK}
    elif kind == "messages":
        body = {"messages": [{"role": role, "content": _MARK} for role in spelled]}
    else:
        body = {kind: {"parts": [{"text": _MARK}]}} if kind != "contents" else {}
        body["contents"] = [{"role": role, "parts": [{"text": _MARK}]} for role in spelled]
    text = json.dumps(body)
    # The exact parser knows the roles; a control character is not what it shall complain of.
    parsed = parse_line(text.replace(r"\u0000", "a text"), 1)
    if parsed.example is None:
        return None
    marked = tuple(Message(message.role, (TextPart(_MARK),)) for message in parsed.example.messages)
    try:
        written = _template(to_line(replace(parsed.example, messages=marked), form))
    except NotExpressibleError:
        written = None
    styles = ((", ", ": "), (",", ":"))
    known = tuple(_template(json.dumps(body, separators=style).encode()) for style in styles)
    return _Layout(known, written, text.count('"') // 2)


def _template(line: bytes) -> list[bytes]:
    fixed = line.split(rb'"\u0000"')
    template = [b""] * (2 * len(fixed) - 1)
    template[::2] = fixed
    return template


def _is_sound(line: bytes, strings: int, turns: Sequence[Turn] = ()) -> bool:
    """Tell whether a line has no more strings than its keys and values, and is UTF-8."""
    quotes = position = 0
    for image in (part[1] for _, parts in turns for part in parts if isinstance(part, tuple)):
        # No quote is in an image, and most of the line is.
        start = line.index(bytes(image[:64]), position)
        quotes += line.count(b'"', position, start)
        position = start + len(image)
    quotes += line.count(b'"', position)
    if b"\\" in line:
        # A string that ends with a backslash would make the count too low, and make up for a key that is there twice.
        if b'\\\\"' in line:
            return False
        quotes -= line.count(b'\\"')
    if quotes != 2 * strings:
        return False
    if not line.isascii():
        line.decode()
    return True


def _text(raw: Raw) -> bytes:
    """Return a string that is neither empty nor a placeholder."""
    text = bytes(raw)
    # Long, and with a plain letter at either end, so that nothing of its length is white space.
    if (
        len(text) >= _SURE_BYTES + 2
        and text[0] == 0x22
        and 0x21 <= text[1] <= 0x7E
        and 0x21 <= text[-2] <= 0x7E
        and b"\\" not in text[-7:-1]
        and text[1] != 0x5C
    ):
        return text
    value = _decode_text(text).strip()
    if not value or value.lower() in PLACEHOLDERS:
        raise UnsureError
    return text


def _image(mime_type: bytes, data: memoryview) -> tuple[bytes, memoryview]:
    try:
        header = read_header(pybase64.b64decode(data, validate=True))
    except (ValueError, ImageError) as error:
        raise UnsureError from error
    if header.mime_type.encode() != mime_type:
        raise UnsureError
    return mime_type, data


_PREFIXES = tuple((kind.encode(), f'"data:{kind};base64,'.encode()) for kind in MIME_TYPES)


def _data_url(raw: Raw) -> tuple[bytes, memoryview]:
    view = memoryview(raw)
    for mime_type, prefix in _PREFIXES:
        if view[: len(prefix)] == prefix:
            return _image(mime_type, view[len(prefix) : -1])
    raise UnsureError


def _read_pair(body: RawPair) -> _Texts:
    return ("prompt",), [_text(body.prompt), _text(body.completion)]


def _read_chat(body: RawChat) -> _Texts:
    turns = body.messages
    return ("messages", *[turn.role for turn in turns]), [_text(turn.content) for turn in turns]


def _read_text_contents(body: RawTextContents) -> _Texts:
    name = "contents"
    turns: list[RawTextContent | RawTextInstruction] = [*body.contents]
    for key, instruction in (
        ("systemInstruction", body.systemInstruction),
        ("system_instruction", body.system_instruction),
    ):
        if not isinstance(instruction, UnsetType):
            if name != "contents":
                raise UnsureError
            name = key
            turns.insert(0, instruction)
    texts = []
    for turn in turns:
        if len(turn.parts) != 1:
            raise UnsureError
        texts.append(_text(turn.parts[0].text))
    return (name, *[turn.role for turn in body.contents]), texts


def _read_parts_chat(body: RawPartsChat) -> tuple[list[Turn], int]:
    turns: list[Turn] = []
    strings = 1
    for turn in body.messages:
        if isinstance(turn.content, str):
            turns.append((turn.role, [_text(Raw(_encode(turn.content)))]))
            strings += 4
            continue
        parts: list[Part] = []
        strings += 3
        for part in turn.content:
            if isinstance(part, RawText):
                parts.append(_text(part.text))
                strings += 4
            else:
                parts.append(_data_url(part.image_url.url))
                strings += 5
        turns.append((turn.role, parts))
    return _ordered(turns), strings


def _read_contents(body: RawContents) -> tuple[list[Turn], int]:
    turns: list[Turn] = []
    strings = 1
    instruction = body.systemInstruction
    if isinstance(instruction, UnsetType):
        instruction = body.system_instruction
    elif not isinstance(body.system_instruction, UnsetType):
        raise UnsureError
    if not isinstance(instruction, UnsetType):
        parts, count = _read_parts(instruction.parts)
        turns.append(("system", parts))
        strings += 2 + count
    for content in body.contents:
        parts, count = _read_parts(content.parts)
        turns.append(("user" if content.role == "user" else "assistant", parts))
        strings += 3 + count
    return _ordered(turns), strings


def _read_parts(given: list[RawPart]) -> tuple[list[Part], int]:
    parts: list[Part] = []
    strings = 0
    for part in given:
        inline = part.inline_data if isinstance(part.inlineData, UnsetType) else part.inlineData
        if not isinstance(part.text, UnsetType):
            if not isinstance(part.inline_data, UnsetType) or not isinstance(part.inlineData, UnsetType):
                raise UnsureError
            parts.append(_text(part.text))
            strings += 2
            continue
        if isinstance(inline, UnsetType) or not isinstance(part.inline_data, UnsetType | type(inline)):
            raise UnsureError
        mime_type = inline.mime_type if isinstance(inline.mimeType, UnsetType) else inline.mimeType
        view = memoryview(inline.data)
        if not isinstance(mime_type, str) or bytes(view[:1]) != b'"':
            raise UnsureError
        parts.append(_image(mime_type.encode(), view[1:-1]))
        strings += 5
    return parts, strings


def _ordered(turns: list[Turn]) -> list[Turn]:
    """Return the turns if an optional system turn, then user and assistant by turns, ending with the assistant."""
    start = 1 if turns and turns[0][0] == "system" else 0
    if len(turns) - start < 2 or (len(turns) - start) % 2:
        raise UnsureError
    for index, (role, parts) in enumerate(turns):
        expected = "system" if index < start else "assistant" if (index - start) % 2 else "user"
        if role != expected or not parts:
            raise UnsureError
        if role != "user" and any(isinstance(part, tuple) for part in parts):
            raise UnsureError
    return turns
