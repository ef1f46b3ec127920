"""`split_file` holds out the share of the examples that was asked for, however long they are, or says why it cannot."""

from __future__ import annotations

import json
import math
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from runner.datasets.checks import MAX_VALIDATION_ROWS, check_files
from runner.datasets.rewriting.splitting import Split, split_file
from runner.errors import ConfigurationError

Row = tuple[str, int]
"""Prompt and length of the answer."""


def lines_of(rows: list[Row]) -> list[bytes]:
    return [
        json.dumps({"prompt": prompt, "completion": f"{number} " + "x" * length}).encode() + b"\n"
        for number, (prompt, length) in enumerate(rows)
    ]


def split(folder: str, rows: list[Row], share: float, seed: int = 0) -> Split:
    path = Path(folder, "all.jsonl")
    path.write_bytes(b"".join(lines_of(rows)))
    targets = [Path(tempfile.mkdtemp(dir=folder), name) for name in ("t.jsonl", "v.jsonl")]
    return split_file(path, *targets, share=share, seed=seed)


def held_out(made: Split) -> set[str]:
    return set(made.validation.path.read_text().splitlines())


# From even lengths to one example that is as long as all others together.
LENGTHS = some.one_of(
    some.lists(some.integers(1, 200), min_size=20, max_size=150),
    some.builds(
        lambda seed, tail, count: [
            int(10 * random.Random(seed + n).paretovariate(tail)) % 200_000 for n in range(count)
        ],
        some.integers(0, 10_000),
        some.floats(0.5, 3),
        some.integers(20, 150),
    ),
    some.builds(
        lambda lengths, place: [*lengths[:place], 60 * sum(lengths) // 100, *lengths[place:]],
        some.lists(some.integers(100, 200), min_size=20, max_size=150),
        some.integers(0, 19),
    ),
)


@settings(max_examples=150, deadline=None)
@given(lengths=LENGTHS, share=some.sampled_from([0.01, 0.05, 0.1, 0.15, 0.2]), seed=some.integers(0, 99))
def test_the_share_is_of_examples(lengths: list[int], share: float, seed: int) -> None:
    rows = [(f"q{number}", length) for number, length in enumerate(lengths)]
    wanted = max(1, round(share * len(rows)))
    sizes = sorted(map(len, lines_of(rows)))
    reachable = next(
        count for count in range(wanted, -1, -1) if sum(sizes[:count]) <= 0.25 * (sum(sizes) - sum(sizes[:count]))
    )
    with tempfile.TemporaryDirectory() as folder:
        if not reachable:
            with pytest.raises(ConfigurationError, match="bytes"):
                split(folder, rows, share, seed)
            return
        made = split(folder, rows, share, seed)
        assert made.chosen.wanted == wanted
        assert made.validation.rows == reachable
        assert bool(made.chosen.obstacles) == (reachable < wanted)
        assert made.training.rows + made.validation.rows == len(rows)
        assert check_files(made.training.path, made.validation.path).errors == []


@settings(max_examples=100, deadline=None)
@given(
    lengths=LENGTHS,
    prompts=some.integers(2, 60),
    share=some.sampled_from([0.05, 0.1, 0.2]),
    seed=some.integers(0, 99),
)
def test_prompts_stay_together_and_what_is_missing_is_named(
    lengths: list[int], prompts: int, share: float, seed: int
) -> None:
    rows = [(f"q{math.isqrt(number * 7) % prompts}", length) for number, length in enumerate(lengths)]
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = split(folder, rows, share, seed)
        except ConfigurationError as error:
            refused = error.message
        else:
            refused = ""
        if refused:
            assert "bytes" in refused or "together" in refused or "two different" in refused
            return
        assert 0 < made.validation.rows <= made.chosen.wanted
        assert bool(made.chosen.obstacles) == (made.validation.rows < made.chosen.wanted)
        sides = [
            {json.loads(line)["prompt"] for line in file.read_text().splitlines()}
            for file in (made.training.path, made.validation.path)
        ]
        assert not sides[0] & sides[1]
        assert check_files(made.training.path, made.validation.path).errors == []


@pytest.mark.parametrize("tail", [1.2, 2.0, 8.0])
def test_adding_examples_moves_few_others(tail: float, tmp_path: Path) -> None:
    draw = random.Random(3)
    rows = [(f"q{number}", int(50 * draw.paretovariate(tail))) for number in range(1100)]
    first, second = (held_out(split(str(tmp_path), some_rows, 0.1)) for some_rows in (rows[:1000], rows))
    old = {line.decode().rstrip("\n") for line in lines_of(rows[:1000])}
    # A hundred more examples: ten of them are held out, which may push as many out and pull as many in.
    assert len((first ^ second) & old) <= 25


def test_no_more_rows_than_the_service_takes(tmp_path: Path) -> None:
    made = split(str(tmp_path), [(f"q{number}", 1) for number in range(30_000)], 0.2)
    assert (made.validation.rows, made.chosen.wanted) == (MAX_VALIDATION_ROWS, 6000)
    assert made.chosen.obstacles == ("the service takes at most 5000 rows",)
