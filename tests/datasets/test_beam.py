"""The same check in an Apache Beam pipeline: same findings, same order, same numbers."""

from __future__ import annotations

import random
from importlib import util
from pathlib import Path

import pytest

from runner.datasets.checking.beam import add_up, beam_engine, decode, encode
from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.checking.totals import Totals
from runner.datasets.checks import check_files
from runner.errors import ConfigurationError, EngineMissingError
from runner.installation import install_hint
from tests.datasets.test_fast_path import all_lines, same

SETTINGS = Settings(ratio=0.25, limit=2000, name="t.jsonl", near=True)
needs_beam = pytest.mark.skipif(util.find_spec("apache_beam") is None, reason="needs apache-beam")


def dataset(folder: Path, seed: int = 1) -> Path:
    lines = all_lines()
    random.Random(seed).shuffle(lines)
    path = folder / "t.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


def test_summaries_add_up_in_any_grouping(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    size = path.stat().st_size
    whole = totals_of_range(path, 0, size, SETTINGS)
    same(decode(encode(whole)), whole)
    step = size // 23
    parts = [
        (index, index, encode(totals_of_range(path, start, min(start + step, size), SETTINGS)))
        for index, start in enumerate(range(0, size, step))
    ]
    for seed in range(5):
        draw = random.Random(seed)
        groups = [[part] for part in parts]
        while len(groups) > 1:
            draw.shuffle(groups)
            count = draw.randint(2, min(6, len(groups)))
            groups = [add_up(groups[:count]), *groups[count:]]
        ((first, last, data),) = groups[0]
        assert (first, last) == (0, len(parts) - 1)
        same(decode(data), whole)
    assert decode(encode(Totals())) == Totals()


@needs_beam
def test_a_pipeline_finds_what_the_local_check_finds(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    validation = tmp_path / "v.jsonl"
    validation.write_bytes(b"\n".join(path.read_bytes().split(b"\n")[:40]))
    expected = check_files(path, validation, near_duplicates=True, workers=1)
    engine = beam_engine("DirectRunner", range_bytes=path.stat().st_size // 7)
    found = check_files(path, validation, near_duplicates=True, engine=engine)
    assert found.findings == expected.findings
    assert found.to_json() == expected.to_json()
    assert len(found.training.counts) > 35


@needs_beam
def test_what_a_pipeline_elsewhere_cannot_read_is_refused(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    with pytest.raises(ConfigurationError, match="place for its result"):
        beam_engine("DataflowRunner")
    engine = beam_engine("DataflowRunner", ["--temp_location=gs://a-bucket/tmp"])
    with pytest.raises(ConfigurationError, match="on this machine"):
        check_files(path, engine=engine)
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="compressed"):
        check_files(packed, engine=beam_engine())


@pytest.mark.skipif(util.find_spec("apache_beam") is not None, reason="apache-beam is here")
def test_without_beam_the_hint_says_what_to_install() -> None:
    with pytest.raises(EngineMissingError) as caught:
        beam_engine()
    assert caught.value.hint == install_hint("beam")
