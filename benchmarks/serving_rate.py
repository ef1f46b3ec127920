"""Tokens a second of a serving process: clients at once against the same requests one at a time.

    python -m benchmarks.serving_rate [--source tiny|smollm2] [--clients 16] [--rounds 4] [--tokens 32]

Starts a real serving process and asks it over its Unix socket, streaming, so that the time to the first text is the
client's own. Every answer has the same number of tokens. Both measurements alternate, because a shared machine
drifts; their medians and spreads are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import httpx

from runner.emulator.engine.launcher import Launcher
from runner.emulator.engine.protocol import ModelSource, ServingSpec


def client_of(socket: Path) -> httpx.Client:
    """Return a client of its own connection."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://model", timeout=600)


def request(number: int, tokens: int) -> dict[str, Any]:
    """Return a chat request whose prompt length varies and whose answer has exactly `tokens` tokens."""
    content = f"Question {number}: " + "what does this word mean? " * (1 + number % 4)
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }


def ask(client: httpx.Client, body: dict[str, Any]) -> float:
    """Read one streamed answer to its end and return the seconds to its first text."""
    start = time.perf_counter()
    first = 0.0
    with client.stream("POST", "/chat/completions", json=body) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not first and line.startswith("data: ") and '"content":""' not in line:
                first = time.perf_counter() - start
    return first


def measure(socket: Path, clients: int, rounds: int, tokens: int, together: bool) -> tuple[float, list[float]]:
    """Return tokens a second and the seconds to each answer's first text."""
    connections = [client_of(socket) for _ in range(clients)]

    def run(number: int) -> list[float]:
        return [ask(connections[number], request(number + turn, tokens)) for turn in range(rounds)]

    start = time.perf_counter()
    if together:
        with ThreadPoolExecutor(clients) as pool:
            firsts = [one for many in pool.map(run, range(clients)) for one in many]
    else:
        firsts = [one for number in range(clients) for one in run(number)]
    seconds = time.perf_counter() - start
    for connection in connections:
        connection.close()
    return clients * rounds * tokens / seconds, firsts


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", choices=("tiny", "smollm2"), default="tiny")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=4, help="requests a client")
    parser.add_argument("--tokens", type=int, default=32, help="tokens an answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="where stand-in weights are kept between runs")
    options = parser.parse_args()
    kind: Literal["tiny", "smollm2"] = options.source
    launcher = Launcher(training_threads=options.threads)
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        directory = Path(name)
        socket = directory / "model.sock"
        spec = ServingSpec(
            source=ModelSource(kind=kind),
            socket=str(socket),
            name=kind,
            max_batch=options.clients,
            threads=options.threads,
            cache_directory=str(options.cache or directory / "models"),
        )
        spec.write(directory / "serving.json")
        start = time.perf_counter()
        process = launcher.start_serving(directory)
        try:
            while not socket.exists():
                assert process.is_alive(), (directory / "worker.log").read_text()
                time.sleep(0.05)
            print(f"ready after {time.perf_counter() - start:.1f} s (imports and weights)")
            measure(socket, 2, 1, options.tokens, together=True)  # warm-up
            report(options, socket)
        finally:
            process.kill()
            launcher.close()


def report(options: argparse.Namespace, socket: Path) -> None:
    """Measure alternately and print a table."""
    rates: dict[bool, list[float]] = {False: [], True: []}
    firsts: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.repeats):
        for together in (False, True):
            rate, waits = measure(socket, options.clients, options.rounds, options.tokens, together)
            rates[together].append(rate)
            firsts[together] += waits
    for together, label in ((False, "one at a time"), (True, f"{options.clients} clients")):
        many = sorted(firsts[together])
        print(
            f"{label:>15}: {statistics.median(rates[together]):7.0f} tokens/s "
            f"({min(rates[together]):.0f} to {max(rates[together]):.0f}), first text after "
            f"{1000 * statistics.median(many):.0f} ms (median), {1000 * many[int(0.95 * len(many))]:.0f} ms (95 %)"
        )
    print(f"{'ratio':>15}: {statistics.median(rates[True]) / statistics.median(rates[False]):7.1f}")


if __name__ == "__main__":
    main()
