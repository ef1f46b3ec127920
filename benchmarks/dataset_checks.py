"""How fast datasets are checked, as ratios: `python -m benchmarks.dataset_checks`.

Every figure is CPU time of this process, the best of several interleaved runs, on files made from a seed. Ratios hold
on other machines, megabytes a second do not.
"""

from __future__ import annotations

import argparse
import ast
import json
import random
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from runner.datasets.shapes import Chat, PromptCompletion
from runner.datasets.summarise import Settings, summarise
from runner.datasets.workers import summarise_file

_FOREIGN = (
    "Voilà un café très élégant à côté de la forêt. ",
    "Größe und Übermut. ",
    "これは日本語の例です。",
    "Привет, как дела? ",
)


def paragraphs(seed: int = 1) -> list[str]:
    """Return English prose, code and a little of other languages, from the documentation of the standard library."""
    draw = random.Random(seed)
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text("utf-8", "replace")
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


def write(path: Path, size: int, kind: str, *, broken: float = 0.0, seed: int = 2) -> None:
    """Write about `size` bytes of examples, half of them with escapes for all that is not ASCII."""
    draw = random.Random(seed)
    texts = paragraphs()

    def text() -> str:
        length, made = int(draw.lognormvariate(6.2, 1.1)), ""
        while len(made) < length:
            made += draw.choice(texts) if draw.random() < 0.95 else draw.choice(_FOREIGN) * 5
        return made[: max(length, 20)].strip() or "text"

    written = 0
    with path.open("wb") as target:
        while written < size:
            body: dict[str, Any] = {"prompt": text(), "completion": text()}
            if kind == "chat":
                turns = [{"role": "system", "content": "You are brief."}] if draw.random() < 0.5 else []
                for _ in range(draw.choice((1, 1, 1, 2, 3))):
                    turns += [{"role": "user", "content": text()}, {"role": "assistant", "content": text()}]
                body = {"messages": turns}
            line = json.dumps(body, ensure_ascii=draw.random() < 0.5).encode()
            if draw.random() < broken:
                line = draw.choice(
                    (line[:-1], line.replace(b'"role"', b'"rol"', 1), line.replace(b'"prompt"', b'"promt"'))
                )
            written += target.write(line + b"\n")


def best(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the best CPU seconds of each, run by turns so that a busy moment hits all of them."""
    times: dict[str, float] = {}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            times[name] = min(times.get(name, 1e9), time.process_time() - start)
    return times


def _plain_loop(path: Path, kind: str) -> None:
    """Do what simple validators do: parse, look for the keys, look at the roles; no duplicates, no positions."""
    with path.open("rb") as stream:
        for line in stream:
            body = json.loads(line)
            if kind == "chat":
                for turn in body["messages"]:
                    assert turn["role"] in {"system", "user", "assistant"}
                    assert isinstance(turn["content"], str)
            else:
                assert isinstance(body["prompt"], str)
                assert isinstance(body["completion"], str)


def _decode(path: Path, decode: Callable[[bytes], Any]) -> None:
    with path.open("rb", buffering=1 << 20) as stream:
        for line in stream:
            decode(line)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--tokenizer", type=Path, help="Hugging Face folder, for the exact count")
    options = parser.parse_args()
    settings = Settings(ratio=0.25, limit=8192, name="t.jsonl")
    with tempfile.TemporaryDirectory() as folder:
        for kind, shape in (("chat", Chat), ("prompt_completion", PromptCompletion)):
            path, bad = Path(folder, f"{kind}.jsonl"), Path(folder, f"{kind}-broken.jsonl")
            write(path, options.megabytes << 20, kind)
            write(bad, options.megabytes << 20, kind, broken=0.1)
            size, bad_size = path.stat().st_size, bad.stat().st_size
            decoder = msgspec.json.Decoder(shape)
            times = best(
                {
                    "floor": lambda path=path, decoder=decoder: _decode(path, decoder.decode),  # type: ignore[misc]
                    "json": lambda path=path: _decode(path, json.loads),  # type: ignore[misc]
                    "loop": lambda path=path, kind=kind: _plain_loop(path, kind),  # type: ignore[misc]
                    "check": lambda path=path, size=size: summarise(path, 0, size, settings),  # type: ignore[misc]
                    "broken": lambda bad=bad, size=bad_size: summarise(bad, 0, size, settings),  # type: ignore[misc]
                },
                options.repeats,
            )
            check = times["check"]
            print(f"{kind}: {size / check / 1e6:.0f} MB/s a core")
            print(f"  {check / times['floor']:.2f} x the time of decoding into types alone")
            print(f"  {times['json'] / check:.2f} x faster than json.loads alone")
            print(f"  {times['loop'] / check:.2f} x faster than json.loads with checks of keys and roles")
            print(f"  10 % broken lines: {times['broken'] / bad_size / (check / size):.2f} x the time")
        _processes(Path(folder, "chat.jsonl"), settings)
        if options.tokenizer:
            _tokens(Path(folder, "chat.jsonl"), options.tokenizer)


def _processes(path: Path, settings: Settings) -> None:
    size = path.stat().st_size
    start = time.process_time()
    summarise(path, 0, size, settings)
    alone = time.process_time() - start
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    summarise_file(path, settings, workers=2)
    time.sleep(0.5)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shared = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"two processes: {shared:.2f} s of CPU, start-up included; one, warm: {alone:.2f} s")
    code = (
        "import resource,sys;from pathlib import Path;from runner.datasets.summarise import Settings,summarise;"
        "p=Path(sys.argv[1]);summarise(p,0,p.stat().st_size,Settings(ratio=.25));"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss//1024)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    print(f"peak memory of one process: {done.stdout.strip()} MB")


def _tokens(path: Path, folder: Path) -> None:
    from tokenizers import Tokenizer

    size = 2 << 20
    settings = Settings(ratio=0.25, tokenizer=folder)
    reference = Tokenizer.from_file(str(folder / "tokenizer.json"))
    with path.open("rb") as stream:
        lines = stream.read(size).split(b"\n")[:-1]
    texts = [turn["content"] for line in lines for turn in json.loads(line)["messages"]]
    times = best(
        {
            "check": lambda: summarise(path, 0, size, settings),
            "reference": lambda: reference.encode_batch_fast(texts, add_special_tokens=False),
        },
        2,
    )
    print(f"exact tokens: {size / times['check'] / 1e6:.1f} MB/s a core, template, checks and loading included")
    print(
        f"  {times['reference'] / times['check']:.1f} x faster than encode_batch_fast of the reference tokenizer alone"
    )


if __name__ == "__main__":
    main()
