"""Manifests as files: what is refused, with which words, and what a sweep becomes. No service is asked."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path

import hypothesis
import jsonschema
import pytest
from hypothesis import strategies as st

from runner.datasets.upload import object_name, object_named
from runner.environment import Environment
from runner.errors import ConfigurationError
from runner.jobs.manifests import located_yaml, reading
from runner.jobs.manifests.data import sha256_of
from runner.jobs.manifests.schema import json_schema
from tests.cli.invocation import CommandLine
from tests.jobs.manifests.folder import MODEL, Manifests

ROOT = Path(__file__).parents[3]
HEAD = "apiVersion: open-model-tuning/v1\nkind: TuningJob\n"
ENVIRONMENT = Environment(project="p", datasets_bucket="data", outputs_bucket="outputs")


def problems_of(folder: Path, text: str) -> list[str]:
    """Return everything wrong with one file, its folder left out."""
    (folder / "m.yaml").write_text(text)
    loaded = reading.load([folder / "m.yaml"])
    found = [*loaded.problems, *reading.check(loaded.jobs, ENVIRONMENT)]
    return [problem.removeprefix(f"{folder}/") for problem in found]


def test_all_mistakes_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        HEAD
        + """metadata:
  name: Tone
  lables: {}
spec:
  baseModel: meta/llama3_1@llama-3.1-8b
  hyperparameters:
    epochs: "3"
    learningrate: 1e-4
    batchSize: 0
  data: {}
  retry: 1
"""
    )
    assert problems_of(tmp_path, text) == [
        "m.yaml:4: metadata.name: 'Tone' is not a name: a-z, 0-9 and -, from a letter on, at most 40 characters",
        "m.yaml:5: metadata.lables: unknown field; did you mean labels?",
        "m.yaml:9: spec.hyperparameters.epochs: '3' is not a whole number",
        "m.yaml:11: spec.hyperparameters.batchSize: 0 is not at least 1",
        "m.yaml:10: spec.hyperparameters.learningrate: unknown field; did you mean learningRate?",
        "m.yaml:12: spec.data.train: is missing",
        "m.yaml:13: spec.retry: 1 is not a mapping",
    ]


def test_the_catalogue_is_asked(manifests: Manifests) -> None:
    manifests.add("wrong", hyper="{epochs: 1, adapterSize: 8}", spec="mode: FULL\noutput: gs://bucket/x")
    path = manifests.add("unknown")
    path.write_text(path.read_text().replace(MODEL, "meta/llama9"))
    loaded = reading.load([manifests.folder])
    found = [line.removeprefix(f"{manifests.folder}/") for line in reading.check(loaded.jobs, ENVIRONMENT)]
    assert found[0].startswith("unknown.yaml:5: spec.baseModel: 'meta/llama9' is not in the catalog")
    assert found[1:] == ["wrong.yaml:6: spec.hyperparameters.adapterSize: only mode PEFT_ADAPTER has one"]


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ("{}", "maximum is missing: the highest validation loss that opens the gate"),
        ("{metric: chrF}", "give one of baseModel and baseEndpoint: what to compare with"),
        (
            "{metric: chrF, baseModel: a, baseEndpoint: b}",
            "give one of baseModel and baseEndpoint: what to compare with",
        ),
        ("{metric: chrF, baseModel: a, maximum: 2}", "maximum goes with metric validationLoss"),
        (
            "{maximum: 2, baseModel: a}",
            "questions, baseModel and baseEndpoint go with a metric of answers, such as chrF",
        ),
    ],
)
def test_a_gate_is_one_of_two_kinds(manifests: Manifests, section: str, problem: str) -> None:
    path = manifests.add("gated", spec=f"evaluation: {section}")
    line = 1 + path.read_text().splitlines().index(f"  evaluation: {section}")
    shown = [item.removeprefix(f"{manifests.folder}/") for item in reading.load([manifests.folder]).problems]
    assert shown == [f"gated.yaml:{line}: spec.evaluation: {problem}"]


def test_files_and_names(manifests: Manifests) -> None:
    manifests.add("one", data="{train: absent.jsonl}")
    twin = manifests.add("two")
    twin.write_text(twin.read_text().replace("name: two", "name: one"))
    (manifests.folder / "empty.yml").write_text("# nothing\n")
    loaded = reading.load([manifests.folder, manifests.folder / "absent.yaml"])
    found = [*loaded.problems, *reading.check(loaded.jobs, ENVIRONMENT)]
    shown = [line.replace(f"{manifests.folder}/", "") for line in found]
    assert shown == [
        "empty.yml:1: holds no manifest",
        "two.yaml:3: metadata.name: 'one' is the name of the job in one.yaml:1 too",
        "absent.yaml: no such file",
        "one.yaml:7: spec.data.train: absent.jsonl: no such file",
    ]
    with pytest.raises(ConfigurationError) as caught:
        loaded.raise_for_problems()
    assert len(caught.value.problems) == 3


def test_a_merge_conflict_is_named(manifests: Manifests) -> None:
    path = manifests.add("one")
    ours, theirs = "  maxCost: 5\n", "  maxCost: 6\n"
    path.write_text(f"{path.read_text()}<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> theirs\n")
    assert reading.load([path]).problems == [f"{path}:8: a merge conflict that nobody has resolved"]


def test_data_that_a_checkout_has_not_fetched(manifests: Manifests, idle: CommandLine) -> None:
    manifests.add("one")
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12345\n"
    (manifests.folder / "train.jsonl").write_text(pointer)
    outcome = idle("plan", "-f", str(manifests.folder), "--json")
    assert outcome.code == 1
    assert "`git lfs pull`" in outcome.err
    assert "one.yaml:7: spec.data.train: the file is a pointer of Git LFS, not the file itself" in outcome.err


def test_what_is_no_file_is_no_missing_manifest(manifests: Manifests) -> None:
    """Else pruning would cancel the job of a manifest that is a broken link."""
    manifests.add("one")
    (manifests.folder / "gone.yaml").symlink_to("elsewhere.yaml")
    (manifests.folder / "circle.yaml").symlink_to("circle.yaml")
    os.mkfifo(manifests.folder / "pipe.yaml")
    (manifests.folder / "again.yaml").symlink_to("one.yaml")
    (manifests.folder / "up").symlink_to("..")
    (manifests.folder / "list.yaml").mkdir()
    loaded = reading.load([manifests.folder, manifests.folder / "circle.yaml"])
    assert [problem.removeprefix(f"{manifests.folder}/") for problem in loaded.problems] == [
        "circle.yaml: a link that leads in a circle",
        "gone.yaml: a link to elsewhere.yaml, which is not there",
        "pipe.yaml: neither a file nor a folder",
        "circle.yaml: a link that leads in a circle",
    ]
    assert [job.name for job in loaded.jobs] == ["one"]


def test_what_is_hidden_in_a_folder_is_no_manifest(tmp_path: Path) -> None:
    folder = tmp_path / ".tuning" / "jobs"
    (folder / ".github" / "workflows").mkdir(parents=True)
    (folder / ".github" / "workflows" / "tuning.yml").write_text("on: push\n")
    (folder / ".pre-commit-config.yaml").write_text("repos: []\n")
    Manifests(folder).add("one")
    loaded = reading.load([folder])
    assert (loaded.problems, [job.name for job in loaded.jobs]) == ([], ["one"])
    (folder / "one.yaml").unlink()
    assert reading.load([folder]).problems == [f"{folder}: holds no .yaml or .yml file"]
    assert reading.load([folder / ".pre-commit-config.yaml"]).problems


def test_jobs_that_continue_others(manifests: Manifests) -> None:
    base = manifests.add("base")
    for name, cause in (("next", "base"), ("typo", "bse"), ("left", "right"), ("right", "left")):
        path = manifests.add(name, spec=f"from: {cause}")
        path.write_text(path.read_text().replace(f"  baseModel: {MODEL}\n", ""))
    other = manifests.add("other", spec="from: base")
    other.write_text(other.read_text().replace(MODEL, "qwen/qwen3@qwen3-4b"))
    loaded = reading.load([manifests.folder])
    assert [job.name for job in loaded.jobs][:2] == ["base", "right"]
    found = "\n".join(loaded.problems)
    assert "typo.yaml" in found
    assert "no manifest is named 'bse'; did you mean 'base'?" in found
    assert "left -> right -> left is a cycle" in found
    assert f"spec.baseModel: base tunes {MODEL}; tuning on from it needs the same" in found
    by_name = {job.name: job for job in loaded.jobs}
    assert by_name["next"].spec.base_model == by_name["base"].spec.base_model
    assert base.exists()


def test_a_sweep_is_named_by_its_values(manifests: Manifests) -> None:
    sweep = (
        "sweep:\n  maxCost: 3\n"
        "  grid: {learningRate: [1e-4, 2.5e-5], mode: [FULL]}\n"
        "  paired: {epochs: [1, 2], batchSize: [8, 16]}"
    )
    manifests.add("tone", spec=f"output: gs://bucket/out\n{sweep}", hyper="{}")
    loaded = reading.load([manifests.folder])
    assert loaded.problems == []
    assert [job.name for job in loaded.jobs] == [
        "tone-full-lr1e-4-e1-b8",
        "tone-full-lr1e-4-e2-b16",
        "tone-full-lr2p5e-5-e1-b8",
        "tone-full-lr2p5e-5-e2-b16",
    ]
    first = loaded.jobs[1]
    assert (first.spec.epochs, first.spec.batch_size, first.spec.learning_rate) == (2, 16, 1e-4)
    assert first.spec.output_uri == "gs://bucket/out/tone-full-lr1e-4-e2-b16"
    assert {job.sweep_max_cost for job in loaded.jobs} == {3.0}


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{maxCost: 1}", "gives no values"),
        ("{grid: {epochs: [1]}}", "maxCost: is missing"),
        ("{maxCost: 1, paired: {epochs: [1, 2], batchSize: [1]}}", "epochs has 2, batchSize has 1"),
        ("{maxCost: 1, grid: {epochs: [1]}, paired: {epochs: [2]}}", "paired.epochs: is in grid too"),
        ("{maxCost: 1, grid: {epochs: [1, 1]}}", "it contains the same values twice"),
        (f"{{maxCost: 1, grid: {{epochs: {list(range(1, 20))}, batchSize: {list(range(1, 20))}}}}}", "makes 361 jobs"),
    ],
)
def test_sweeps_that_are_wrong(sweep: str, message: str, manifests: Manifests) -> None:
    manifests.add("tone", spec=f"sweep: {sweep}", hyper="{}")
    (problem,) = reading.load([manifests.folder]).problems
    assert message in problem


def test_a_sweep_and_a_value(manifests: Manifests) -> None:
    manifests.add("tone", spec="sweep: {maxCost: 1, grid: {epochs: [1, 2]}}", hyper="{epochs: 3}")
    (problem,) = reading.load([manifests.folder]).problems
    assert problem.endswith("spec.hyperparameters.epochs: is in the sweep too")


def test_plain_values_are_those_of_yaml_1_2() -> None:
    (document,), problems = located_yaml.read(b"a: no\nb: 2e-5\nc: 0123\nd: 1_000\ne: '3'\nf: ~\ng: 1.5\nh: on\n")
    assert problems == []
    assert document.plain() == {
        "a": "no", "b": 2e-5, "c": 123, "d": "1_000", "e": "3", "f": None, "g": 1.5, "h": "on"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: 2\na: 3\n", "3: key 'a' appears twice, first in line 1"),
        (b"a: !!python/object/apply:os.system [id]\n", "1: tags such as"),
        (b"base: &b {x: 1}\nc: {<<: *b}\n", "2: merge keys (<<) are not read"),
        (b"a: &a [*a]\n", "1: alias *a contains itself"),
        (b"a: *nowhere\n", "1: alias *nowhere is not defined"),
        (b"a: [1\n", "is not YAML"),
        (b"a: \xff\n", "1: is not UTF-8"),
        (b"[" * 50 + b"]" * 50, "1: nested deeper than 32"),
        (b"x" * (located_yaml.MAX_BYTES + 1), "1: 1048577 bytes"),
        (b"a: .nan\n", "1: .nan is not a number"),
        (b"? [a]\n: b\n", "1: a key must be a plain text"),
    ],
)
def test_yaml_that_is_refused(content: bytes, message: str) -> None:
    _, problems = located_yaml.read(content)
    assert message in " ".join(f"{problem.line}: {problem.message}" for problem in problems)


def test_an_alias_bomb_is_refused_quickly() -> None:
    names = "abcdefghi"
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]" for old, new in itertools.pairwise(names)]
    documents, problems = located_yaml.read("\n".join(lines).encode())
    assert documents == []
    assert [problem.message for problem in problems] == ["more than 20000 values, with aliases expanded"]


@hypothesis.given(content=st.binary(max_size=200) | st.text("-[]{}:,&*!?<>|'\"#a1 \n\t", max_size=80).map(str.encode))
@hypothesis.settings(max_examples=300, deadline=None)
def test_any_file_is_read_or_refused_but_never_breaks_the_reader(content: bytes) -> None:
    documents, problems = located_yaml.read(content)
    for document in documents:
        json.dumps(document.plain())
        assert 1 <= document.line <= content.count(b"\n") + content.count(b"\r") + 2
    assert all(problem.message for problem in problems)


def test_the_schema_says_what_the_check_says(manifests: Manifests) -> None:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for path in sorted((ROOT / "examples" / "jobs").glob("*.yaml")):
        documents, problems = located_yaml.read(path.read_bytes())
        assert problems == []
        for document in documents:
            validator.validate(document.plain())
    manifests.add("wrong", hyper="{epochs: 0}")
    (wrong,), _ = located_yaml.read((manifests.folder / "wrong.yaml").read_bytes())
    assert [error.json_path for error in validator.iter_errors(wrong.plain())]


def test_the_examples_are_sound_and_their_schema_is_up_to_date() -> None:
    folder = ROOT / "examples" / "jobs"
    loaded = reading.load([folder])
    assert [*loaded.problems, *reading.check(loaded.jobs, ENVIRONMENT)] == []
    assert len(loaded.jobs) == 6
    assert json.loads((folder / "tuning-job.schema.json").read_text()) == json_schema()


def test_the_manifests_of_the_documentation_are_sound(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "manifests.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    whole = [block for block in blocks if "apiVersion" in block]
    assert len(whole) == 2
    (tmp_path / "data").mkdir()
    for name in ("train", "validation"):
        (tmp_path / "data" / f"{name}.jsonl").write_text("")
    for number, block in enumerate(whole):
        (tmp_path / f"{number}.yaml").write_text(block)
    loaded = reading.load([tmp_path])
    assert [*loaded.problems, *reading.check(loaded.jobs, ENVIRONMENT)] == []
    assert whole[1].split("apiVersion")[1] in (ROOT / "examples" / "jobs" / "specification.yaml").read_text()


def test_a_file_gets_the_name_that_uploads_give_it(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("{}\n")
    assert object_name(path, sha256_of(path)) == object_named(path)[0]
