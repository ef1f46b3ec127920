"""Lines of each format from turns whose texts are JSON already: see `reshaping`."""

from __future__ import annotations

from collections.abc import Callable

from runner.datasets.examples import Format


class UnsureError(Exception):
    """The line is one for the exact parser."""


Piece = bytes | memoryview
Part = bytes | tuple[bytes, memoryview]
"""A JSON string, or the type and the base64 text of an image."""
Turn = tuple[str, list[Part]]


def _pair(turns: list[Turn]) -> list[Piece]:
    if len(turns) != 2 or len(turns[0][1]) != 1 or len(turns[1][1]) != 1:
        raise UnsureError
    (prompt,), (answer,) = turns[0][1], turns[1][1]
    if isinstance(prompt, tuple) or isinstance(answer, tuple):
        raise UnsureError
    return [b'{"prompt":', prompt, b',"completion":', answer, b"}\n"]


def _chat(turns: list[Turn]) -> list[Piece]:
    pieces: list[Piece] = []
    head = b'{"messages":[{"role":"'
    for role, parts in turns:
        pieces.append(head + role.encode() + b'","content":')
        if len(parts) == 1 and isinstance(parts[0], bytes):
            pieces.append(parts[0])
        else:
            opening = b"["
            for part in parts:
                if isinstance(part, tuple):
                    start = b'{"type":"image_url","image_url":{"url":"data:%b;base64,' % part[0]
                    pieces += (opening, start, part[1], b'"}}')
                else:
                    pieces += (opening, b'{"type":"text","text":', part, b"}")
                opening = b","
            pieces.append(b"]")
        head = b'},{"role":"'
    pieces.append(b"}]}\n")
    return pieces


def _contents(turns: list[Turn]) -> list[Piece]:
    pieces: list[Piece] = []
    head = b'{"contents":[{"role":"'
    for role, parts in turns:
        if role == "system":
            pieces.append(b'{"systemInstruction":{"parts":')
        else:
            pieces.append(head + (b"model" if role == "assistant" else b"user") + b'","parts":')
            head = b'},{"role":"'
        opening = b"["
        for part in parts:
            if isinstance(part, tuple):
                start = b'{"inline_data":{"mime_type":"%b","data":"' % part[0]
                pieces += (opening, start, part[1], b'"}}')
            else:
                pieces += (opening, b'{"text":', part, b"}")
            opening = b","
        pieces.append(b"]")
        if role == "system":
            pieces.append(b"}")
            head = b',"contents":[{"role":"'
    pieces.append(b"}]}\n")
    return pieces


WRITERS: dict[Format, Callable[[list[Turn]], list[Piece]]] = {
    "prompt_completion": _pair,
    "chat": _chat,
    "generate_content": _contents,
}
"""Return the pieces of a line with its line end. Raise UnsureError for what the format cannot say."""
