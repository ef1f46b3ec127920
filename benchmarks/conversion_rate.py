"""How fast datasets are converted, as ratios to plain `json`: `python -m benchmarks.conversion_rate`.

CPU time of this process, writing included, the best of several runs by turns, on files made from a seed. What it is
compared with reads a line with `json.loads`, makes the other object and writes it with `json.dumps`, without any check.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.goals.dataset_files import write
from runner.datasets.examples import Format
from runner.datasets.rewriting.converting import convert_file
from tests.datasets.test_defects import JPEG


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
    """Convert with the standard library alone."""
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


def main() -> int:
    """Measure and print; exit 1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--python", action="store_true", help="do not use the compiled package")
    options = parser.parse_args()
    missed = False
    cases: tuple[tuple[str, Format, Callable[[dict[str, Any]], dict[str, Any]], float], ...] = (
        ("chat", "generate_content", _to_contents, 2.5),
        ("prompt_completion", "chat", _to_chat, 2.5),
        ("pictures", "generate_content", _to_contents, 3.0),
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind, form, convert, goal in cases:
            path = Path(folder, f"{kind}.jsonl")
            if kind == "pictures":
                write_pictures(path, options.megabytes << 20)
            else:
                write(path, options.megabytes << 20, kind)
            lines = sum(1 for _ in path.open("rb"))
            best: dict[str, float] = {}
            for number in range(options.repeats):
                for name in ("ours", "json"):
                    target = Path(folder, f"{name}-{number}.jsonl")
                    start = time.process_time()
                    if name == "ours":
                        made = convert_file(path, target, form, compiled=not options.python)
                        assert (made.rows, made.dropped) == (lines, 0), made.problems[:3]
                    else:
                        plain(path, target, convert)
                    best[name] = min(best.get(name, 1e9), time.process_time() - start)
                ours, theirs = (Path(folder, f"{name}-{number}.jsonl") for name in ("ours", "json"))
                if not number:
                    with ours.open("rb") as left, theirs.open("rb") as right:
                        assert all(json.loads(a) == json.loads(b) for a, b in zip(left, right, strict=True))
                ours.unlink()
                theirs.unlink()
            ratio = best["json"] / best["ours"]
            missed |= ratio < goal
            speed = path.stat().st_size / best["ours"] / 1e6
            print(f"{kind} to {form}: {speed:.0f} MB/s a core, {ratio:.1f} times plain json (goal {goal:g})")
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MB")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
