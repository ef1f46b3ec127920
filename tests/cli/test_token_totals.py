"""Every place that says how many tokens a file has for a model's mode says the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from runner.catalog import models
from runner.datasets.checks import check_files
from runner.datasets.reports.histograms import offers
from runner.jobs.estimate import estimate, statistics_of
from runner.jobs.specification import TuningJobSpec
from tests.cli.invocation import CommandLine

OFFERED = [(model, mode) for model in models() for mode in model.modes]


def row(characters: int, images: int) -> dict[str, Any]:
    """Return a chat whose texts have so many characters."""
    urls = [{"type": "image_url", "image_url": {"url": f"gs://bucket/{number}.png"}} for number in range(images)]
    question: Any = [{"type": "text", "text": "q"}, *urls] if images else "q"
    answer = {"role": "assistant", "content": "a" * (characters - 1)}
    return {"messages": [{"role": "user", "content": question}, answer]}


# Short texts, at which rounding counts most, and texts about the models' limits of 4,096 to 131,072 tokens.
LENGTHS = some.one_of(some.integers(2, 60), some.integers(12_000, 36_000), some.integers(400_000, 600_000))


@settings(max_examples=25, deadline=None)
@given(
    lengths=some.lists(LENGTHS, min_size=1, max_size=40),
    pictured=some.lists(some.tuples(LENGTHS, some.integers(1, 6)), max_size=6),
)
def test_check_stats_and_estimate_count_the_same(lengths: list[int], pictured: list[tuple[int, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "t.jsonl")
        rows = [row(length, 0) for length in lengths] + [row(*size) for size in pictured]
        path.write_text("".join(json.dumps(each) + "\n" for each in rows))
        offered = {(offer.model, offer.mode): offer for offer in offers(check_files(path))}
        for model, mode in OFFERED:
            if pictured and not model.images:
                assert (model.id, mode) not in offered
                continue
            report = check_files(path, model=model, mode=mode)
            file, offer = report.training, offered[model.id, mode]
            assert offer.kept == file.kept == file.tokens.counts.total()
            assert offer.tokens == file.tokens.total
            # A check for one model knows the same of all others.
            assert {(other.model, other.mode): other for other in offers(report)} == offered
            spec = TuningJobSpec(base_model=model.id, mode=mode, training_dataset="gs://b/t.jsonl")
            found = estimate(spec, statistics_of(report))
            assert found.tokens == file.tokens.total
            if found.known:
                assert found.low is not None
                assert found.expected is not None
                assert found.high is not None
                assert found.low <= found.expected <= found.high
            dropped = {finding.line for finding in report.findings if finding.code == "over-length"}
            first = len(lengths) + 1 if pictured else 1
            assert len(set(range(first, len(rows) + 1)) - dropped) == file.kept


@pytest.mark.parametrize("pictured", [False, True])
def test_commands_name_the_same_tokens(run: CommandLine, tmp_path: Path, pictured: bool) -> None:
    path = tmp_path / "t.jsonl"
    sizes = [(length, int(pictured)) for length in [*range(7, 160), 13_000, 33_000, 420_000, 560_000]]
    path.write_text("".join(json.dumps(row(*size)) + "\n" for size in sizes))
    everything = run("data", "stats", str(path), "--format", "json").document["offers"]
    offered = {(offer["model"], offer["mode"]): offer for offer in everything}
    assert len(offered) == len([1 for model, _ in OFFERED if model.images or not pictured])
    for (model, mode), offer in offered.items():
        options = (str(path), "--model", model, "--mode", mode, "--format", "json")
        checked = run("data", "check", *options).document["files"][0]
        shown = run("data", "stats", *options).document
        estimated = run("estimate", *options).document
        numbers = {
            checked["tokens"]["sum"],
            offer["tokensPerEpoch"],
            shown["files"][0]["tokens"]["sum"],
            shown["offers"][0]["tokensPerEpoch"],
            estimated["tokensPerEpoch"],
        }
        assert len(numbers) == 1, (model, mode, numbers)
        assert checked["kept"] == offer["kept"] == shown["files"][0]["kept"]
