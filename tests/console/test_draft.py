"""A job that is put together on pages is the job that its command line, its manifest and its Python make."""

from __future__ import annotations

import ast
import inspect
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runner
from runner.console.draft import Draft
from runner.console.elsewhere import command_line, manifest, python
from runner.environment import Environment
from runner.gcp.session import Session
from runner.jobs.manifests.reading import load
from runner.jobs.specification import TuningJobSpec
from tests.cli.conftest import in_project, run
from tests.cli.invocation import CommandLine
from tests.console.running import RunningConsole
from tests.projects import environment_of
from tests.provisioning import Provisioned

__all__ = ["in_project", "run"]

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)
TEXT = st.text(st.characters(exclude_categories=("C", "Z")), max_size=40)
ADDRESS = st.builds("gs://bucket/{}/x.jsonl".format, WORD)
SPECIFICATIONS = st.builds(
    TuningJobSpec,
    base_model=st.just(MODEL),
    training_dataset=ADDRESS,
    mode=st.sampled_from(["FULL", "PEFT_ADAPTER"]),
    validation_dataset=st.none() | st.just("gs://bucket/validation.jsonl"),
    output_uri=st.none() | st.builds("gs://bucket/{}".format, WORD),
    epochs=st.none() | st.integers(1, 100),
    learning_rate=st.none() | st.floats(1e-9, 1, exclude_min=True),
    adapter_size=st.none(),
    batch_size=st.none() | st.integers(1, 64),
    display_name=TEXT,
    description=TEXT,
    labels=st.dictionaries(st.builds("l{}".format, WORD), WORD, max_size=3),
    custom_base_model=st.none() | st.builds("gs://bucket/{}".format, WORD),
    export_last_checkpoint_only=st.booleans(),
    service_account=st.none() | st.just("a@b.iam.gserviceaccount.com"),
    kms_key=st.none() | st.just("projects/p/locations/us-central1/keyRings/r/cryptoKeys/k"),
)

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
"""How fast a machine is says nothing of a draft."""


@pytest.fixture(scope="module")
def console() -> Iterator[RunningConsole]:
    """A console that asks nobody."""
    with Session(Environment(project="p")) as session, RunningConsole(session) as running:
        yield running


@unhurried
@given(SPECIFICATIONS)
def test_a_cloned_job_is_the_same_job(console: RunningConsole, spec: TuningJobSpec) -> None:
    link = Draft.of_specification(spec).at("/tuning/create/review")
    there = Draft.of(dict(parse_qsl(urlsplit(link).query)))
    assert there.specification(console.console) == spec


@unhurried
@given(SPECIFICATIONS)
def test_the_manifest_is_the_same_job(
    console: RunningConsole, tmp_path_factory: pytest.TempPathFactory, spec: TuningJobSpec
) -> None:
    draft = Draft.of_specification(spec)
    path = tmp_path_factory.mktemp("manifest") / "job.yaml"
    path.write_text(manifest(draft, console.console), "utf-8")
    loaded = load([path])
    assert loaded.problems == []
    [job] = loaded.jobs
    assert job.spec.work() == spec.work()
    assert (str(job.train), job.validation) == (spec.training_dataset, spec.validation_dataset)
    assert (job.spec.labels, job.spec.description) == (spec.labels, spec.description)


@unhurried
@given(SPECIFICATIONS)
def test_the_python_names_every_value(console: RunningConsole, spec: TuningJobSpec) -> None:
    tree = ast.parse(python(Draft.of_specification(spec), console.console))
    [call] = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert {item.arg for item in call.keywords} <= set(inspect.signature(runner.tune).parameters)
    given_values = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    renamed = {"mode": "tuning_mode", "display_name": "tuned_model_display_name"}
    for name, value in spec.given().items():
        if name != "training_dataset":
            assert given_values[renamed.get(name, name)] == value
    assert ast.literal_eval(call.args[0]) == spec.training_dataset


def test_the_command_line_is_the_same_job(
    in_project: Provisioned, run: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a b.csv").write_text("question,answer\n" + "".join(f"What is {i}?,It is {i}.\n" for i in range(9)))
    monkeypatch.chdir(tmp_path)
    with Session(environment_of(in_project)) as session, RunningConsole(session) as running:
        with (tmp_path / "a b.csv").open("rb") as stream:
            source = running.console.uploads.keep("a b.csv", stream)
        draft = Draft(
            base_model=MODEL,
            mode="PEFT_ADAPTER",
            training=source,
            convert="1",
            epochs="2",
            learning_rate="1e-4",
            adapter_size="8",
            display_name='it\'s a "name" $HOME',
            label="team=a stage=b",
            final_only="1",
        )
        line = command_line(draft, running.console, 0.001)
        wanted = draft.specification(running.console)
        name = running.console.uploads.path(source).name
    assert "--max-cost 0.01" in line
    (tmp_path / name).write_bytes((tmp_path / "a b.csv").read_bytes())
    words = shlex.split(line.replace("\\\n", ""))
    done = run(*words[1:], "--dry-run", "--format", "json")
    assert done.code == 0, done
    job = json.loads(done.out)["job"]
    assert job["displayName"] == wanted.display_name
    assert (job["epochs"], job["learningRate"], job["adapterSize"]) == (2, 1e-4, 8)
    assert job["labels"] == wanted.labels
    assert job["exportLastCheckpointOnly"] is True
