"""The emulator's serving process against `transformers serve` and llama.cpp's server, with the same weights.

SmolLM2-135M-Instruct, as the emulator converts it. Each server is a process of its own with a thread for each core, as
it would be; clients stream over HTTP, so that the time to the first text is theirs; every answer has the same number of
tokens. No prompt is asked twice: remembered prompts help nobody here.
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
"""Of each answer."""
LONG_CHARACTERS = 1600
"""Of each fourth prompt of the mix, about 400 tokens; the others have 20 to 60."""


@dataclass(frozen=True, slots=True)
class Case:
    """How a server is asked."""

    clients: int
    mixed: bool = False
    """Whether each fourth prompt is long."""
    sampled: bool = False

    def __str__(self) -> str:
        text = f"{self.clients} client{'s' if self.clients > 1 else ''}"
        return text + (", short and long" if self.mixed else ", short") + (", sampled" if self.sampled else "")


CASES = (Case(16), Case(16, mixed=True), Case(16, sampled=True), Case(1), Case(4), Case(64))
GOALS = {Case(16), Case(16, mixed=True)}
"""Where the goals hold; the other cases show what happens around them."""


class Prompts:
    """Makes prompts that were never asked before."""

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
    """Compare, case by case, all servers by turns."""
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
                _tell_limit(run, roof, statistics.median(rates["this emulator"]), questions)


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
            run.value(f"memory after all cases: {program.name}", [program.peak_megabytes()], unit="MB")


def _ask_all(program: Program, questions: list[Any], case: Case) -> tuple[float, list[float]]:
    """Return tokens a second of all questions at once, and the seconds to each first text."""
    start = time.perf_counter()
    with ThreadPoolExecutor(len(questions)) as pool:
        firsts = list(pool.map(lambda one: ask(program, one, TOKENS, case.sampled), questions))
    return len(questions) * TOKENS / (time.perf_counter() - start), firsts


def _report(run: Run, case: Case, rates: dict[str, list[float]], firsts: dict[str, list[float]]) -> None:
    for peer in [name for name in rates if name != "this emulator"]:
        goals = case in GOALS and peer.startswith("transformers")
        run.compare(
            f"tokens a second, {case}",
            rates["this emulator"],
            rates[peer],
            unit="/s",
            peer=peer,
            goal=at_least(2) if goals else None,
        )
        run.compare(
            f"time to the first text, {case}",
            firsts["this emulator"],
            firsts[peer],
            unit="s",
            peer=peer,
            goal=at_most(0.5) if goals else None,
        )


def _tell_limit(run: Run, roof: Roof, rate: float, questions: list[Any]) -> None:
    """Say how near the rate is to what the processor could do."""
    prompt = statistics.mean(len(one[0]["content"]) for one in questions) / 3.6 + 8
    bound = roof.tokens_a_second(len(questions), TOKENS, prompt)
    run.value("share of the processor's limit, 16 clients, short", [100 * rate / bound], unit="%")
    run.note(roof.explain(len(questions), TOKENS, prompt, bound))
