"""Lines of datasets, good and broken, with the code and the place of each defect: the material of several tests."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any


def png(width: int = 2, height: int = 2) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\x00" + b"\x7f" * 3 * width for _ in range(min(height, 100)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def data_url(data: bytes, mime_type: str = "image/png") -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode()}"


SYSTEM = {"role": "system", "content": "You are brief."}
USER = {"role": "user", "content": "What is a car?"}
ASSISTANT = {"role": "assistant", "content": "A vehicle."}
G_USER = {"role": "user", "parts": [{"text": "What is a car?"}]}
G_MODEL = {"role": "model", "parts": [{"text": "A vehicle."}]}


def chat(*turns: Any) -> dict[str, Any]:
    return {"messages": list(turns)}


def image_turn(url: Any, **more: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": url, **more}}]
    return {"role": "user", "content": parts}


def contents(*turns: Any, **more: Any) -> dict[str, Any]:
    return {"contents": list(turns), **more}


def file_turn(mime_type: Any = "image/jpeg", uri: Any = "gs://a-bucket/a.jpg") -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": "Look."}, {"file_data": {"mime_type": mime_type, "file_uri": uri}}]}


GOOD: dict[str, Any] = {
    "prompt and completion": {"prompt": "What?", "completion": "That."},
    "chat": chat(USER, ASSISTANT),
    "chat with system": chat(SYSTEM, USER, ASSISTANT),
    "several turns": chat(SYSTEM, USER, ASSISTANT, USER, ASSISTANT),
    "content as parts": chat({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ASSISTANT),
    "image object": chat(image_turn("gs://a-bucket/x/é #1.jpg", detail="low"), ASSISTANT),
    "inline image": chat(image_turn(data_url(png())), ASSISTANT),
    "image before text": chat(
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "gs://a-bucket/a.png"}}]}, ASSISTANT
    ),
    "generate content, model": contents(G_USER, G_MODEL),
    "generate content, assistant": contents(G_USER, {**G_MODEL, "role": "assistant"}),
    "system instruction": contents(G_USER, G_MODEL, systemInstruction={"parts": [{"text": "Be brief."}]}),
    "system_instruction": contents(
        G_USER, G_MODEL, system_instruction={"role": "system", "parts": [{"text": "Be brief."}]}
    ),
    "file_data": contents(file_turn(), G_MODEL),
    "fileData": contents(
        {"role": "user", "parts": [{"fileData": {"mimeType": "image/webp", "fileUri": "gs://a-bucket/b.webp"}}]},
        G_MODEL,
    ),
    "inlineData": contents(
        {
            "role": "user",
            "parts": [{"inlineData": {"mimeType": "image/png", "data": base64.b64encode(png()).decode()}}],
        },
        G_MODEL,
    ),
    "line separator in a text": chat({"role": "user", "content": "one\u2028two"}, ASSISTANT),
}


BROKEN_TEXT: dict[str, tuple[str, str]] = {
    "cut": ('{"prompt": "a", "completion": "b"', "invalid-json"),
    "trailing comma": ('{"prompt": "a", "completion": "b",}', "invalid-json"),
    "single quotes": ("{'prompt': 'a', 'completion': 'b'}", "invalid-json"),
    "two objects": ('{"prompt": "a", "completion": "b"} {"prompt": "c"}', "invalid-json"),
    "garbage behind": ('{"prompt": "a", "completion": "b"} x', "invalid-json"),
    "raw control": ('{"prompt": "a\x01", "completion": "b"}', "invalid-json"),
    "bad escape": (r'{"prompt": "a\x", "completion": "b"}', "invalid-json"),
    "array": ('[{"prompt": "a", "completion": "b"}]', "not-an-object"),
    "string": ('"prompt"', "not-an-object"),
    "number": ("7", "not-an-object"),
    "null": ("null", "not-an-object"),
    "NaN": ('{"prompt": NaN, "completion": "b"}', "not-a-number"),
    "Infinity": ('{"prompt": "a", "completion": "b", "w": -Infinity}', "not-a-number"),
    "duplicate key": ('{"prompt": "a", "prompt": "c", "completion": "b"}', "duplicate-key"),
    "duplicate key within": (
        '{"messages": [{"role": "user", "role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}',
        "duplicate-key",
    ),
    "surrogate": (r'{"prompt": "a\ud800", "completion": "b"}', "lone-surrogate"),
    "long number": ('{"prompt": "a", "completion": "b", "n": ' + "9" * 5000 + "}", "number-too-long"),
    "deep": ('{"prompt": ' + "[" * 100 + "]" * 100 + ', "completion": "b"}', "too-deep"),
    "very deep": ('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}", "too-deep"),
}


BROKEN: dict[str, tuple[Any, str, str]] = {
    "no known key": ({"input": "a"}, "unknown-format", ""),
    "misspelt messages": ({"mesages": []}, "unknown-format", ""),
    "empty object": ({}, "unknown-format", ""),
    "no completion": ({"prompt": "a"}, "missing-key", ""),
    "no prompt": ({"completion": "a"}, "missing-key", ""),
    "misspelt completion": ({"prompt": "a", "completions": "b"}, "missing-key", ""),
    "prompt a number": ({"prompt": 1, "completion": "b"}, "wrong-type", "prompt"),
    "completion null": ({"prompt": "a", "completion": None}, "wrong-type", "completion"),
    "completion a list": ({"prompt": "a", "completion": ["b"]}, "wrong-type", "completion"),
    "empty prompt": ({"prompt": "", "completion": "b"}, "empty-text", "prompt"),
    "blank completion": ({"prompt": "a", "completion": " \n"}, "empty-text", "completion"),
    "nan": ({"prompt": "a", "completion": "nan"}, "placeholder-text", "completion"),
    "None": ({"prompt": "None", "completion": "b"}, "placeholder-text", "prompt"),
    "messages an object": ({"messages": {"role": "user"}}, "wrong-type", "messages"),
    "messages a string": ({"messages": "hi"}, "wrong-type", "messages"),
    "no messages": ({"messages": []}, "empty-list", "messages"),
    "message a string": (chat("hi", ASSISTANT), "wrong-type", "messages[0]"),
    "message null": (chat(None, ASSISTANT), "wrong-type", "messages[0]"),
    "no role": (chat({"content": "a"}, ASSISTANT), "missing-key", "messages[0]"),
    "no content": (chat({"role": "user"}, ASSISTANT), "missing-key", "messages[0]"),
    "role a number": (chat({"role": 3, "content": "a"}, ASSISTANT), "wrong-type", "messages[0].role"),
    "role human": (chat({"role": "human", "content": "a"}, ASSISTANT), "unknown-role", "messages[0].role"),
    "role User": (chat({"role": "User", "content": "a"}, ASSISTANT), "unknown-role", "messages[0].role"),
    "role model in chat": (chat(USER, {"role": "model", "content": "a"}), "unknown-role", "messages[1].role"),
    "role tool": (chat(USER, {"role": "tool", "content": "a"}), "unknown-role", "messages[1].role"),
    "content null": (chat(USER, {"role": "assistant", "content": None}), "wrong-type", "messages[1].content"),
    "content empty": (chat(USER, {"role": "assistant", "content": ""}), "empty-text", "messages[1].content"),
    "content no parts": (chat({"role": "user", "content": []}, ASSISTANT), "empty-list", "messages[0].content"),
    "system late": (chat(USER, SYSTEM, ASSISTANT), "system-not-first", "messages[1].role"),
    "two users": (chat(USER, USER, ASSISTANT), "role-order", "messages[1].role"),
    "two assistants": (chat(USER, ASSISTANT, ASSISTANT), "role-order", "messages[2].role"),
    "assistant first": (chat(ASSISTANT, USER, ASSISTANT), "role-order", "messages[0].role"),
    "no assistant": (chat(USER), "no-answer", "messages"),
    "only system": (chat(SYSTEM), "no-answer", "messages"),
    "ends with user": (chat(USER, ASSISTANT, USER), "last-turn", "messages[2].role"),
    "unknown part": (
        chat({"role": "user", "content": [{"type": "audio"}]}, ASSISTANT),
        "unknown-part",
        "messages[0].content[0].type",
    ),
    "part without type": (
        chat({"role": "user", "content": [{"text": "a"}]}, ASSISTANT),
        "unknown-part",
        "messages[0].content[0].type",
    ),
    "part a string": (chat({"role": "user", "content": ["a"]}, ASSISTANT), "wrong-type", "messages[0].content[0]"),
    "text part without text": (
        chat({"role": "user", "content": [{"type": "text"}]}, ASSISTANT),
        "missing-key",
        "messages[0].content[0]",
    ),
    "image_url a string": (
        chat({"role": "user", "content": [{"type": "image_url", "image_url": "gs://b/a.png"}]}, ASSISTANT),
        "wrong-type",
        "messages[0].content[0].image_url",
    ),
    "url a number": (chat(image_turn(4), ASSISTANT), "wrong-type", "messages[0].content[1].image_url.url"),
    "http image": (
        chat(image_turn("https://example.com/a.png"), ASSISTANT),
        "image-uri",
        "messages[0].content[1].image_url.url",
    ),
    "local image": (chat(image_turn("images/a.png"), ASSISTANT), "image-uri", "messages[0].content[1].image_url.url"),
    "file image": (
        chat(image_turn("file:///etc/passwd"), ASSISTANT),
        "image-uri",
        "messages[0].content[1].image_url.url",
    ),
    "gs without object": (
        chat(image_turn("gs://a-bucket"), ASSISTANT),
        "image-uri",
        "messages[0].content[1].image_url.url",
    ),
    "gs bad bucket": (chat(image_turn("gs://UP/a"), ASSISTANT), "image-uri", "messages[0].content[1].image_url.url"),
    "bad detail": (
        chat(image_turn("gs://a-bucket/a.png", detail="huge"), ASSISTANT),
        "image-detail",
        "messages[0].content[1].image_url.detail",
    ),
    "bad base64": (
        chat(image_turn("data:image/png;base64,<base64 image>"), ASSISTANT),
        "image-base64",
        "messages[0].content[1].image_url.url",
    ),
    "data url without base64": (
        chat(image_turn("data:image/png,abc"), ASSISTANT),
        "image-data-url",
        "messages[0].content[1].image_url.url",
    ),
    "a gif": (
        chat(image_turn(data_url(b"GIF89a" + b"\0" * 20, "image/gif")), ASSISTANT),
        "image-type",
        "messages[0].content[1].image_url.url",
    ),
    "an svg": (
        chat(image_turn(data_url(b"<svg/>", "image/png")), ASSISTANT),
        "image-type",
        "messages[0].content[1].image_url.url",
    ),
    "cut png": (
        chat(image_turn(data_url(png()[:-9])), ASSISTANT),
        "image-truncated",
        "messages[0].content[1].image_url.url",
    ),
    "corrupt png": (
        chat(image_turn(data_url(png()[:45] + b"\x00\x01" + png()[47:])), ASSISTANT),
        "image-truncated",
        "messages[0].content[1].image_url.url",
    ),
    "png bomb": (
        chat(image_turn(data_url(png(50_000, 50_000))), ASSISTANT),
        "image-too-large",
        "messages[0].content[1].image_url.url",
    ),
    "cut jpeg": (
        chat(image_turn(data_url(b"\xff\xd8\xff\xe0\x00\x10JFIF", "image/jpeg")), ASSISTANT),
        "image-truncated",
        "messages[0].content[1].image_url.url",
    ),
    "image of the assistant": (
        chat(USER, {**image_turn("gs://a-bucket/a.png"), "role": "assistant"}),
        "image-place",
        "messages[1]",
    ),
    "contents an object": ({"contents": {}}, "wrong-type", "contents"),
    "no contents": (contents(), "empty-list", "contents"),
    "no parts": (contents({"role": "user"}, G_MODEL), "missing-key", "contents[0]"),
    "parts a string": (contents({"role": "user", "parts": "a"}, G_MODEL), "wrong-type", "contents[0].parts"),
    "empty parts": (contents({"role": "user", "parts": []}, G_MODEL), "empty-list", "contents[0].parts"),
    "part with nothing": (
        contents({"role": "user", "parts": [{}]}, G_MODEL),
        "unknown-part",
        "contents[0].parts[0]",
    ),
    "part with two": (
        contents({"role": "user", "parts": [{"text": "a", "file_data": {}}]}, G_MODEL),
        "unknown-part",
        "contents[0].parts[0]",
    ),
    "empty text part": (
        contents({"role": "user", "parts": [{"text": ""}]}, G_MODEL),
        "empty-text",
        "contents[0].parts[0].text",
    ),
    "system in contents": (
        contents({"role": "system", "parts": [{"text": "a"}]}, G_USER, G_MODEL),
        "unknown-role",
        "contents[0].role",
    ),
    "instruction a string": (
        contents(G_USER, G_MODEL, systemInstruction="Be brief."),
        "wrong-type",
        "systemInstruction",
    ),
    "both spellings": (
        contents(
            G_USER,
            G_MODEL,
            systemInstruction={"parts": [{"text": "a"}]},
            system_instruction={"parts": [{"text": "b"}]},
        ),
        "duplicate-key",
        "",
    ),
    "video": (contents(file_turn("video/mp4"), G_MODEL), "image-type", "contents[0].parts[1].file_data.mime_type"),
    "no mime type": (
        contents({"role": "user", "parts": [{"file_data": {"file_uri": "gs://a-bucket/a.jpg"}}]}, G_MODEL),
        "missing-key",
        "contents[0].parts[0].file_data",
    ),
    "mime type a number": (contents(file_turn(5), G_MODEL), "wrong-type", "contents[0].parts[1].file_data.mime_type"),
    "http file": (
        contents(file_turn(uri="http://example.com/a.jpg"), G_MODEL),
        "image-uri",
        "contents[0].parts[1].file_data.file_uri",
    ),
    "generate content ends with user": (contents(G_USER, G_MODEL, G_USER), "last-turn", "contents[2].role"),
    "generate content two users": (contents(G_USER, G_USER, G_MODEL), "role-order", "contents[1].role"),
}


WARNED: dict[str, tuple[Any, str]] = {
    "extra key": ({"prompt": "a", "completion": "b", "id": 4}, "unknown-key"),
    "weight": (chat(USER, {**ASSISTANT, "weight": 1}), "unknown-key"),
    "NUL in a text": ({"prompt": "a\x00", "completion": "b"}, "control-character"),
    "terminal escape": ({"prompt": "\x1b[31mred", "completion": "b"}, "control-character"),
    "bidi override": ({"prompt": "\u202eabc", "completion": "b"}, "control-character"),
    "replacement character": ({"prompt": "caf\ufffd", "completion": "b"}, "control-character"),
    "declared otherwise": (chat(image_turn(data_url(png(), "image/jpeg")), ASSISTANT), "image-mismatch"),
    "polyglot": (chat(image_turn(data_url(png() + b"PK\x03\x04")), ASSISTANT), "image-trailing"),
}
