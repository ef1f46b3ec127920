"""Compare the emulator's serving process with `transformers serve` and llama.cpp's server, with the same weights.

The model is SmolLM2-135M-Instruct, as the emulator converts it. Each server runs in its own process with one thread per
core. Clients stream over HTTP and measure the time to first token. Every answer has the same number of tokens. No
prompt is sent twice, so that no server can use its prompt cache.
"""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks.goals import peers
from benchmarks.goals.dataset_files import paragraphs
from benchmarks.goals.figures import Run, at_least, at_most
from benchmarks.goals.serving_programs import Program, ask, emulator, llama_cpp, transformers
from benchmarks.goals.serving_roof import Roof, measure_roof

TOKENS = 16
"""Number of tokens in each answer."""
LONG_CHARACTERS = 1600
"""Length of every fourth prompt of a mixed case, about 400 tokens; the others have 20 to 60 tokens."""


@dataclass(frozen=True, slots=True)
class Case:
    """The load on a server."""

    clients: int
    mixed: bool = False
    """Whether every fourth prompt is long."""
    sampled: bool = False

    def __str__(self) -> str:
        text = f"{self.clients} client{'s' if self.clients > 1 else ''}"
        return text + f", short{' and long' if self.mixed else ''} prompts" + (", sampling" if self.sampled else "")


CASES = (Case(16), Case(16, mixed=True), Case(16, sampled=True), Case(1), Case(4), Case(64))
GOALS = {Case(16), Case(16, mixed=True)}
"""The cases that have goals."""


class Prompts:
    """Makes prompts that were not sent before."""

    def __init__(self) -> None:
        self._draw = random.Random(5)
        self._texts = [text for text in paragraphs() if len(text) > 300]
        self._number = 0

    def take(self, case: Case) -> list[list[dict[str, str]]]:
        """Return the messages of each client."""
        found = []
        for index in range(case.clients):
            self._number += 1
            if case.mixed and index % 4 == 3:
                text = (" ".join(self._draw.sample(self._texts, 8)))[:LONG_CHARACTERS]
            else:
                text = self._draw.choice(self._texts)[: self._draw.randint(60, 200)]
            found.append([{"role": "user", "content": f"{self._number}. What does this say? {text}"}])
        return found


def measure(run: Run) -> None:
    """Measure all servers alternately in each case."""
    threads = 1 if run.size == "tiny" else len(os.sched_getaffinity(0))
    python = peers.environment("models", peers.MODELS)
    run.peers |= peers.versions(python, ("transformers", "torch", "xllamacpp"))
    cases = {"full": CASES, "short": CASES[:2], "tiny": (Case(2, mixed=True),)}[run.size]
    prompts = Prompts()
    with _running(run, python, threads) as programs:
        roof = measure_roof(threads)
        for program in programs:
            _ask_all(program, prompts.take(Case(2)), Case(2))  # warm-up
        for case in cases:
            rates: dict[str, list[float]] = {program.name: [] for program in programs}
            firsts: dict[str, list[float]] = {program.name: [] for program in programs}
            rounds = run.rounds if case.clients < 64 else min(run.rounds, 2)
            for _ in range(rounds):
                questions = prompts.take(case)
                for program in programs:
                    rate, waits = _ask_all(program, questions, case)
                    rates[program.name].append(rate)
                    firsts[program.name].append(statistics.median(waits))
            _report(run, case, rates, firsts)
            if case == Case(16):
                _report_limit(run, roof, statistics.median(rates["the emulator"]), questions)


@contextlib.contextmanager
def _running(run: Run, python: Any, threads: int) -> Iterator[list[Program]]:
    with contextlib.ExitStack() as stack:
        ours = stack.enter_context(emulator(run.folder, threads))
        programs = [ours]
        for starting in (
            transformers(python, ours.weights, threads),
            llama_cpp(python, ours.weights, threads, "BF16"),
            llama_cpp(python, ours.weights, threads, "Q8_0"),
        ):
            programs.append(stack.enter_context(starting))
        run.peers.update({name: text for program in programs for name, text in program.facts.items()})
        yield programs
        for program in programs:
            run.value(f"peak memory: {program.name}", [program.peak_megabytes()], unit="MB")


def _ask_all(program: Program, questions: list[Any], case: Case) -> tuple[float, list[float]]:
    """Send all questions at once; return tokens per second, and the seconds to each first token."""
    start = time.perf_counter()
    with ThreadPoolExecutor(len(questions)) as pool:
        firsts = list(pool.map(lambda one: ask(program, one, TOKENS, case.sampled), questions))
    return len(questions) * TOKENS / (time.perf_counter() - start), firsts


def _report(run: Run, case: Case, rates: dict[str, list[float]], firsts: dict[str, list[float]]) -> None:
    for peer in [name for name in rates if name != "the emulator"]:
        goals = case in GOALS and peer.startswith("transformers")
        run.compare(
            f"throughput, {case}",
            rates["the emulator"],
            rates[peer],
            unit="tokens/s",
            peer=peer,
            goal=at_least(2) if goals else None,
        )
        run.compare(
            f"time to first token, {case}",
            firsts["the emulator"],
            firsts[peer],
            unit="s",
            peer=peer,
            goal=at_most(0.5) if goals else None,
        )


def _report_limit(run: Run, roof: Roof, rate: float, questions: list[Any]) -> None:
    """Compare the rate with the maximum of the processor."""
    prompt = statistics.mean(len(one[0]["content"]) for one in questions) / 3.6 + 8
    bound = roof.tokens_a_second(len(questions), TOKENS, prompt)
    run.value("share of the processor's maximum throughput, 16 clients, short prompts", [100 * rate / bound], unit="%")
    run.note(roof.explain(len(questions), TOKENS, prompt, bound))
