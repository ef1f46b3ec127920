"""The README's tour as it is written, `init`, contexts and the commonest mistakes, in terminals of three widths.

The transcripts are kept to be read: `UPDATE_TRANSCRIPTS=1 pytest tests/end_to_end/test_tour.py` writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.testing import RunningEmulator, emulator
from tests.end_to_end.terminal import Terminal, check
from tests.wheel import search_path

ROOT = Path(__file__).parents[2]
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
WIDTHS = (60, 80, 140)


def tour() -> list[str]:
    """Return the lines of the README's tour, without their comments."""
    block = (ROOT / "README.md").read_text("utf-8").split("## A tour\n\n```sh\n")[1].split("\n```")[0]
    return [re.sub(r"\s+# .*", "", line) for line in block.splitlines()]


@pytest.fixture(scope="module")
def running() -> Iterator[RunningEmulator]:
    with emulator(project="acme-local") as found:
        yield found


@pytest.fixture
def work(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    return folder


@pytest.mark.training
def test_the_tour_runs_as_it_is_written(work: Path, tmp_path: Path, installed: Path) -> None:
    """From the wheel, in an empty folder."""
    variables = {
        "RUNNER_STATE_DIR": str(tmp_path / "state"),
        "RUNNER_EMULATOR_STAND_IN": "tiny",
        "PYTHONPATH": search_path(installed),
    }
    terminal = Terminal(80, work, variables)
    others = {width: Terminal(width, work, variables) for width in WIDTHS if width != 80}
    lines = tour()
    assert lines[0].startswith("runner init tour")
    try:
        for line in lines:
            assert terminal.run(line) == 0, terminal.seen[-1]
            if line in {"runner jobs ls", "runner endpoints ls"} or line.startswith("runner checkpoints ls"):
                for width, other in others.items():
                    # Which columns fit into 60 depends on how many digits a time and a sum happen to have.
                    if width > 60 or line != "runner endpoints ls":
                        assert other.run(line) == 0
    finally:
        terminal.run("runner emulator stop")
        terminal.seen.pop()
    text = terminal.transcript(home=tmp_path)
    # What an untrained model says is noise, and the help of `eval` is in the reference.
    text = re.sub(r"(\$ runner chat .*\n)(?:.*\n)*?(stand-in: (?:.*\n)+?)(?=\n?\$ )", r"\1\2\n", text)
    text = re.sub(r"(\$ runner chat .*\nstand-in: .*\n)(?:(?!\$ ).*\n)*", r"\1(an answer)\n\n", text)
    text = re.sub(r"(\$ runner eval --help\n)(?:(?!\$ ).*\n)*", r"\1…\n\n", text)
    check("tour-80", text)
    for width, other in others.items():
        check(f"lists-{width}", other.transcript(home=tmp_path))


MISTAKES = (
    "runner deploy",
    "runner jobs submit --train train.jsonl",
    "runner jobs show nightly",
    "runner data check missing.jsonl",
    "runner data check .",
    "runner data convert table.csv --output none/train.jsonl",
    "runner data check table.csv",
    "runner jobs ls --state bogus",
    "runner endpoints undeploy production",
    "runner models show llama-3.1-8b",
    "runner use nowhere",
    "runner jobs ls --context emulator --environment x.json",
)


@pytest.mark.parametrize("columns", WIDTHS)
def test_mistakes_say_what_to_type(columns: int, work: Path, tmp_path: Path, running: RunningEmulator) -> None:
    (work / "table.csv").write_text('prompt,completion\n"What is a car?","A vehicle."\n')
    terminal = Terminal(columns, work, running.variables)
    for line in MISTAKES:
        assert terminal.run(line) in {2, 3, 4}, terminal.seen[-1]
    text = terminal.transcript(home=tmp_path)
    for said in text.split("\n$ "):
        assert re.search(
            r"`runner |runner data convert|did you mean|states are|mkdir|is a folder|a folder|no such file|either", said
        ), said
    check(f"mistakes-{columns}", text)


@pytest.mark.parametrize("columns", WIDTHS)
def test_init_contexts_and_questions(columns: int, work: Path, tmp_path: Path, running: RunningEmulator) -> None:
    state = tmp_path / "state"
    terminal = Terminal(columns, work, {**running.variables, "RUNNER_STATE_DIR": str(state)})
    terminal.run("runner init support", typed=f"{MODEL}\nsample\n5\n")
    terminal.run("cd support && runner plan -f jobs/ -q")
    terminal.run(f"runner models show {MODEL}")
    # The price, the target and the question stand in one line; nobody agrees.
    submit = f"runner jobs submit --train jobs/data/train.jsonl --model {MODEL} --epochs 1"
    assert terminal.run(submit, typed="n\n") == 7
    terminal.variables.pop("RUNNER_ENVIRONMENT")
    terminal.run("runner context ls")
    terminal.run("runner context add acme --project acme-ml --location europe-west4")
    terminal.run("runner use acme")
    terminal.run("runner context show")
    terminal.run("runner use emulator")
    assert terminal.run("runner jobs ls") == 69
    text = terminal.transcript(home=tmp_path)
    assert "acme-local (emulator, us-central1, nothing is charged)" in text
    check(f"contexts-{columns}", text)
