"""What can be told of a job that has really been trained."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.cli.jobs.live import view
from runner.emulator.server import EmulatorServer
from runner.gcp import downloads, storage, uploads
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following import results, watching
from runner.jobs.following.progress import JobProgress, Remaining
from runner.jobs.outputs import pruning
from runner.jobs.repeating import reproduction
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from tests.cli.invocation import CommandLine
from tests.projects import MODEL, environment_of
from tests.provisioning import Provisioned, provision

pytestmark = pytest.mark.training
EPOCHS = 3


class Trained:
    """A job, and what a watch of it saw while it ran."""

    def __init__(self, project: Provisioned, job: TuningJob, seen: JobProgress, forecasts: list[Remaining]) -> None:
        self.project = project
        self.job = job
        self.seen = seen
        self.forecasts = forecasts


@pytest.fixture(scope="module")
def trained(emulator: EmulatorServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    project = provision(emulator.url, f"trained-{os.getpid()}")
    examples = [json.dumps({"prompt": f"What is {i}?", "completion": f"It is {i}."}) for i in range(16)]
    lines = [*examples[:3], "", json.dumps({"prompt": "a"}), *examples[3:]]
    with Session(environment_of(project)) as session, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        bucket = project.datasets
        train = uploads.upload_bytes(session, "\n".join(lines).encode(), f"gs://{bucket}/train.jsonl").uri
        check = uploads.upload_bytes(session, "\n".join(examples[:3]).encode(), f"gs://{bucket}/check.jsonl").uri
        spec = TuningJobSpec(
            base_model=MODEL, training_dataset=train, validation_dataset=check, epochs=EPOCHS, batch_size=4
        )
        submitted = submission.submit(session, spec)
        seen, forecasts = JobProgress(), []
        for update in watching.watch(session, submitted.id, poll=0.1, timeout=600):
            seen.observe(update)
            if seen.remaining:
                forecasts.append(seen.remaining)
        assert seen.job is not None
        watching.check(seen.job)
        yield Trained(project, seen.job, seen, forecasts)


@pytest.fixture
def there(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """The job, with command lines working in its project."""
    project = trained.project
    for name, value in {
        "RUNNER_PROJECT": project.project,
        "RUNNER_PROJECT_NUMBER": project.number,
        "RUNNER_LOCATION": project.location,
        "RUNNER_DATASETS_BUCKET": project.datasets,
        "RUNNER_OUTPUTS_BUCKET": project.outputs,
        "RUNNER_VERTEX_URL": project.url,
        "RUNNER_STORAGE_URL": project.url,
    }.items():
        monkeypatch.setenv(name, value)
    return trained


def test_a_watch_sees_the_curve_the_end_and_the_price(trained: Trained) -> None:
    seen, job = trained.seen, trained.job
    steps = int(job.data_stats["tuningStepCount"])
    assert [step for step, _ in seen.losses] == list(range(1, steps + 1))
    assert len(seen.validation) == EPOCHS
    assert seen.fraction == 1.0
    used = seen.billed
    assert used is not None
    assert used.tokens == used.total_tokens == int(job.data_stats["totalBillableTokenCount"]) * EPOCHS
    assert used.usd == pytest.approx(used.tokens * 0.67 / 1e6)
    assert seen.remaining is None
    for forecast in trained.forecasts:
        assert 0 <= forecast.low <= forecast.expected <= forecast.high


def test_the_picture_of_it(trained: Trained) -> None:
    lines = view(trained.seen, columns=80)
    assert all(len(line) <= 80 for line in lines)
    assert re.fullmatch(r"  succeeded · took (\d+ (h|min|s) ?)+", lines[1])
    assert any("loss " in line and "validation " in line for line in lines)
    assert any(chr(0x2800) < character <= chr(0x28FF) for line in lines for character in line)
    assert any("o" in line.partition("│")[2] for line in lines)
    for columns in (60, 80):
        narrow = view(trained.seen, columns=columns)
        assert all(len(line) <= columns for line in narrow)
        assert "by the stand-in's tokens" in " ".join(line.strip() for line in narrow)
    ascii_lines = view(trained.seen, columns=80, braille=False)
    assert all(ord(character) < 256 for line in ascii_lines for character in line)


def test_a_narrow_terminal_gets_a_table_of_the_bill(
    run: CommandLine, there: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    assert run("bill").out.startswith("kind  ")
    assert "id  " not in run("bill").out


def test_watching_it_again_prints_the_same_story(run: CommandLine, there: Trained) -> None:
    outcome = run("jobs", "watch", there.job.id, "--format", "json")
    assert outcome.code == 0, outcome.err
    progress = [line for line in outcome.documents if line["event"] == "progress"][-1]
    assert progress["fraction"] == 1.0
    assert progress["billed"]["usd"] > 0
    assert progress["validationLoss"] == pytest.approx(there.seen.validation[-1][1])
    assert outcome.documents[-1]["event"] == "state"
    text = run("jobs", "watch", there.job.id).out
    assert "nothing charged; on Google Cloud about $" in text


def test_metrics_go_into_a_file(run: CommandLine, there: Trained, tmp_path: Path) -> None:
    outcome = run("jobs", "metrics", there.job.id)
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader(io.StringIO(outcome.out)))
    assert [float(row["loss"]) for row in rows if row["kind"] == "step"] == [loss for _, loss in there.seen.losses]
    target = tmp_path / "losses.jsonl"
    told = run("jobs", "metrics", there.job.id, "--as", "jsonl", "--to", str(target), "--format", "json").document
    assert told["measurements"] == len(rows) == len(target.read_text().splitlines())
    assert told["lastLoss"] < told["firstLoss"]


def test_the_curve_goes_to_tensorboard(run: CommandLine, there: Trained, tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    outcome = run("jobs", "export", there.job.id, "--to", "tensorboard", "--place", str(tmp_path), "--format", "json")
    assert outcome.code == 0, outcome.err
    (item,) = outcome.document
    assert (item["job"], item["place"]) == (there.job.id, str(tmp_path / there.job.id))
    assert item["measurements"] >= EPOCHS * 4
    assert list((tmp_path / there.job.id).glob("events.out.tfevents.*"))


def test_metrics_are_read_from_the_output_folder_where_there_are_no_events(trained: Trained) -> None:
    with Session(environment_of(trained.project)) as session:
        live = results.results_of(session, trained.job)
        uri = str(trained.job.raw["gcsMetricsUri"])
        stored = results.Results(
            measurements=[
                item for line in downloads.read_bytes(session, uri).splitlines() if (item := results._line(line))
            ]
        )
    assert stored.summary() == live.summary() != {}


def test_why_of_a_success_names_the_example_that_was_left_out(run: CommandLine, there: Trained) -> None:
    body = run("jobs", "why", there.job.id, "--format", "json").document
    assert body["cause"] is None
    assert body["summary"] == "examples left out of the training: 1 of 17"
    # The fourth example is on the fifth line: a blank line is no example.
    assert [(item["index"]) for item in body["dropped"]] == [4]
    assert [(line["index"], line["line"]) for line in body["lines"]] == [(4, 5)]
    assert "completion" in run("jobs", "why", there.job.id).out


def test_cancelling_what_has_ended_tells_what_it_cost(run: CommandLine, there: Trained) -> None:
    outcome = run("jobs", "cancel", there.job.id)
    assert outcome.code == 0
    assert "succeeded; billed: nothing charged; on Google Cloud about $0.00" in outcome.out
    assert "it had already ended" in outcome.err


def test_logs_hold_steps_and_what_the_process_wrote(run: CommandLine, there: Trained) -> None:
    outcome = run("jobs", "logs", there.job.id)
    assert outcome.code == 0, outcome.err
    assert f"step {len(there.seen.losses)}/" in outcome.out
    assert " examples, " in outcome.out
    assert " training ended at step " in outcome.out
    events = [line for line in outcome.out.splitlines() if line[:2] == "20"]
    assert not [line for line in events if re.search(r"\b[a-z]+[A-Z]", line.partition(" trains ")[0])]
    assert "does not publish" not in outcome.err


def test_the_manifest_lies_beside_the_results(trained: Trained) -> None:
    with Session(environment_of(trained.project)) as session:
        manifest = reproduction.read_manifest(session, trained.job)
        template = reproduction.template_of(session, trained.job)
        changes = reproduction.differences(session, manifest)
    # Somebody may commit while the tests run.
    assert {change["what"] for change in changes} <= {"git commit"}
    assert not any(change["matters"] for change in changes)
    assert manifest["spec"]["epochs"] == EPOCHS
    assert manifest["datasets"]["validation"]["uri"].endswith("/check.jsonl")
    assert template is not None
    assert template["crc32c"]


def test_pruning_keeps_the_final_weights(run: CommandLine, there: Trained) -> None:
    job = there.job.id
    folder = f"gs://{there.project.outputs}/{there.job.output_uri.split('/', 3)[3]}"

    def stored() -> list[str]:
        with Session(environment_of(there.project)) as session:
            return [item.uri for item in storage.list_objects(session, f"{folder}/")]

    before = stored()
    listed = run("checkpoints", "prune", job, "--keep", "1", "--format", "json").document
    assert (listed["delete"], listed["keep"], listed["deleted"]) == (["1", "2"], ["3", "final"], False)
    assert stored() == before
    assert run("checkpoints", "prune", job, "--delete").code == 2
    assert stored() == before
    done = run("checkpoints", "prune", job, "--keep", "1", "--delete", "--yes", "--format", "json")
    assert done.code == 0, done.err
    after = stored()
    assert set(before) - set(after) == {uri for uri in before if any(f"/checkpoint-{n}/" in uri for n in (1, 2))}
    assert any(uri.endswith("/checkpoints/final/config.json") for uri in after)
    assert run("checkpoints", "prune", job, "--keep", "1").out.startswith("0 checkpoints (none)")


def test_a_folder_that_another_job_uses_is_not_pruned(trained: Trained) -> None:
    with Session(environment_of(trained.project)) as session, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", "/nonexistent")
        from runner.errors import ConfigurationError
        from runner.gcp import tuning_jobs

        twin = tuning_jobs.create(
            session,
            {
                "base_model": MODEL,
                "training_dataset": trained.job.training_dataset_uri,
                "output_uri": trained.job.output_uri,
            },
        )
        try:
            with pytest.raises(ConfigurationError, match=f"job {twin.id} uses the same output folder"):
                pruning.plan(session, trained.job)
        finally:
            tuning_jobs.cancel(session, twin.name)
