"""Datasets for benchmarks, generated from a seed."""

from __future__ import annotations

import ast
import base64
import itertools
import json
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOREIGN = (
    "Voilà un café très élégant à côté de la forêt. ",
    "Größe und Übermut. ",
    "これは日本語の例です。",
    "Привет, как дела? ",
)
KINDS = ("chat", "prompt_completion", "generate_content", "multimodal")

_FIRST = {
    "chat": b'"content": "',
    "prompt_completion": b'"prompt": "',
    "generate_content": b'"text": "',
    "multimodal": b'"text": "',
}
_MISSPELLED = {
    "chat": (b'"messages"', b'"role"'),
    "prompt_completion": (b'"prompt"', b'"completion"'),
    "generate_content": (b'"contents"', b'"role"'),
    "multimodal": (b'"messages"', b'"role"'),
}
"""Keys that a broken line may lack."""


def paragraphs(seed: int = 1) -> list[str]:
    """Return English prose and code from the documentation of the standard library.

    At signs are removed, because one line in fifteen would otherwise contain an author's email address and cause a
    finding.
    """
    draw = random.Random(seed)
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text("utf-8", "replace").replace("@", " ")
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        documented = (ast.FunctionDef, ast.ClassDef, ast.Module)
        texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
        found += [text for text in texts if len(text) > 120]
        if draw.random() < 0.3:
            found.append(source[:1500])
    return found


def jpeg(draw: random.Random, size: int) -> bytes:
    """Return the structure of a JPEG with about `size` bytes of random image data."""

    def segment(marker: int, body: bytes) -> bytes:
        return bytes((0xFF, marker)) + (len(body) + 2).to_bytes(2, "big") + body

    frame = segment(0xC0, b"\x08\x02\x00\x02\x00\x01\x01\x11\x00")
    scan = segment(0xDA, b"\x01\x01\x00\x00\x3f\x00") + draw.randbytes(size).replace(b"\xff", b"\xff\x00")
    header = b"\xff\xd8" + segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
    return header + segment(0xDB, bytes(65)) + frame + segment(0xC4, bytes(20)) + scan + b"\xff\xd9"


def lines(kind: str, *, broken: float = 0.0, seed: int = 2) -> Iterator[bytes]:
    """Yield examples without end; half of them escape all non-ASCII characters.

    A share of broken lines breaks some of the same lines, at equal distances, in three alternating ways.
    """
    draw = random.Random(seed)
    texts = paragraphs()

    def text() -> str:
        length, made = int(draw.lognormvariate(6.2, 1.1)), ""
        while len(made) < length:
            made += draw.choice(texts) if draw.random() < 0.95 else draw.choice(FOREIGN) * 5
        return made[: max(length, 20)].strip() or "text"

    for number in itertools.count(1):
        line = json.dumps(_body(kind, draw, text), ensure_ascii=draw.random() < 0.5).encode()
        count = int(number * broken)
        if count > int((number - 1) * broken):
            ways = (line[:-1], *(line.replace(key, key[:-2] + b'"', 1) for key in _MISSPELLED[kind]))
            line = ways[count % 3]
        yield line + b"\n"


def _body(kind: str, draw: random.Random, text: Any) -> dict[str, Any]:
    if kind == "prompt_completion":
        return {"prompt": text(), "completion": text()}
    system = draw.random() < 0.5
    pairs = draw.choice((1, 1, 1, 2, 3))
    if kind == "generate_content":
        turns = [{"role": role, "parts": [{"text": text()}]} for _ in range(pairs) for role in ("user", "model")]
        instruction = {"systemInstruction": {"parts": [{"text": "You are brief."}]}} if system else {}
        return {**instruction, "contents": turns}
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You are brief."}] if system else []
    for _ in range(1 if kind == "multimodal" else pairs):
        messages += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
    if kind == "multimodal":
        parts: list[dict[str, Any]] = [{"type": "text", "text": text()}]
        for _ in range(draw.choice((1, 1, 2))):
            data = base64.b64encode(jpeg(draw, int(draw.lognormvariate(11.3, 0.6)))).decode()
            parts.append({"type": "image_url", "image_url": {"url": "data:image/jpeg;base64," + data}})
        messages[-2]["content"] = parts
    return {"messages": messages}


def write(path: Path, size: int, kind: str, *, broken: float = 0.0, seed: int = 2) -> None:
    """Write about `size` bytes of examples; after 48 MB, repeat them, each with its own number."""
    written = 0
    made: list[bytes] = []
    with path.open("wb") as target:
        source = lines(kind, broken=broken, seed=seed)
        while written < min(size, 48 << 20):
            made.append(next(source))
            written += target.write(made[-1])
        number = 0
        while written < size:
            for line in made:
                number += 1
                # The number goes to the start of the first text, so that no line is a duplicate.
                head, key, tail = line.partition(_FIRST[kind])
                written += target.write(b"%b%b%d %b" % (head, key, number, tail))
                if written >= size:
                    break
