"""The emulator's serving against `transformers serve` and plain `generate`, with the same weights and questions.

    python -m benchmarks.serving_rate_peers [--clients 16] [--tokens 16] [--repeats 3] [--threads 1]

SmolLM2-135M-Instruct, as the emulator converts it. Each server is a process of its own with the same number of threads;
clients stream over HTTP, so that the time to the first text is theirs; every answer has the same number of tokens.
`generate` is called in a process, one question at a time, as a program does that has nothing else. The servers are
measured in turn, because a shared machine drifts; medians and spreads are printed.

`transformers serve` needs its extra: pip install "transformers[serving]".
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import platformdirs

from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource, ServingSpec
from runner.emulator.engine.smollm2 import NAME

Client = Callable[[], httpx.Client]
_GENERATE = """
import json, sys, time
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
torch.set_num_threads(int(sys.argv[2]))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype="auto").eval()
print("ready", flush=True)
for line in sys.stdin:
    body = json.loads(line)
    start = time.perf_counter()
    ids = tokenizer.apply_chat_template(body["messages"], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    made = model.generate(**ids, max_new_tokens=body["tokens"], min_new_tokens=body["tokens"], do_sample=False)
    assert made.shape[1] - ids["input_ids"].shape[1] == body["tokens"]
    tokenizer.decode(made[0])
    print(time.perf_counter() - start, flush=True)
"""  # noqa: E501


def question(number: int) -> list[dict[str, str]]:
    """Return messages whose length varies."""
    return [{"role": "user", "content": f"Question {number}: " + "what does this word mean? " * (1 + number % 4)}]


def ask(client: httpx.Client, path: str, body: dict[str, Any]) -> tuple[float, int]:
    """Read one streamed answer; return the seconds to its first text and the pieces with text in it."""
    start = time.perf_counter()
    first, pieces = 0.0, 0
    with client.stream("POST", path, json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            choices = json.loads(line.removeprefix("data: ")).get("choices") or [{}]
            if (choices[0].get("delta") or {}).get("content"):
                first = first or time.perf_counter() - start
                pieces += 1
    return first, pieces


def measure(
    client: Client, path: str, more: dict[str, Any], clients: int, tokens: int
) -> tuple[float, list[float], int]:
    """Return tokens a second of so many clients at once, the seconds to each first text, and the fewest pieces."""
    connections = [client() for _ in range(clients)]

    def run(number: int) -> tuple[float, int]:
        body = {"messages": question(number), "max_tokens": tokens, "temperature": 0, "stream": True, **more}
        return ask(connections[number], path, body)

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        done = list(pool.map(run, range(clients)))
    seconds = time.perf_counter() - start
    for connection in connections:
        connection.close()
    return clients * tokens / seconds, [first for first, _ in done], min(pieces for _, pieces in done)


def environment(threads: int) -> dict[str, str]:
    """Return variables that hold a process to so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **os.environ,
        **dict.fromkeys(names, str(threads)),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=16, help="tokens an answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    cache = platformdirs.user_cache_path("open-model-tuning") / "models"
    weights = cache / NAME
    launcher = Launcher(training_threads=options.threads)
    peers: dict[str, tuple[Client, str, dict[str, Any]]] = {}
    processes: list[Any] = []
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        try:
            peers["this emulator"] = ours(launcher, Path(name), options, cache, processes)
            if importlib.util.find_spec("fastapi") is None:
                print('transformers serve is not measured: pip install "transformers[serving]"')
            else:
                for label, flags in (
                    ("transformers serve", ()),
                    ("… with --continuous-batching", ("--continuous-batching",)),
                ):
                    peers[label] = theirs(weights, options, flags, processes)
            alone = generating(weights, options, processes)
            compare(options, peers, alone)
        finally:
            for process in processes:
                process.kill()
            launcher.close()


def ours(
    launcher: Launcher, directory: Path, options: argparse.Namespace, cache: Path, processes: list[Any]
) -> tuple[Client, str, dict[str, Any]]:
    """Start a serving process of the emulator."""
    path = directory / "model.sock"
    ServingSpec(
        source=ModelSource(kind="smollm2"),
        socket=str(path),
        name="smollm2",
        max_batch=options.clients,
        threads=options.threads,
        cache_directory=str(cache),
    ).write(directory / "serving.json")
    worker = launcher.start_serving(directory)
    processes.append(worker)
    while not path.exists():
        assert worker.is_alive(), (directory / "worker.log").read_text()
        time.sleep(0.05)

    def client() -> httpx.Client:
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://model", timeout=600)

    return client, "/chat/completions", {"ignore_eos": True}


def theirs(
    weights: Path, options: argparse.Namespace, flags: tuple[str, ...], processes: list[Any]
) -> tuple[Client, str, dict[str, Any]]:
    """Start `transformers serve`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = [sys.executable, "-c", "from transformers.cli.transformers import main; main()", "serve", str(weights)]
    process = subprocess.Popen(
        [*program, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu", *flags],
        env=environment(options.threads),
        stdout=subprocess.DEVNULL,
    )
    processes.append(process)
    base = f"http://127.0.0.1:{port}"
    while True:
        assert process.poll() is None, "transformers serve ended"
        try:
            if httpx.get(f"{base}/health", timeout=5).status_code == 200:
                break
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    exact = {"max_new_tokens": options.tokens, "min_new_tokens": options.tokens, "do_sample": False}
    more = {"model": str(weights), "generation_config": json.dumps(exact)}
    return lambda: httpx.Client(base_url=base, timeout=600), "/v1/chat/completions", more


def generating(weights: Path, options: argparse.Namespace, processes: list[Any]) -> Callable[[int], float]:
    """Start a process that calls `generate`, and return what asks it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _GENERATE, str(weights), str(options.threads)],
        env=environment(options.threads),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    processes.append(process)
    assert process.stdout is not None
    assert process.stdin is not None
    answers, questions = process.stdout, process.stdin
    assert answers.readline() == "ready\n"

    def one(number: int) -> float:
        questions.write(json.dumps({"messages": question(number), "tokens": options.tokens}) + "\n")
        questions.flush()
        return float(answers.readline())

    return one


def compare(
    options: argparse.Namespace, peers: dict[str, tuple[Client, str, dict[str, Any]]], alone: Callable[[int], float]
) -> None:
    """Measure in turn and print a table."""
    rates: dict[str, list[float]] = {label: [] for label in (*peers, "generate")}
    firsts: dict[str, list[float]] = {label: [] for label in rates}
    for client, path, more in peers.values():
        measure(client, path, more, 2, options.tokens)  # warm-up
    alone(0)
    for _ in range(options.repeats):
        for label, (client, path, more) in peers.items():
            rate, waits, pieces = measure(client, path, more, options.clients, options.tokens)
            assert pieces > 1, f"{label} did not stream"
            rates[label].append(rate)
            firsts[label] += waits
        few = max(2, options.clients // 4)
        seconds = [alone(number) for number in range(few)]
        rates["generate"].append(few * options.tokens / sum(seconds))
        firsts["generate"] += seconds
    own = statistics.median(rates["this emulator"])
    print(f"{options.clients} clients at once, {options.tokens} tokens an answer, {options.threads} thread(s)")
    for label, many in rates.items():
        text = "whole answer" if label == "generate" else "first text"
        print(
            f"{label:>28}: {statistics.median(many):6.1f} tokens/s ({min(many):.1f} to {max(many):.1f}), {text} after "
            f"{statistics.median(firsts[label]):.2f} s (median), {max(firsts[label]):.2f} s (longest); "
            f"this emulator is {own / statistics.median(many):.1f} times as fast"
        )


if __name__ == "__main__":
    main()
