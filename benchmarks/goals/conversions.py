"""Compare the speed of dataset conversion with that of Python's `json` module.

The CPU time of this process includes writing. Both conversions run alternately on files that are generated from a seed.
The one with `json` reads each line with `json.loads`, builds the other object and writes it with `json.dumps`, without
any check.
"""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.goals.dataset_files import write
from benchmarks.goals.figures import Run, at_least
from runner.datasets.examples import Format
from runner.datasets.rewriting.converting import convert_file
from tests.datasets.written import JPEG


def _to_chat(body: dict[str, Any]) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "user", "content": body["prompt"]},
            {"role": "assistant", "content": body["completion"]},
        ]
    }


def _to_contents(body: dict[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    turns = body["messages"]
    if turns[0]["role"] == "system":
        made["systemInstruction"] = {"parts": [{"text": turns[0]["content"]}]}
        turns = turns[1:]
    made["contents"] = [
        {"role": "model" if turn["role"] == "assistant" else turn["role"], "parts": _parts(turn["content"])}
        for turn in turns
    ]
    return made


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"text": content}]
    parts: list[dict[str, Any]] = []
    for part in content:
        if part["type"] == "text":
            parts.append({"text": part["text"]})
        else:
            head, _, data = part["image_url"]["url"].partition(",")
            parts.append({"inline_data": {"mime_type": head[5:].partition(";")[0], "data": data}})
    return parts


def plain(path: Path, target: Path, convert: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Convert with only the standard library."""
    with path.open(encoding="utf-8") as source, target.open("w", encoding="utf-8") as out:
        for line in source:
            out.write(json.dumps(convert(json.loads(line)), ensure_ascii=False) + "\n")


def write_pictures(path: Path, size: int) -> None:
    """Write about `size` bytes of chats with one or two inline photos of 40 to 200 KB each."""
    draw = random.Random(4)
    scan = JPEG.index(b"\xff\xda") + 12
    written = 0
    with path.open("wb") as target:
        while written < size:
            parts: list[dict[str, Any]] = [{"type": "text", "text": f"What is on picture {written}?"}]
            for _ in range(draw.choice((1, 2))):
                noise = draw.randbytes(draw.randint(40_000, 200_000)).replace(b"\xff", b"\xfe")
                photo = base64.b64encode(JPEG[:scan] + noise + JPEG[scan:]).decode()
                parts.append({"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{photo}"}})
            turns = [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cat on a mat."}]
            written += target.write(json.dumps({"messages": turns}).encode() + b"\n")


def measure(run: Run) -> None:
    """Convert with both alternately."""
    megabytes = {"full": 24, "short": 12, "tiny": 1}[run.size]
    cases: tuple[tuple[str, Format, Callable[[dict[str, Any]], dict[str, Any]], float], ...] = (
        ("chat", "generate_content", _to_contents, 2.5),
        ("prompt_completion", "chat", _to_chat, 2.5),
        ("pictures", "generate_content", _to_contents, 3.0),
    )
    for kind, form, convert, goal in cases:
        path = run.folder / f"{kind}.jsonl"
        if kind == "pictures":
            write_pictures(path, megabytes << 20)
        else:
            write(path, megabytes << 20, kind)
        lines = sum(1 for _ in path.open("rb"))
        rates: dict[str, list[float]] = {"ours": [], "json": []}
        for number in range(run.rounds):
            for name, found in rates.items():
                target = run.folder / f"{name}.jsonl"
                start = time.process_time()
                if name == "ours":
                    made = convert_file(path, target, form)
                    assert (made.rows, made.dropped) == (lines, 0), made.problems[:3]
                else:
                    plain(path, target, convert)
                found.append(path.stat().st_size / (time.process_time() - start) / 1e6)
            if not number:
                with (run.folder / "ours.jsonl").open("rb") as left, (run.folder / "json.jsonl").open("rb") as right:
                    assert all(json.loads(a) == json.loads(b) for a, b in zip(left, right, strict=True))
            for name in rates:
                (run.folder / f"{name}.jsonl").unlink()
        title = f"converting {'chat with images' if kind == 'pictures' else kind} to {form}: throughput"
        run.compare(
            title, rates["ours"], rates["json"], unit="MB/CPU s", peer="Python's json module", goal=at_least(goal)
        )
