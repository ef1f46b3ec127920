"""Examples, right and defective, as each format writes them."""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDACgcHiMeGSgjISMtKygwPGRBPDc3PHtYXUlkkYCZlo+AjIqgtObDoKrarYqMyP/L2u71////m8H////6"
    "/+b9//j/wAALCAAQABABAREA/8QAFgABAQEAAAAAAAAAAAAAAAAAAgED/8QAJBAAAgEBBgcAAAAAAAAAAAAAAQIRABIhIjFBcQNCUWGB0fH/2gAI"
    "AQEAAD8AjoDiKkFjOdoxfr091o8IsLFmSJ5T331oMrMFQlCYJJA0nfaks8NLQJwtF2KSDll5+V//2Q=="
)
WEBP = base64.b64decode("UklGRh4AAABXRUJQVlA4TBEAAAAvA8AAAAdQjyLXo/+BiOh/AAA=")
WEBP_LOSSY = base64.b64decode("UklGRjAAAABXRUJQVlA4ICQAAABwAQCdASoEAAQACQCsJaACdAFAAAD+4LkJj0Vr+1PsI78AEAA=")
EXIF_GPS = b"II*\0\x08\0\0\0\x01\0\x25\x88\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0"
EXIF_TURNED = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"


@dataclass(frozen=True, slots=True)
class Picture:
    """An image part: an address, or bytes with their declared type."""

    uri: str = ""
    data: bytes = b""
    declared: str = "image/jpeg"


Turn = tuple[Any, Any]
"""Role as written (`answer` stands for the format's own), and a text, or a list of texts and pictures."""


class Format(ABC):
    """One way to write an example."""

    name = ""
    turns_key = ""
    answer = "assistant"

    @abstractmethod
    def body(self, turns: list[Turn], system: str | None = None) -> dict[str, Any] | None:
        """Return the object of a line; None if the format has no place for it."""

    def role(self, role: Any) -> Any:
        return self.answer if role == "answer" else role


class Pair(Format):
    name = "prompt_completion"

    def body(self, turns: list[Turn], system: str | None = None) -> dict[str, Any] | None:
        if system is not None or [role for role, _ in turns] != ["user", "answer"]:
            return None
        if any(isinstance(content, list) for _, content in turns):
            return None
        return {"prompt": turns[0][1], "completion": turns[1][1]}


class Chat(Format):
    name = "chat"
    turns_key = "messages"

    def body(self, turns: list[Turn], system: str | None = None) -> dict[str, Any] | None:
        first = [{"role": "system", "content": system}] if system is not None else []
        return {"messages": first + [{"role": self.role(role), "content": self._content(it)} for role, it in turns]}

    def _content(self, content: Any) -> Any:
        return [self._part(part) for part in content] if isinstance(content, list) else content

    def _part(self, part: Any) -> Any:
        if not isinstance(part, Picture):
            return {"type": "text", "text": part}
        url = part.uri or f"data:{part.declared};base64,{base64.b64encode(part.data).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}


class ChatParts(Chat):
    """Chat whose texts are written as parts too."""

    name = "chat_parts"

    def _content(self, content: Any) -> Any:
        return super()._content(content if isinstance(content, list) else [content])


class Generate(Format):
    """GenerateContent; `snake` chooses the spelling."""

    turns_key = "contents"

    def __init__(self, name: str, *, snake: bool, answer: str = "model") -> None:
        self.name, self.snake, self.answer = name, snake, answer

    def key(self, snake: str) -> str:
        first, *rest = snake.split("_")
        return snake if self.snake else first + "".join(map(str.capitalize, rest))

    def body(self, turns: list[Turn], system: str | None = None) -> dict[str, Any] | None:
        body: dict[str, Any] = {}
        if system is not None:
            body[self.key("system_instruction")] = {"parts": [{"text": system}]}
        body["contents"] = [
            {"role": self.role(role), "parts": [self._part(part) for part in (it if isinstance(it, list) else [it])]}
            for role, it in turns
        ]
        return body

    def _part(self, part: Any) -> Any:
        if not isinstance(part, Picture):
            return {"text": part}
        if part.uri:
            value = {self.key("mime_type"): part.declared, self.key("file_uri"): part.uri}
            return {self.key("file_data"): value}
        data = base64.b64encode(part.data).decode()
        return {self.key("inline_data"): {self.key("mime_type"): part.declared, "data": data}}


FORMATS: tuple[Format, ...] = (
    Pair(),
    Chat(),
    ChatParts(),
    Generate("generate_camel", snake=False),
    Generate("generate_snake", snake=True, answer="assistant"),
)
Line = Callable[[Format], Any]
"""Makes the defective line of a format: an object, or bytes; None where the format cannot say it."""


def good(form: Format, number: int, picture: Picture | None = None) -> Any:
    question: Any = [f"What is {number}?", picture] if picture else f"What is {number}?"
    return form.body([("user", question), ("answer", f"The number {number}.")])


def encoded(line: Any) -> bytes:
    return line if isinstance(line, bytes) else json.dumps(line).encode()


def text(value: Any) -> Line:
    """A defect that is in a text: in the question here, in the answer in every second format."""

    def line(form: Format) -> Any:
        if FORMATS.index(form) % 2:
            return form.body([("user", "Why?"), ("answer", value)])
        return form.body([("user", value), ("answer", "Because.")])

    return line


def raw(change: Callable[[bytes], bytes]) -> Line:
    """A defect of the bytes of a line."""
    return lambda form: change(encoded(good(form, 77)))


def twice(line: bytes) -> bytes:
    """Return a line whose first key is there once more."""
    key, value = next(iter(json.loads(line).items()))
    return line[:-1] + b", " + encoded({key: value})[1:]


def turns(*given: Turn, system: str | None = None) -> Line:
    return lambda form: form.body(list(given), system)


def shape(change: Callable[[dict[str, Any], list[Any]], Any]) -> Line:
    """A defect of the object of formats with turns: `change` gets it and its list of turns."""

    def line(form: Format) -> Any:
        body = good(form, 77)
        if not form.turns_key:
            return None
        changed = change(body, body[form.turns_key])
        return body if changed is None else changed

    return line


def only(names: str, line: Line) -> Line:
    """Keep a defect to some formats, by the beginnings of their names."""
    return lambda form: line(form) if form.name.startswith(tuple(names.split())) else None


def picture(uri: str = "", data: bytes = b"", declared: str = "image/jpeg") -> Line:
    return turns(("user", ["Look.", Picture(uri, data, declared)]), ("answer", "A cat."))


def content_key(turn: dict[str, Any]) -> str:
    return "content" if "content" in turn else "parts"


def put(turn: dict[str, Any], **values: Any) -> None:
    turn.update(values)


def with_segment(kind: int, payload: bytes) -> bytes:
    """Return the JPEG with one more segment behind its first marker."""
    return JPEG[:2] + bytes((0xFF, kind)) + (len(payload) + 2).to_bytes(2, "big") + payload + JPEG[2:]


def first_part(turn: dict[str, Any]) -> dict[str, Any]:
    """Return the first part of a turn, which is made one where it is a plain text."""
    if isinstance(turn.get("content"), str):
        turn["content"] = [{"type": "text", "text": turn["content"]}]
    part: dict[str, Any] = turn[content_key(turn)][0]
    return part
