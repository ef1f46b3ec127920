"""The one command that measures everything: what it says, and that the document is what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import SUBJECTS, summary
from benchmarks.goals import document, machine
from benchmarks.goals.figures import Figure, Run, at_least, at_most, to_json

ROOT = Path(__file__).parents[1]


def test_the_document_is_made_of_the_record() -> None:
    record = json.loads(document.RECORD.read_text())
    text = document.DOCUMENT.read_text()
    assert document.replaced(text, document.render(record)) == text, "python -m benchmarks --write makes it"


def test_a_missed_goal_is_shown_as_missed(tmp_path: Path) -> None:
    run = Run(3, "full", tmp_path, subject="Serving")
    run.compare("tokens a second", [30, 10, 20], [10, 10, 10], unit="/s", peer="a peer", goal=at_least(2))
    run.compare("time to the first text", [3, 4, 5], [4, 4, 4], unit="s", peer="a peer", goal=at_most(0.5))
    run.value("memory", [80], unit="MB", goal=at_most(100))
    met, missed, alone = run.figures
    assert (met.met, missed.met, alone.met) == (True, False, True)
    assert met.ratio is not None
    assert (met.ratio.least, met.ratio.median, met.ratio.greatest) == (1, 2, 3)
    record = {**json.loads(document.RECORD.read_text()), "figures": to_json(run.figures), "failed": [], "notes": {}}
    assert [Figure.from_json(one) for one in record["figures"]] == run.figures
    text = document.render(record)
    assert "Goals: 2 of 3 met, 1 missed." in text
    row = next(line for line in text.splitlines() if line.startswith("| time to the first text"))
    assert row.endswith("| 4 s (3 to 5) | 4 s (4 to 4) | 1 x (0.75 to 1.25) | at most 0.5 x | **missed** |")
    assert "missed: Serving: time to the first text" in summary(record)


def test_measuring_one_subject_keeps_the_others() -> None:
    before = {**json.loads(document.RECORD.read_text()), "kept": {}}  # as if all of it had been measured at once
    serving = [one for one in before["figures"] if one["subject"] == "Serving"]
    again = {
        **before,
        "date": "1 June 2030",
        "commit": "abc",
        "figures": serving[:2],
        "notes": {},
        "peers": {"torch": "9"},
    }
    record = document.merged(before, again)
    others = [one for one in before["figures"] if one["subject"] != "Serving"]
    assert [one for one in record["figures"] if one["subject"] != "Serving"] == others
    assert [one for one in record["figures"] if one["subject"] == "Serving"] == serving[:2]
    assert record["peers"] == {**before["peers"], "torch": "9"}
    assert "Serving" not in record["notes"]
    text = document.render(record)
    assert text.startswith("Measured on 1 June 2030 at commit `abc`")
    kept = f"Measured on {before['date']} at commit `{before['commit']}`."
    assert text.count(kept) == len({one["subject"] for one in others})
    # Measured again, a subject is not said to be kept; what was kept keeps its date.
    twice = document.merged(record, {**before, "date": "2 June 2030", "figures": others[:1], "notes": {}})
    assert others[0]["subject"] not in twice["kept"]
    assert twice["kept"]["Serving"] == "1 June 2030 at commit `abc`"
    everything = document.merged(record, before)
    assert (everything["figures"], everything["kept"]) == (before["figures"], {})


def test_a_machine_that_others_use_is_not_quiet() -> None:
    assert machine.Look(0.1, 0.0, 0.3, ()).quiet
    assert not machine.Look(0.9, 0.0, 1.2, ("cc1",)).quiet
    assert not machine.Look(0.0, 0.4, 0.3, ()).quiet
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while not (seen := machine.look()).busiest:  # until it has had its turn, where many want one
            pass
        assert not seen.quiet
    finally:
        busy.kill()
        busy.wait()


def test_the_record_says_what_was_not_quiet() -> None:
    record = json.loads(document.RECORD.read_text())
    loud = {"busyCores": 1.5, "stolenCores": 0.0, "quiet": False, "load": 3.0, "busiest": ["mypy"]}
    text = document.render({**record, "looks": [*record["looks"], loud]})
    assert "**The machine was not idle**" in text
    assert "mypy" in text


@pytest.mark.parametrize("subject", ["transfers"])
def test_a_subject_runs_and_its_record_is_whole(subject: str, tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "benchmarks", "--size", "tiny", "--only", subject, "--output", str(record)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode in (0, 1, 2), done.stderr  # which one is for the machine to say
    body = json.loads(record.read_text())
    assert body["failed"] == [], done.stderr
    assert {figure["subject"] for figure in body["figures"]} == {SUBJECTS[subject]}
    assert body["peers"]
    assert body["size"] == "tiny"


@pytest.mark.training
def test_the_gpu_benchmark_runs_in_tiny_shapes(tmp_path: Path) -> None:
    record = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--size", "tiny", "--output", str(record)]
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    found = json.loads(record.read_text())["found"]
    checks = [name for name, one in found.items() if "passed" in one]
    assert {name.split(":")[0] for name in checks} >= {"resume", "out of memory", "catalog", "shape, FULL"}
