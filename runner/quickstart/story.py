"""The dataset and settings of the quickstart, in two sizes."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from runner.catalog.models import TuningMode
from runner.datasets.records.writing import reshaped
from runner.json_text import parsed

BASE_MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """One run of the quickstart."""

    base_model: str
    stand_in: Literal["smollm2", "tiny"]
    mode: TuningMode
    epochs: int
    learning_rate: float
    """As sent; the emulator applies and shows the stand-in's documented factor."""
    adapter_size: int
    batch_size: int
    training: Path
    validation: Path | None
    questions: tuple[tuple[str, str], ...]
    """Question and the dataset's own answer."""
    held_out: bool
    """Whether the questions are in neither file."""
    pairs: bool = False
    """Whether the data consists of prompts and completions, so that the tuned model also answers a plain prompt."""


def data(name: str) -> Path:
    """Return a file of the bundled dataset."""
    return Path(str(resources.files("runner.quickstart").joinpath("data", name)))


def _questions(path: Path, count: int) -> tuple[tuple[str, str], ...]:
    rows = [parsed(line)["messages"] for line in path.read_text("utf-8").splitlines()[:count]]
    return tuple((turns[0]["content"], turns[1]["content"]) for turns in rows)


def full_story(*, questions: int = 5) -> Story:
    """Return the complete one: 320 definitions, pretrained weights of 135 million parameters, held-out questions."""
    return Story(
        base_model=BASE_MODEL,
        stand_in="smollm2",
        mode="PEFT_ADAPTER",
        epochs=1,  # one gives all held-out answers the right form; a second takes over a minute more
        learning_rate=0.0002,
        adapter_size=16,
        batch_size=8,
        training=data("train.jsonl"),
        validation=data("validation.jsonl"),
        questions=_questions(data("held_out.jsonl"), questions),
        held_out=True,
    )


def fast_story(directory: Path, *, rows: int = 16, questions: int = 4) -> Story:
    """Return the short one: an untrained model with less than a million parameters memorizes a few definitions.

    It cannot generalize, so the questions are from its training data.
    """
    lines = data("train.jsonl").read_text("utf-8").splitlines()
    shortest = sorted(lines, key=len)[:rows]
    training = directory / "fast.jsonl"
    pairs = [reshaped(line, "prompt_completion") for line in shortest]
    training.write_text("".join(pairs), "utf-8")
    return Story(
        base_model=BASE_MODEL,
        stand_in="tiny",
        mode="FULL",
        epochs=40,
        learning_rate=0.0002,
        adapter_size=16,
        batch_size=4,
        training=training,
        validation=None,
        questions=tuple((pair["prompt"], pair["completion"]) for pair in map(parsed, pairs[:questions])),
        held_out=False,
        pairs=True,
    )
