"""Runs targets with broken inputs until the time has passed.

An input with a new kind of result (other codes of findings, errors or statuses) is broken further, so that the corpus
grows by behavior. An input that crashes a target, or takes too long, is a finding: it is written to the target's
corpus, so that the next run and the tests start with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import resource
import signal
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import ClassVar

CORPUS = Path(__file__).parent / "corpus"
_HUNG_SECONDS = 60
_POOLED_BYTES = 16 << 10
"""Maximum size of inputs that are broken further."""
_KEPT_BYTES = 2 << 10
_KEPT_FILES = 32
"""Maximum size of the corpus of one target."""

Survive = Callable[[bytes], Iterator[str] | list[str]]
"""Runs one input and returns its result; raises errors that must not occur."""


class Target(ABC):
    """A program with external input."""

    name: ClassVar[str]
    seconds: ClassVar[float] = 2.0
    """Maximum CPU seconds for one input."""

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Return valid inputs."""

    @abstractmethod
    def broken(self, draw: random.Random, data: bytes) -> bytes:
        """Return a broken version of an input."""

    @abstractmethod
    def opened(self) -> AbstractContextManager[Survive]:
        """Open the environment for running inputs."""

    @property
    def corpus(self) -> list[bytes]:
        """Return the inputs in the repository."""
        return [path.read_bytes() for path in sorted((CORPUS / self.name).glob("*"))]


class HungError(Exception):
    """An input takes too long."""


@dataclass(slots=True)
class Outcome:
    """The result of a run."""

    name: str
    executions: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    answers: set[tuple[str, ...]] = field(default_factory=set)
    findings: list[Path] = field(default_factory=list)

    def __str__(self) -> str:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        return (
            f"{self.name}: {self.executions:,} inputs in {self.seconds:.0f} s, {len(self.answers)} kinds of answers, "
            f"{len(self.findings)} findings; slowest {self.slowest:.2f} s of CPU, peak memory {peak} MB"
        )


def replay(target: Target) -> Outcome:
    """Run the seeds and the corpus once. Raises the errors of inputs."""
    outcome = Outcome(target.name)
    with target.opened() as survive:
        for data in [*target.seeds(), *target.corpus]:
            _run(target, survive, data, outcome)
    return outcome


def fuzz(target: Target, *, seconds: float, seed: int, keep: bool = False) -> Outcome:
    """Run broken inputs for a time.

    Args:
        target: the target.
        seconds: the duration.
        seed: seed of the random choices.
        keep: write small inputs with new results to the corpus.
    """
    draw = random.Random(seed)
    outcome = Outcome(target.name)
    began = time.monotonic()
    with target.opened() as survive:
        pool = [*target.seeds(), *target.corpus]
        for data in pool:
            _run(target, survive, data, outcome)
        while time.monotonic() - began < seconds:
            data = target.broken(draw, draw.choice(pool))
            known = len(outcome.answers)
            try:
                _run(target, survive, data, outcome)
            except Exception as error:
                _write(target, data, error, outcome)
                continue
            if len(outcome.answers) > known and len(data) <= _POOLED_BYTES:
                pool.append(data)
                if keep and len(data) <= _KEPT_BYTES and len(target.corpus) < _KEPT_FILES:
                    (CORPUS / target.name).mkdir(parents=True, exist_ok=True)
                    _place(target, "new", data).write_bytes(data)
    outcome.seconds = time.monotonic() - began
    return outcome


def _run(target: Target, survive: Survive, data: bytes, outcome: Outcome) -> None:
    began = time.process_time()
    with _alarm(_HUNG_SECONDS):
        answer = tuple(sorted(set(survive(data))))
    taken = time.process_time() - began
    outcome.executions += 1
    outcome.slowest = max(outcome.slowest, taken)
    outcome.answers.add(answer)
    if taken > target.seconds:
        raise HungError(f"{taken:.1f} s of CPU, where {target.seconds} s are allowed")


def _write(target: Target, data: bytes, error: Exception, outcome: Outcome) -> None:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = _place(target, "found", f"{type(error).__name__}{where.filename}{where.lineno}".encode())
    outcome.executions += 1
    if place in outcome.findings:
        return  # the same place has been found
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    outcome.findings.append(place)
    print(f"{target.name}: {place} holds an input that", file=sys.stderr)
    traceback.print_exception(error, limit=-6, file=sys.stderr)


def _place(target: Target, kind: str, data: bytes) -> Path:
    return CORPUS / target.name / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}"


@contextlib.contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def ring(_number: int, _frame: FrameType | None) -> None:
        raise HungError(f"{seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
