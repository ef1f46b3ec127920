"""The jobs of a sweep. Their names consist of their own values, so that adding a value renames no other job."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass
from typing import Any

from runner.jobs.manifests.schema import MAX_SWEEP_JOBS, Sweep
from runner.wording import camel

MAX_NAME = 63
"""Maximum length of an expanded name, which is the maximum length of a label value."""
_SHORT = {
    "base_model": "",
    "mode": "",
    "epochs": "e",
    "learning_rate": "lr",
    "adapter_size": "r",
    "batch_size": "b",
}


@dataclass(frozen=True, slots=True)
class SweepJob:
    """One job of a sweep."""

    name: str
    values: dict[str, Any]
    """The values in which it differs, by field name."""


def expand(name: str, sweep: Sweep) -> tuple[list[SweepJob], list[tuple[tuple[str, ...], str]]]:
    """Return the jobs of a sweep in the order of its lists, and the errors as (path, message)."""
    grid, paired = sweep.grid.given(), sweep.paired.given()
    problems = _problems(grid, paired)
    if problems:
        return [], problems
    rows: list[dict[str, Any]] = [{}]
    if paired:
        rows = [dict(zip(paired, values, strict=True)) for values in zip(*paired.values(), strict=True)]
    combinations = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    jobs = [
        SweepJob(_name(name, {**combination, **row}), {**combination, **row})
        for combination in combinations
        for row in rows
    ]
    twice = {job.name for job in jobs if sum(other.name == job.name for other in jobs) > 1}
    if twice:
        return [], [((), f"it contains the same values twice: {', '.join(sorted(twice))}")]
    return jobs, []


def _problems(grid: dict[str, list[Any]], paired: dict[str, list[Any]]) -> list[tuple[tuple[str, ...], str]]:
    problems: list[tuple[tuple[str, ...], str]] = []
    if not grid and not paired:
        problems.append(((), "gives no values: fill in grid or paired"))
    lengths = {key: len(values) for key, values in paired.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{camel(key)} has {length}" for key, length in lengths.items())
        problems.append((("paired",), f"the lists must have one length: {shown}"))
    for key in set(grid) & set(paired):
        problems.append((("paired", camel(key)), "is in grid too"))
    count = 1
    for values in grid.values():
        count *= len(values)
    count *= min(lengths.values(), default=1)
    if count > MAX_SWEEP_JOBS:
        problems.append(((), f"makes {count} jobs; at most {MAX_SWEEP_JOBS} are allowed"))
    return problems


def _name(base: str, values: dict[str, Any]) -> str:
    parts = [base]
    for key, value in values.items():
        text = _scientific(value) if isinstance(value, float) else str(value).rsplit("@", 1)[-1].lower()
        text = text.replace("peft_adapter", "peft")
        parts.append(_SHORT[key] + re.sub(r"[^a-z0-9-]+", "-", text).strip("-"))
    name = "-".join(part for part in parts if part)
    if len(name) <= MAX_NAME:
        return name
    return f"{name[: MAX_NAME - 9].rstrip('-')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _scientific(value: float) -> str:
    """Return `2p5e-5` for 0.000025."""
    digits, _, exponent = f"{value:e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.').replace('.', 'p')}e{int(exponent)}"
