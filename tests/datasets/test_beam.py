"""Checks, conversions and splits in Apache Beam pipelines: same findings, same order, same numbers, same bytes."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import subprocess
import zipfile
from importlib import util
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from runner.datasets.checking.ranges import Settings, totals_of_range
from runner.datasets.checking.totals import Totals
from runner.datasets.checks import check_files
from runner.datasets.distributed.pipelines import Beam
from runner.datasets.distributed.pricing import estimate
from runner.datasets.distributed.transport import add_up, decode, encode
from runner.datasets.examples import Format
from runner.datasets.records.lines import LineMaker
from runner.datasets.records.local_images import image_reader
from runner.datasets.rewriting.converting import convert_file, convert_range, reshaper_for
from runner.datasets.rewriting.outcome import Outcome
from runner.datasets.rewriting.splitting import Part, split_file
from runner.errors import ConfigurationError, EngineMissingError
from runner.gcp import uploads
from runner.gcp.session import Session
from runner.installation import install_hint
from tests.cli.invocation import process
from tests.datasets.test_fast_path import all_lines, same
from tests.made_environments import python_with_beam

SETTINGS = Settings(ratio=0.25, limit=2000, name="t.jsonl", near=True)
PROGRAM = Path(__file__).with_name("beam_program.py")


def dataset(folder: Path, seed: int = 1) -> Path:
    lines = all_lines()
    random.Random(seed).shuffle(lines)
    path = folder / "t.jsonl"
    path.write_bytes(b"\n".join(lines))
    return path


def sound(folder: Path) -> Path:
    """A dataset without errors, in which prompts and examples repeat across all ranges."""
    chance = random.Random(3)
    path = folder / "sound.jsonl"
    with path.open("w") as stream:
        for number in range(600):
            answer = "x" * chance.randrange(1, 4) * 100
            stream.write(json.dumps({"prompt": f"p {chance.randrange(400)}", "completion": answer}))
            stream.write("\n\n" if number % 97 == 5 else "\n")
    return path


def test_summaries_add_up_in_any_grouping(tmp_path: Path) -> None:
    path = dataset(tmp_path)
    size = path.stat().st_size
    whole = totals_of_range(path, 0, size, SETTINGS)
    same(decode(encode(whole), Totals), whole)
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
        same(decode(data, Totals), whole)
    assert decode(encode(Totals()), Totals) == Totals()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    path = dataset(folder)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()[:60_000])
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sound(tmp_path_factory.mktemp("good"))


CUTS = some.lists(some.integers(1, 59_999), max_size=8, unique=True).map(sorted)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CUTS, some.sampled_from(["chat", "prompt_completion", "generate_content"]), some.booleans())
def test_a_conversion_in_ranges_is_that_of_the_whole(
    mixed: Path, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], form: str, compiled: bool
) -> None:
    output = tmp_path_factory.mktemp("converted") / "o.jsonl"
    kind = cast("Format", form)
    expected = convert_file(mixed, output, kind, compiled=compiled)
    ends = [0, *cuts, mixed.stat().st_size]
    made, written, before = Outcome(output=output), b"", 0
    for start, end in pairwise(ends):
        target = io.BytesIO()
        maker = LineMaker(kind, image_reader(mixed))
        with mixed.open("rb") as stream:
            part, lines = convert_range(stream, start, end, target, maker, reshaper_for(kind, compiled=compiled))
        made.add(part, before - (1 if start else 0))
        written += target.getvalue()
        before += lines
    assert written == output.read_bytes()
    kept = ("read", "rows", "skipped", "counts", "changes", "notCarriedOver")
    assert {key: made.to_json()[key] for key in kept} == {key: expected.to_json()[key] for key in kept}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cuts=CUTS)
def test_the_prompts_of_ranges_are_those_of_the_whole(good: Path, cuts: list[int]) -> None:
    path = good
    size = path.stat().st_size
    ends = [0, *[cut for cut in cuts if cut < size], size]
    with path.open("rb") as stream:
        whole = Part.read(stream, 0, size, "").groups(stream)
        added: dict[int, list[int]] = {}
        for start, end in pairwise(ends):
            for prompt, (count, octets) in Part.read(stream, start, end, "").groups(stream).items():
                group = added.setdefault(prompt, [0, 0])
                group[0] += count
                group[1] += octets
    assert added == whole


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return python_with_beam(tmp_path_factory.mktemp("beam"))


def test_pipelines_of_several_workers_do_what_this_machine_does(python: Path, good: Path, tmp_path: Path) -> None:
    broken = dataset(tmp_path)
    validation = tmp_path / "v.jsonl"
    validation.write_bytes(b"\n".join(broken.read_bytes().split(b"\n")[:40]))
    processes, threads = "multi_processing", "multi_threading"
    there, here = tmp_path / "there", tmp_path / "here"
    there.mkdir()
    here.mkdir()

    def task(what: str, path: Path, mode: str = threads, **more: Any) -> dict[str, Any]:
        return {"what": what, "path": str(path), "mode": mode, "range_bytes": path.stat().st_size // 7, **more}

    sides = [str(there / "t.jsonl"), str(there / "v.jsonl")]
    tasks = [
        task("check", broken, processes, validation=str(validation)),
        task("check", good, validation=str(good)),
        task("convert", good, processes, output=str(there / "chats.jsonl"), form="chat"),
        task("convert", broken, output=str(there / "first.jsonl"), form=None),
        task("split", good, outputs=sides, share=0.1, seed=7),
        task("split", broken, outputs=[f"{name}.none" for name in sides], share=0.1, seed=7),
    ]
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    done = subprocess.run(
        [python, "-I", PROGRAM, tmp_path / "tasks.json"], capture_output=True, text=True, timeout=500, check=False
    )
    assert not done.returncode, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["package"].startswith(str(python.parents[1])), "what runs there is the wheel"
    assert answer["compiled"] == (util.find_spec("runner_native") is not None)
    findings, repeated, chats, first, divided, refused = answer["found"]

    expected = check_files(broken, validation, near_duplicates=True, workers=1)
    assert findings == expected.to_json()
    assert len(expected.training.counts) > 35
    assert repeated == check_files(good, good, near_duplicates=True, workers=1).to_json()
    assert {"duplicate-example", "conflicting-answers", "leakage"} <= {item["code"] for item in repeated["findings"]}

    def local(made: dict[str, Any]) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(json.dumps(made).replace(str(here), str(there))))

    assert chats == local(convert_file(good, here / "chats.jsonl", "chat").to_json())
    assert first == local(convert_file(broken, here / "first.jsonl").to_json())
    made = split_file(good, here / "t.jsonl", here / "v.jsonl", share=0.1, seed=7)
    assert divided == local(made.to_json())
    for name in ("chats.jsonl", "first.jsonl", "t.jsonl", "v.jsonl"):
        assert (there / name).read_bytes() == (here / name).read_bytes(), name
    assert refused["error"]["code"] == "dataset"
    assert not list(there.glob("*.none"))


def test_nothing_starts_on_dataflow_before_its_price_is_agreed_to(
    python: Path, good: Path, session: Session, tmp_path: Path
) -> None:
    environment = session.environment
    uri = f"gs://{environment.datasets_bucket}/train.jsonl"
    uploads.upload_file(session, good, uri)
    variables = {
        **{key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        "RUNNER_PROJECT": environment.project,
        "RUNNER_VERTEX_URL": environment.vertex_url or "",
        "RUNNER_STORAGE_URL": environment.storage_url or "",
        "RUNNER_TOKEN": "a-token",
        "RUNNER_STATE_DIR": str(tmp_path),
    }
    command = [
        str(python),
        "-P",
        "-m",
        "runner",
        "data",
        "check",
        uri,
        "--engine",
        "beam",
        "--runner",
        "DataflowRunner",
    ]
    command += ["--runner", "DataflowRunner", "--format", "json"]
    command += ["--pipeline", f"temp_location=gs://{environment.outputs_bucket}/tmp"]
    for limit in ([], ["--max-cost", "0.001"]):
        done = subprocess.run(
            [*command, *limit], capture_output=True, text=True, timeout=120, env=variables, cwd=tmp_path, check=False
        )
        error = json.loads(done.stderr.splitlines()[-1])["error"]
        assert (done.returncode, error["code"]) == (7, "cost_refused"), done.stderr
        assert f"Dataflow in {environment.project}, us-central1" in error["message"]


def test_workers_elsewhere_get_this_code_and_a_job_has_one_name(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: name)
    beam = Beam("DataflowRunner", ["--temp_location=gs://a-bucket/tmp"])
    with contextlib.ExitStack() as stack:
        options = beam.staged("check", good, stack)
        assert all(ANY_WHEEL.match(option) for option in options[1:])
        packages = [Path(option.partition("=")[2]) for option in options[1:]]
        names = [name for path in packages for name in zipfile.ZipFile(path).namelist()]
        assert "runner/datasets/distributed/checking.py" in names
        again = beam.staged("check", good, stack)
        assert options[0] == again[0] != beam.staged("split", good, stack)[0]


ANY_WHEEL = re.compile(r"--extra_package=.*/open_model_tuning(_native)?-[^/]+\.whl$")


def test_a_plan_says_what_dataflow_would_cost_and_starts_nothing(tmp_path: Path) -> None:
    path = sound(tmp_path)
    for words in (["check", str(path)], ["stats", str(path)], ["convert", str(path), "--output", "o.jsonl"]):
        outcome = process("data", *words, "--engine", "beam", "--dry-run", "--format", "json")
        assert outcome.code == 0, outcome
        assert outcome.document["bytes"] == path.stat().st_size
        assert 0 < outcome.document["usd"]["expected"] < outcome.document["usd"]["high"] < 0.1
    small, large = estimate("check", 10**9), estimate("check", 10**13)
    assert large.usd > 500 * small.usd
    refused = process("data", "check", str(path), "--dry-run", "--format", "json")
    assert (refused.code, refused.error["hint"]) == (2, "add --engine beam")


@pytest.mark.skipif(util.find_spec("apache_beam") is not None, reason="apache-beam is here")
def test_without_beam_the_hint_says_what_to_install() -> None:
    with pytest.raises(EngineMissingError) as caught:
        Beam()
    assert caught.value.hint == install_hint("beam")


def test_what_a_pipeline_elsewhere_cannot_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: name)
    path = dataset(tmp_path)
    with pytest.raises(ConfigurationError, match="place for its result"):
        Beam("DataflowRunner")
    with pytest.raises(ConfigurationError, match="on this machine"):
        Beam("DataflowRunner", ["--temp_location=gs://a-bucket/tmp"]).require_readable(path)
    packed = tmp_path / "t.jsonl.gz"
    packed.write_bytes(b"\x1f\x8b\x08\x00")
    with pytest.raises(ConfigurationError, match="compressed"):
        Beam().require_readable(packed)
