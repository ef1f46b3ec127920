"""One table of defects: each is found with its code at its line in every format that it can be written in.

A file of each format holds good lines around the defect, so that the line number says something. Whatever else is found
there must be listed too: a defect that sets off three findings would hide the other defects of a file.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.catalog import find_model
from runner.datasets.checking.compiled import CompiledReader
from runner.datasets.checks import check_files
from runner.datasets.examples import Finding
from runner.datasets.reading import native
from runner.datasets.reading.lines import RawLine
from runner.datasets.rules import images
from runner.datasets.rules.parsing import parse_raw
from tests.datasets.examples import png

TEXT_ONLY = find_model("meta/llama3_1@llama-3.1-8b-instruct")
WITH_IMAGES = find_model("meta/llama4@llama-4-scout-17b-16e-instruct")
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


class Format:
    """One way to write an example."""

    name = ""
    turns_key = ""
    answer = "assistant"

    def body(self, turns: list[Turn], system: str | None = None) -> dict[str, Any] | None:
        """Return the object of a line; None if the format has no place for it."""
        raise NotImplementedError

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


SCAN = JPEG.index(b"\xff\xda") + 12
Q, A = ("user", "What is 77?"), ("answer", "The number 77.")

DEFECTS: dict[str, tuple[str, Line]] = {
    # Bytes and JSON.
    "object cut short": ("invalid-json", raw(lambda line: line[:-1])),
    "line cut in the middle": ("invalid-json", raw(lambda line: line[: len(line) // 2])),
    "trailing comma": ("invalid-json", raw(lambda line: line[:-1] + b",}")),
    "single quotes": ("invalid-json", raw(lambda line: line.replace(b'"', b"'"))),
    "two objects on a line": ("invalid-json", raw(lambda line: line + b" " + line)),
    "garbage behind the object": ("invalid-json", raw(lambda line: line + b" // done")),
    "raw control in a string": ("invalid-json", raw(lambda line: line.replace(b"What", b"Wh\x01t"))),
    "raw tab in a string": ("invalid-json", raw(lambda line: line.replace(b"What", b"Wh\tt"))),
    "unknown escape": ("invalid-json", raw(lambda line: line.replace(b"What", rb"Wh\x41t"))),
    "comment": ("invalid-json", raw(lambda line: b"/* 77 */ " + line)),
    "Python's None": ("invalid-json", raw(lambda line: line[:-1] + b', "id": None}')),
    "Python's True": ("invalid-json", raw(lambda line: line[:-1] + b', "ok": True}')),
    "key without quotes": ("invalid-json", raw(lambda line: line[:-1] + b", id: 3}")),
    "separator of CSV": ("invalid-json", raw(lambda line: b"What is 77?;The number 77.")),
    "array": ("not-an-object", raw(lambda line: b"[" + line + b"]")),
    "string": ("not-an-object", raw(lambda line: json.dumps(line.decode()).encode())),
    "number": ("not-an-object", raw(lambda line: b"77")),
    "null": ("not-an-object", raw(lambda line: b"null")),
    "boolean": ("not-an-object", raw(lambda line: b"true")),
    "NaN": ("not-a-number", raw(lambda line: line[:-1] + b', "weight": NaN}')),
    "Infinity": ("not-a-number", raw(lambda line: line[:-1] + b', "weight": Infinity}')),
    "minus Infinity": ("not-a-number", raw(lambda line: line[:-1] + b', "weight": -Infinity}')),
    "key twice, outside": ("duplicate-key", raw(twice)),
    "key twice, escaped": (
        "duplicate-key",
        lambda form: (
            raw(
                lambda line: (
                    line[:-1]
                    + (b', "\\u006d' if form.name.startswith("chat") else b', "\\u0063').join([b"", b""])
                    + line.split(b'"')[1][1:]
                    + b'": []}'
                )
            )(form)
            if form.turns_key
            else b'{"prompt": "a", "\\u0070rompt": "c", "completion": "b"}'
        ),
    ),
    "key twice, within": (
        "duplicate-key",
        lambda form: (
            encoded(good(form, 77)).replace(b'"role": "user"', b'"role": "user", "role": "user"', 1)
            if form.turns_key
            else None
        ),
    ),
    "lone surrogate": ("lone-surrogate", raw(lambda line: line.replace(b"What", rb"Wh\ud800t"))),
    "lone low surrogate": ("lone-surrogate", raw(lambda line: line.replace(b"What", rb"Wh\udc41t"))),
    "surrogates in the wrong order": ("lone-surrogate", raw(lambda line: line.replace(b"What", rb"\udc00\ud83d"))),
    "number of 5000 digits": ("number-too-long", raw(lambda line: line[:-1] + b', "id": ' + b"9" * 5000 + b"}")),
    "nested 100 levels": ("too-deep", raw(lambda line: line[:-1] + b', "x": ' + b"[" * 100 + b"]" * 100 + b"}")),
    "nested 100 000 levels": (
        "too-deep",
        raw(lambda line: line[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ),
    "invalid UTF-8": ("not-utf8", raw(lambda line: line.replace(b"What", b"Wh\xfft"))),
    "Latin-1": ("not-utf8", raw(lambda line: line.replace(b"What", "Zoë".encode("latin-1")))),
    "surrogate in UTF-8": ("not-utf8", raw(lambda line: line.replace(b"What", b"\xed\xa0\x80"))),
    "overlong UTF-8": ("not-utf8", raw(lambda line: line.replace(b"What", b"\xc0\xaf"))),
    "UTF-8 cut short": ("not-utf8", raw(lambda line: line.replace(b"What", b"\xe2\x82"))),
    "raw NUL": ("nul-byte", raw(lambda line: line.replace(b"What", b"Wh\0t"))),
    "line of UTF-16": ("nul-byte", raw(lambda line: line.decode().encode("utf-16-le"))),
    "byte order mark in the middle": ("invalid-json", raw(lambda line: b"\xef\xbb\xbf" + line)),
    # The object.
    "empty object": ("unknown-format", lambda form: {}),
    "keys of another tool": ("unknown-format", lambda form: {"instruction": "a", "output": "b"}),
    "first key misspelt": (
        "unknown-format",
        shape(lambda body, turns: {"mesages" if "messages" in body else "content_s": turns}),
    ),
    "both keys misspelt": ("unknown-format", only("prompt", lambda form: {"promt": "a", "compleation": "b"})),
    "completion missing": ("missing-key", only("prompt", lambda form: {"prompt": "a"})),
    "prompt missing": ("missing-key", only("prompt", lambda form: {"completion": "b"})),
    "completion misspelt": (
        "missing-key, unknown-key",
        only("prompt", lambda form: {"prompt": "a", "completions": "b"}),
    ),
    "extra key": ("unknown-key", raw(lambda line: line[:-1] + b', "id": 4}')),
    "list of turns is an object": ("wrong-type", shape(lambda body, turns: {next(iter(body)): {"role": "user"}})),
    "list of turns is a string": ("wrong-type", shape(lambda body, turns: {next(iter(body)): "What?"})),
    "list of turns is null": ("wrong-type", shape(lambda body, turns: {next(iter(body)): None})),
    "no turns": ("empty-list", shape(lambda body, turns: turns.clear())),
    "turn is a string": ("wrong-type", shape(lambda body, turns: turns.__setitem__(0, "What?"))),
    "turn is null": ("wrong-type", shape(lambda body, turns: turns.__setitem__(1, None))),
    # Roles and their order.
    "role missing": ("missing-key", shape(lambda body, turns: turns[0].pop("role") and None)),
    "role misspelt": ("missing-key, unknown-key", shape(lambda body, turns: put(turns[0], rol=turns[0].pop("role")))),
    "role is a number": ("wrong-type", shape(lambda body, turns: put(turns[0], role=1))),
    "role is null": ("wrong-type", shape(lambda body, turns: put(turns[1], role=None))),
    "role human": ("unknown-role", turns(("human", "What?"), A)),
    "role with a capital": ("unknown-role", turns(("User", "What?"), A)),
    "role with a space": ("unknown-role", turns(("user ", "What?"), A)),
    "role tool": ("unknown-role", turns(Q, ("tool", "77"), A)),
    "role function": ("unknown-role", turns(Q, ("function", "77"), A)),
    "role model in a chat": ("unknown-role", only("chat", turns(Q, ("model", "77")))),
    "role system among the contents": ("unknown-role", only("generate", turns(("system", "Be brief."), Q, A))),
    "terminal escape in a role": ("unknown-role", turns(("\x1b[31muser", "What?"), A)),
    "system late": ("system-not-first", only("chat", turns(Q, ("system", "Be brief."), A))),
    "system twice": ("system-not-first", only("chat", turns(("system", "a"), ("system", "b"), Q, A))),
    "two questions in a row": ("role-order", turns(Q, Q, A)),
    "two answers in a row": ("role-order", turns(Q, A, A)),
    "answer first": ("role-order", turns(A, Q, A)),
    "no answer": ("no-answer", turns(Q)),
    "only a system turn": ("no-answer", only("chat", turns(("system", "Be brief.")))),
    "ends with a question": ("last-turn", turns(Q, A, Q)),
    # Contents.
    "content missing": ("missing-key", shape(lambda body, turns: turns[0].pop(content_key(turns[0])) and None)),
    "text is null": ("wrong-type", text(None)),
    "text is a number": ("wrong-type", text(7)),
    "text is a boolean": ("wrong-type", text(True)),
    "text is an object": ("wrong-type", only("prompt chat_parts generate", text({"text": "a"}))),
    "content is an object": ("wrong-type", only("chat", shape(lambda body, turns: put(turns[0], content={})))),
    "parts are a string": ("wrong-type", only("generate", shape(lambda body, turns: put(turns[0], parts="What?")))),
    "no parts": ("empty-list", shape(lambda body, turns: put(turns[0], **{content_key(turns[0]): []}))),
    "part is a string": ("wrong-type", shape(lambda body, turns: put(turns[0], **{content_key(turns[0]): ["Why?"]}))),
    "part without its text": (
        "missing-key",
        only("chat", shape(lambda body, turns: first_part(turns[0]).pop("text") and None)),
    ),
    "part with nothing": ("unknown-part", shape(lambda body, turns: first_part(turns[0]).clear())),
    "part of an unknown kind": (
        "unknown-part",
        only("chat", shape(lambda body, turns: put(first_part(turns[0]), type="input_audio"))),
    ),
    "function call": (
        "unknown-part",
        only("generate", shape(lambda body, turns: put(turns[0], parts=[{"functionCall": {"name": "f"}}]))),
    ),
    "part with two contents": (
        "unknown-part",
        only("generate", shape(lambda body, turns: put(first_part(turns[0]), inline_data={}))),
    ),
    "extra key in a turn": ("unknown-key", shape(lambda body, turns: put(turns[1], weight=1))),
    "extra key in a part": ("unknown-key", shape(lambda body, turns: put(first_part(turns[0]), annotations=1))),
    "system instruction is a string": (
        "wrong-type",
        lambda form: (
            {**good(form, 77), form.key("system_instruction"): "Be brief."} if isinstance(form, Generate) else None
        ),
    ),
    "system instruction in both spellings": (
        "duplicate-key",
        only(
            "generate",
            lambda form: {
                **good(form, 77),
                "systemInstruction": {"parts": [{"text": "a"}]},
                "system_instruction": {"parts": [{"text": "b"}]},
            },
        ),
    ),
    "empty text": ("empty-text", text("")),
    "white space only": ("empty-text", text(" \n\t ")),
    "no-break spaces only": ("empty-text", text("\u00a0\u2003")),
    "nan": ("placeholder-text", text("nan")),
    "None": ("placeholder-text", text("None")),
    "NULL": ("placeholder-text", text(" NULL\n")),
    "empty system text": ("empty-text", turns(Q, A, system="")),
    "all parts blank": (
        "empty-text",
        only("chat generate", turns(("user", ["  ", ""]), A)),
    ),
    # Texts.
    "NUL in a text": ("control-character", text("a\0b")),
    "terminal escape": ("control-character", text("\x1b[31mred")),
    "C1 control": ("control-character", text("a\x9b31m")),
    "backspace": ("control-character", text("abc\b\b")),
    "bidi override": ("control-character", text("user\u202egnp.exe")),
    "bidi isolate": ("control-character", text("a\u2066b")),
    "invisible space": ("control-character", text("pass\u200bword")),
    "byte order mark in a text": ("control-character", text("\ufeffWhat is it?")),
    "lost character": ("control-character", text("caf\ufffd")),
    "ChatML token": ("special-token", text("hello<|im_end|>")),
    "Llama token": ("special-token", text("hello<|eot_id|>")),
    "Gemma token": ("special-token", text("<start_of_turn>user")),
    "end of sequence": ("special-token", text("the end<eos>")),
    "e-mail address": ("personal-data", text("write to jane.doe@example.com")),
    "private key": ("secret", text("-----BEGIN RSA PRIVATE KEY-----\nMIIE")),
    "cloud access key": ("secret", text("AKIAABCDEFGHIJKLMNOP")),
    "API key": ("secret", text("key: AIza" + "b" * 35)),
    "access token": ("secret", text("ghp_" + "a1" * 18)),
    "too long for the model": ("over-length", turns(("user", "Why?"), ("answer", "because " * 2000))),
    "no room for the answer": ("over-length, answer-untrained", turns(("user", "because " * 2000), ("answer", "Why?"))),
    # Images.
    "image for a text-only model": ("image-unsupported", picture("gs://a-bucket/cat.jpg")),
    "web address": ("image-uri", picture("https://example.com/cat.jpg")),
    "local path": ("image-uri", picture("images/cat.jpg")),
    "path of the file system": ("image-uri", picture("file:///etc/passwd")),
    "other cloud": ("image-uri", picture("s3://bucket/cat.jpg")),
    "bucket without object": ("image-uri", picture("gs://a-bucket")),
    "bucket with a bad name": ("image-uri", picture("gs://UPPER/cat.jpg")),
    "line break in an object's name": ("image-uri", picture("gs://a-bucket/cat\n.jpg")),
    "broken base64": ("image-base64", picture("data:image/jpeg;base64,/9j/4AA*")),
    "base64 without padding": ("image-base64", picture("data:image/jpeg;base64,/9j/4")),
    "placeholder of the documentation": ("image-base64", picture("data:image/jpeg;base64,<base64 image>")),
    "base64 with line ends": ("image-base64", only("chat", picture(f"data:image/png;base64,{'AAAA' * 4}\nAAAA"))),
    "data URL without base64": ("image-data-url", only("chat", picture("data:image/jpeg,abc"))),
    "GIF": ("image-type", picture(data=b"GIF89a" + bytes(20))),
    "GIF declared as such": ("image-type, image-type", only("generate", picture(data=b"GIF89a", declared="image/gif"))),
    "SVG": ("image-type", picture(data=b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    "PDF": ("image-type", picture(data=b"%PDF-1.7")),
    "TIFF": ("image-type", picture(data=b"II*\0" + bytes(20))),
    "no bytes": ("image-type", picture(data=b"")),
    "video": ("image-type", only("generate", picture("gs://a-bucket/a.mp4", declared="video/mp4"))),
    "PNG declared as JPEG": ("image-mismatch", picture(data=png())),
    "JPEG cut short": ("image-truncated", picture(data=JPEG[:-20])),
    "JPEG without its end": ("image-truncated", picture(data=JPEG[:-2])),
    "JPEG of a header only": ("image-truncated", picture(data=JPEG[:20])),
    "JPEG with a corrupt scan": (
        "image-truncated",
        picture(data=JPEG[:SCAN] + b"\xff\x3c" * 8 + JPEG[SCAN + 16 :]),
    ),
    "JPEG without a scan": ("image-truncated", picture(data=JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9")),
    "PNG cut short": ("image-truncated", picture(data=png()[:-9], declared="image/png")),
    "PNG with a broken checksum": (
        "image-truncated",
        picture(data=png()[:45] + b"\0\1" + png()[47:], declared="image/png"),
    ),
    "PNG without pixels": (
        "image-truncated",
        picture(data=png()[:33] + png()[-12:], declared="image/png"),
    ),
    "PNG of 0 pixels": ("image-truncated", picture(data=png(0, 0), declared="image/png")),
    "WEBP cut short": ("image-truncated", picture(data=WEBP[:-4], declared="image/webp")),
    "WEBP with a broken chunk": (
        "image-truncated",
        picture(data=WEBP[:16] + b"\xff\xff\0\0" + WEBP[20:], declared="image/webp"),
    ),
    "PNG bomb": ("image-too-large", picture(data=png(20_000, 20_000), declared="image/png")),
    "polyglot": ("image-trailing", picture(data=JPEG + b"PK\x03\x04")),
    "photo that tells its place": ("personal-data", picture(data=with_segment(0xE1, b"Exif\0\0" + EXIF_GPS))),
    "photo that lies turned": ("image-orientation", picture(data=with_segment(0xE1, b"Exif\0\0" + EXIF_TURNED))),
    "animated PNG": (
        "image-animated",
        picture(
            data=png()[:33] + b"\0\0\0\x08acTL\0\0\0\x02\0\0\0\0" + b"\xf3\x8d\x93\x70" + png()[33:],
            declared="image/png",
        ),
    ),
    "too many images": (
        "many-images",
        turns(("user", ["Look.", *(Picture(f"gs://a-bucket/{number}.jpg") for number in range(6))]), A),
    ),
    "image in an answer": ("image-place", turns(Q, ("answer", ["See:", Picture("gs://a-bucket/cat.jpg")]))),
    "image of the system": ("image-place", only("chat", turns(("system", [Picture("gs://a-bucket/a.jpg")]), Q, A))),
    "image_url is a string": (
        "wrong-type",
        only(
            "chat", shape(lambda body, turns: put(turns[0], content=[{"type": "image_url", "image_url": "gs://b/a"}]))
        ),
    ),
    "url is missing": (
        "missing-key",
        only("chat", shape(lambda body, turns: put(turns[0], content=[{"type": "image_url", "image_url": {}}]))),
    ),
    "detail is unknown": (
        "image-detail",
        only(
            "chat",
            shape(
                lambda body, turns: put(
                    turns[0],
                    content=[{"type": "image_url", "image_url": {"url": "gs://a-bucket/a.png", "detail": "huge"}}],
                )
            ),
        ),
    ),
    "type of the file is missing": (
        "missing-key",
        only(
            "generate",
            shape(lambda body, turns: put(turns[0], parts=[{"file_data": {"file_uri": "gs://a-bucket/a.png"}}])),
        ),
    ),
    # Between lines: line 3 repeats or contradicts line 2.
    "the same example again": ("duplicate-example", lambda form: good(form, 2)),
    "the same example, written otherwise": (
        "duplicate-example",
        lambda form: encoded(good(form, 2)).replace(b"What", rb"Wh\u0061t").replace(b": ", b":  "),
    ),
    "the same question, another answer": (
        "conflicting-answers",
        lambda form: form.body([("user", "What is 2?"), ("answer", "Two.")]),
    ),
    "the same but for punctuation": (
        "near-duplicate",
        lambda form: form.body([("user", "what is  2"), ("answer", "The number 2!")]),
    ),
}
"""Name to the codes it sets off, the defect's own first, and the line."""


def found(findings: list[Finding]) -> list[tuple[str, int]]:
    return sorted((finding.code, finding.line) for finding in findings)


def lines_around(form: Format, line: Any, picture: Picture | None) -> bytes:
    before = [good(form, 1, picture), good(form, 2, picture)]
    after = [good(form, 4, picture), good(form, 5, picture)]
    return b"\n".join(map(encoded, [*before, line, *after])) + b"\n"


@pytest.mark.parametrize("name", DEFECTS)
def test_every_defect_is_found_at_its_line_in_every_format(name: str, tmp_path: Path) -> None:
    codes, make = DEFECTS[name]
    applied = 0
    for form in FORMATS:
        line = make(form)
        if line is None:
            continue
        applied += 1
        # With images among the examples, the text-only ones would be a finding of their own.
        pictured = re.search(rb'"(image_url|file_?[dD]ata|inline_?[dD]ata)"', encoded(line))
        example = Picture("gs://a-bucket/cat.jpg") if pictured and form.name != "prompt_completion" else None
        model = WITH_IMAGES if example else TEXT_ONLY
        if name == "image for a text-only model":
            model, example = TEXT_ONLY, None
        path = tmp_path / f"{form.name}.jsonl"
        path.write_bytes(lines_around(form, line, example))
        report = check_files(path, model=model, mode="PEFT_ADAPTER", near_duplicates=True, workers=1)
        assert found(report.findings) == sorted((code, 3) for code in codes.split(", ")), form.name
        assert all(finding.message for finding in report.findings)
        assert report.training.lines == 5
    assert applied


def test_the_table_is_long_enough_and_its_formats_differ() -> None:
    assert len(DEFECTS) >= 80
    everywhere = [name for name, (_, make) in DEFECTS.items() if all(make(form) is not None for form in FORMATS)]
    turning = [name for name, (_, make) in DEFECTS.items() if all(make(form) is not None for form in FORMATS[1:])]
    assert len(everywhere) >= 60
    assert len(turning) >= 120
    assert len({encoded(good(form, 1)) for form in FORMATS}) == len(FORMATS)


FILES: dict[str, tuple[str, int, Callable[[bytes, bytes], bytes]]] = {
    "gzip under the name of JSON Lines": ("decoded", 0, lambda lines, other: gzip.compress(lines)),
    "UTF-16": ("decoded", 0, lambda lines, other: lines.decode().encode("utf-16")),
    "zip": ("not-text", 1, lambda lines, other: b"PK\x03\x04" + lines),
    "Parquet": ("not-text", 0, lambda lines, other: b"PAR1" + lines),
    "PDF": ("not-text", 1, lambda lines, other: b"%PDF-1.7\n" + lines),
    "nothing": ("empty-file", 0, lambda lines, other: b""),
    "blank lines only": ("empty-file", 0, lambda lines, other: b"\n \r\n\n"),
    "byte order mark": ("byte-order-mark", 1, lambda lines, other: b"\xef\xbb\xbf" + lines),
    "two formats": ("mixed-formats", 0, lambda lines, other: lines + other),
    "JSON array over several lines": (
        "other-format",
        0,
        lambda lines, other: b"[\n" + lines.replace(b"\n", b",\n").rstrip(b",\n") + b"\n]\n",
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_defects_of_whole_files(name: str, tmp_path: Path) -> None:
    code, line, make = FILES[name]
    for form, other in zip(FORMATS, [FORMATS[1], *FORMATS[:1] * 4], strict=True):
        rows = b"".join(encoded(good(form, number)) + b"\n" for number in range(1, 5))
        path = tmp_path / f"{form.name}.jsonl"
        path.write_bytes(make(rows, encoded(good(other, 9)) + b"\n"))
        report = check_files(path)
        assert (code, line) in found(report.findings), form.name
        assert {finding.code for finding in report.findings} == {code}


def test_defects_of_two_files(tmp_path: Path) -> None:
    for form, other in zip(FORMATS, [FORMATS[1], *FORMATS[:1] * 4], strict=True):
        training, validation = tmp_path / "t.jsonl", tmp_path / "v.jsonl"
        training.write_bytes(b"".join(encoded(good(form, number)) + b"\n" for number in range(100)))
        validation.write_bytes(b"".join(encoded(good(form, number)) + b"\n" for number in (100, 7, 101)))
        assert found(check_files(training, validation).findings) == [("leakage", 2)]
        validation.write_bytes(b"".join(encoded(good(form, 100 + number)) + b"\n" for number in range(40)))
        assert found(check_files(training, validation).findings) == [("validation-too-large", 0)]
        validation.write_bytes(encoded(good(other, 200)) + b"\n")
        assert found(check_files(training, validation).findings) == [("mixed-formats", 0)]


MUST_REJECT = (
    "lone surrogate", "key twice, within", "key twice, outside", "NaN", "minus Infinity", "nested 100 000 levels",
    "invalid UTF-8", "raw NUL", "two objects on a line", "garbage behind the object", "array", "string",
)  # fmt: skip
"""With gzip, the thirteen kinds of files that other checkers let pass or fall over."""


def test_what_must_be_rejected_is_an_error_with_a_line(tmp_path: Path) -> None:
    assert len(MUST_REJECT) + 1 == 13
    for name in MUST_REJECT:
        path = tmp_path / "t.jsonl"
        path.write_bytes(lines_around(FORMATS[1], DEFECTS[name][1](FORMATS[1]), None))
        assert [finding.line for finding in check_files(path).errors] == [3], name
    # What is compressed is read through the decompressor, whatever its name.
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert [finding.line for finding in check_files(path).errors] == [3]


def harmless(form: Format) -> dict[str, bytes]:
    line = encoded(good(form, 3))
    rows = [encoded(good(form, 1)), encoded(good(form, 2)), line]
    first = form.body([("user", "What is 3?"), ("answer", "Où est l'été ? 🎉 你好 \u2028 \u200d x\u0301")])
    cases = {
        "blank lines": b"\n\n".join(rows) + b"\n \n",
        "CRLF": b"\r\n".join(rows) + b"\r\n",
        "no last line end": b"\n".join(rows),
        "other scripts, raw": json.dumps(first, ensure_ascii=False).encode() + b"\n",
        "other scripts, escaped": json.dumps(first).encode() + b"\n",
        "no spaces": json.dumps(good(form, 3), separators=(",", ":")).encode(),
        "spaces everywhere": json.dumps(good(form, 3), separators=(" , ", " : ")).encode() + b"  ",
        "keys in reverse order": json.dumps(dict(reversed(list(good(form, 3).items())))).encode(),
        "slashes escaped": line.replace(b"What", rb"\/What"),
        "words that look like keys": line.replace(b"What", rb"\"role\": \"prompt\""),
        "at signs that are no address": line.replace(b"What", b"@property a@b"),
        "the word nan within a text": line.replace(b"What", b"nan none null"),
        "angle brackets": line.replace(b"What", b"<div> <|x|> a < b"),
        "ten questions": b"\n".join(encoded(good(form, number)) for number in range(10)),
    }
    if form.turns_key:
        turns: list[Turn] = [("user", "a"), ("answer", "b"), ("user", "c"), ("answer", "d")]
        cases["several turns"] = encoded(form.body(turns, system="Be brief."))
        for name, data, kind in (
            ("JPEG", JPEG, "image/jpeg"),
            ("PNG", png(), "image/png"),
            ("WEBP", WEBP, "image/webp"),
            ("lossy WEBP", WEBP_LOSSY, "image/webp"),
        ):
            cases[name] = encoded(picture(data=data, declared=kind)(form))
        cases["object with an odd name"] = encoded(picture("gs://a-bucket/../é #?%2f.jpg")(form))
        cases["five images"] = encoded(form.body([("user", [Picture("gs://a-bucket/a.jpg")] * 5), A]))
    return cases


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_nothing_is_found_in_what_is_right(form: Format, tmp_path: Path) -> None:
    for name, data in harmless(form).items():
        path = tmp_path / "t.jsonl"
        path.write_bytes(data)
        report = check_files(path, model=WITH_IMAGES, near_duplicates=True)
        assert report.findings == [], name
        assert report.training.kept == report.training.lines > 0


def test_the_pictures_of_the_table_are_what_they_are_said_to_be() -> None:
    assert [images.read_header(data).mime_type for data in (JPEG, png(), WEBP, WEBP_LOSSY)] == [
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/webp",
    ]


_CLEAN = st.text(
    st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), exclude_characters="<@\u200b\u2060\ufeff\ufffd"),
    min_size=1,
    max_size=20,
).map(lambda text: f"x {text} y")
_CONVERSATIONS = st.tuples(
    st.none() | _CLEAN,
    st.integers(1, 4).flatmap(lambda n: st.lists(_CLEAN, min_size=2 * n, max_size=2 * n, unique=True)),
)


def spoken(form: Format, system: str | None, texts: list[str]) -> Any:
    return form.body([(("user", "answer")[index % 2], text) for index, text in enumerate(texts)], system)


@given(_CONVERSATIONS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_whatever_the_grammar_of_a_format_makes_is_right(conversation: Any, ascii_only: bool) -> None:
    system, texts = conversation
    for form in FORMATS:
        body = spoken(form, system, texts)
        if body is None:
            continue
        line = json.dumps(body, ensure_ascii=ascii_only).encode()
        parsed = parse_raw(RawLine(1, line))
        assert parsed is not None
        assert parsed.findings == ()
        assert parsed.example is not None
        assert [message.text for message in parsed.example.messages] == ([system] if system is not None else []) + texts
        if native.is_installed():
            found = CompiledReader(images=True, contents=False).scan(line)
            assert (found.index, found.doubtful) == ([0], []), "the compiled scanner says so too"


def _turns_of(form: Format, body: dict[str, Any]) -> list[Any]:
    return body[form.turns_key] if form.turns_key else []


MUTATIONS: dict[str, tuple[str, Callable[[Format, dict[str, Any], int], Any]]] = {
    "a turn loses its role": ("missing-key", lambda form, body, at: _turns_of(form, body)[at].pop("role")),
    "a role is another tool's": ("unknown-role", lambda form, body, at: put(_turns_of(form, body)[at], role="human")),
    "a role is a list": ("wrong-type", lambda form, body, at: put(_turns_of(form, body)[at], role=[])),
    "a turn is a number": ("wrong-type", lambda form, body, at: _turns_of(form, body).__setitem__(at, 7)),
    "a turn is there twice": (
        "role-order",
        lambda form, body, at: _turns_of(form, body).insert(at, _turns_of(form, body)[at]),
    ),
    "a turn has a key too many": ("unknown-key", lambda form, body, at: put(_turns_of(form, body)[at], weight=1)),
    "the object has a key too many": ("unknown-key", lambda form, body, at: put(body, id=1)),
    "a turn loses its content": (
        "missing-key",
        lambda form, body, at: _turns_of(form, body)[at].pop(content_key(_turns_of(form, body)[at])),
    ),
    "a text becomes white space": (
        "empty-text",
        lambda form, body, at: (
            put(body, completion=" \t")
            if not form.turns_key
            else put(first_part(_turns_of(form, body)[at]), text="\u3000")
        ),
    ),
    "a text becomes null": (
        "wrong-type",
        lambda form, body, at: (
            put(body, prompt=None) if not form.turns_key else put(first_part(_turns_of(form, body)[at]), text=None)
        ),
    ),
    "the last answer is missing": ("last-turn, no-answer", lambda form, body, at: _turns_of(form, body).pop()),
}


@given(_CONVERSATIONS, st.sampled_from(list(MUTATIONS)), st.data())
@settings(max_examples=100, deadline=None)
def test_one_mutation_of_what_is_right_gives_exactly_its_code(
    conversation: Any, name: str, data: st.DataObject
) -> None:
    system, texts = conversation
    codes, mutate = MUTATIONS[name]
    for form in FORMATS:
        body = spoken(form, system, texts)
        if body is None or (not form.turns_key and "turn" in name + codes.replace("last-turn", "turn")):
            continue
        if not form.turns_key and "role" in name:
            continue
        turns = _turns_of(form, body)
        at = data.draw(st.integers(0, len(turns) - 1)) if turns else 0
        if turns and turns[at]["role"] == "system":
            at += 1
        mutate(form, body, at)
        parsed = parse_raw(RawLine(1, json.dumps(body).encode()))
        assert parsed is not None
        assert [finding.code in codes.split(", ") for finding in parsed.findings] == [True], (form.name, body)
