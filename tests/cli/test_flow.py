"""The way from a dataset to an answer, command by command, against a live emulator."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runner.gcp import storage
from runner.gcp.environments import open_environment
from runner.gcp.session import Session
from tests.cli.invocation import CommandLine
from tests.provisioning import Provisioned

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"

pytestmark = pytest.mark.training


def _submit(dataset: Path, *more: str) -> list[str]:
    return ["jobs", "submit", "--model", MODEL, "--train", str(dataset), "--epochs", "1", *more]


def test_nothing_is_sent_before_the_price_is_agreed_to(
    run: CommandLine, in_project: Provisioned, dataset: Path
) -> None:
    for more in ([], ["--max-cost", "0"], ["--yes", "--max-cost", "0"]):
        refused = run(*_submit(dataset, *more, "--format", "json"))
        assert (refused.code, refused.error["code"], refused.out) == (7, "cost_refused", "")

    plan = run(*_submit(dataset, "--dry-run", "--format", "json"))
    assert plan.code == 0, plan.err
    assert plan.document["obstacles"] == []
    assert plan.document["job"]["trainingDataset"].startswith(f"gs://{in_project.datasets}/datasets/train-")
    assert plan.document["estimate"]["known"] is True

    assert run("jobs", "ls", "--format", "json").document == []
    with Session(open_environment({})) as session:
        assert storage.list_objects(session, f"gs://{in_project.datasets}/") == []


def test_every_mistake_of_a_specification_is_listed(run: CommandLine, in_project: Provisioned, dataset: Path) -> None:
    wrong = ["--adapter-size", "3", "--learning-rate", "7", "--label", "Team=x", "--output", "s3://b/x"]
    outcome = run(*_submit(dataset, *wrong, "--format", "json"))

    assert outcome.code == 2
    assert len(outcome.error["problems"]) == 4


def test_errors_in_the_dataset_stop_a_submission(run: CommandLine, in_project: Provisioned, dataset: Path) -> None:
    dataset.write_text(dataset.read_text() + "not json\n")
    outcome = run(*_submit(dataset, "--yes", "--format", "json"))

    assert (outcome.code, outcome.error["code"]) == (3, "dataset")
    assert outcome.error["findings"][0]["line"] == 13
    assert "train.jsonl:13" in run(*_submit(dataset, "--yes")).err


def test_what_does_not_exist_is_not_found(run: CommandLine, in_project: Provisioned) -> None:
    for words in (
        ["jobs", "show", "123"],
        ["jobs", "watch", "latest"],
        ["jobs", "wait", "123"],
        ["jobs", "cancel", "123", "--yes"],
        ["checkpoints", "ls", "123"],
        ["endpoints", "show", "nope"],
        ["endpoints", "undeploy", "nope", "--yes"],
        ["predict", "hi", "--endpoint", "nope"],
        ["chat", "hi", "--endpoint", "nope"],
        ["estimate", f"gs://{in_project.datasets}/nope.jsonl", "--model", MODEL],
    ):
        outcome = run(*words, "--format", "json")
        assert (outcome.code, outcome.error["code"]) == (4, "not_found"), (words, outcome.err)


def test_upload_sends_a_file_once(run: CommandLine, in_project: Provisioned, dataset: Path) -> None:
    first = run("data", "upload", str(dataset), "--format", "json").document
    again = run("data", "upload", str(dataset), "--format", "json").document

    assert (first["training"]["sent"], again["training"]["sent"]) == (True, False)
    assert first["training"]["uri"] == again["training"]["uri"]
    priced = run("estimate", first["training"]["uri"], "--model", MODEL, "--format", "json").document
    assert priced == run("estimate", str(dataset), "--model", MODEL, "--format", "json").document


def test_from_dataset_to_answer(run: CommandLine, in_project: Provisioned, dataset: Path, tmp_path: Path) -> None:
    evil = "\x1b[31mred\u202e"
    submitted = run(*_submit(dataset, "--max-cost", "1", "--name", evil, "--format", "json"))
    assert submitted.code == 0, submitted.err
    job = submitted.document["id"]
    assert submitted.document["created"] is True

    watched = run("jobs", "watch", "latest", "--format", "json")
    assert watched.code == 0, watched.err
    losses = [event["loss"] for event in watched.documents if event["event"] == "step"]
    assert losses
    assert all(loss > 0 for loss in losses)
    assert watched.documents[-1]["state"] == "JOB_STATE_SUCCEEDED"

    again = run(*_submit(dataset, "--max-cost", "1", "--name", evil, "-q"))
    assert (again.code, again.out) == (0, f"{job}\n"), "the same specification is the same job"

    assert run("jobs", "ls", "-q").out == f"{job}\n"
    listed = run("jobs", "ls").out
    assert "succeeded" in listed
    assert "\x1b" not in listed
    assert "\u202e" not in listed
    assert run("jobs", "show", job, "--format", "json").document["mode"] == "PEFT_ADAPTER"
    told = run("jobs", "show", job).out
    tokens = run("jobs", "show", job, "--raw").document["tuningDataStats"]["supervisedTuningDataStats"]
    count = int(tokens["totalBillableTokenCount"])
    assert f"{count:,} per epoch, {count:,} in 1 epoch" in told
    billed = run("bill")
    assert f"{count:,} tokens" in billed.out
    assert "tokens are those of all epochs so far" in billed.err
    scale = float(told.split("the stand-in trains at up to ")[1].split(" times")[0])
    assert f"learning rates are the stand-in's, up to {scale:g} times the job's" in run("jobs", "metrics", job).err
    assert run("jobs", "show", job, "--raw").document["state"] == "JOB_STATE_SUCCEEDED"
    assert run("jobs", "wait", job, "--format", "json").document[0]["id"] == job
    assert run("jobs", "cancel", job, "--format", "json").document["state"] == "JOB_STATE_SUCCEEDED"

    checkpoints = run("checkpoints", "ls", job, "--format", "json").document
    assert checkpoints[-1]["id"] == "final"
    downloaded = run("checkpoints", "download", job, "--to", str(tmp_path / "weights"), "--format", "json")
    assert downloaded.code == 0, downloaded.err
    assert (tmp_path / "weights" / "config.json").exists()

    refused = run("endpoints", "deploy", job, "--format", "json")
    assert (refused.code, refused.error["code"]) == (7, "cost_refused")
    assert run("endpoints", "ls", "--all", "--format", "json").document == []
    deployed = run("endpoints", "deploy", job, "--max-cost", "5", "--name", "tuned", "--format", "json")
    assert deployed.code == 0, deployed.err
    endpoint = deployed.document["id"]
    assert run("endpoints", "ls", "-q").out == f"{endpoint}\n"
    assert "per day" in run("endpoints", "ls").err

    sampling = ["--max-tokens", "4", "--temperature", "0"]
    predicted = run("predict", "What is number 1?", "--endpoint", endpoint, *sampling, "--format", "json")
    assert len(predicted.document["predictions"]) == 1, predicted.err
    whole = run("chat", "What is number 1?", "--endpoint", "tuned", *sampling, "--format", "json").document
    assert whole["usage"]["completion_tokens"] <= 4
    streamed = run("chat", "--endpoint", endpoint, *sampling, stdin="What is number 1?\n")
    assert streamed.code == 0, streamed.err
    assert streamed.out.strip() == run("chat", "What is number 1?", "--no-stream", *sampling).out.strip()

    unconfirmed = run("endpoints", "undeploy", endpoint)
    assert unconfirmed.code == 2
    undeployed = run("endpoints", "undeploy", endpoint, "--yes", "--format", "json")
    assert undeployed.code == 0, undeployed.err
    assert len(undeployed.document["removed"]) == 2
    assert f"the empty endpoint stays, without cost: deploy to it with --endpoint {endpoint}" in undeployed.err
    deleted = run("endpoints", "undeploy", endpoint, "--delete", "--yes", "--format", "json")
    assert len(deleted.document["removed"]) == 1, deleted.err
    assert "stays" not in deleted.err
    assert run("endpoints", "ls", "--all", "--format", "json").document == []


def test_a_cancelled_job_fails_its_waiters(run: CommandLine, in_project: Provisioned, dataset: Path) -> None:
    lines = (f'{{"prompt": "What is number {number}?", "completion": "It is {number}."}}\n' for number in range(1000))
    dataset.write_text("".join(lines))
    submitted = run(*_submit(dataset, "--epochs", "90", "--yes", "-q"))
    assert submitted.code == 0, submitted.err
    job = submitted.out.strip()
    late = run("jobs", "wait", job, "--timeout", "1s", "--format", "json")
    assert (late.code, late.error["code"]) == (6, "wait_timeout")

    watching = subprocess.Popen(
        [sys.executable, "-m", "runner", "jobs", "watch", job],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=120)
    assert watching.returncode == 130
    assert errors.splitlines() == [
        f"stand-in: job {job} trains tiny untrained Llama 3 model (Apache-2.0), standing in for {MODEL}",
        f"the job continues; to resume, run `runner jobs watch {job}`",
    ]
    assert run("jobs", "show", job, "--format", "json").document["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING")

    unconfirmed = run("jobs", "cancel", job)
    assert unconfirmed.code == 2
    assert run("jobs", "cancel", job, "--yes", "--wait", "--format", "json").document["state"] == "JOB_STATE_CANCELLED"
    failed = run("jobs", "wait", job, "--format", "json")
    assert (failed.code, failed.error["code"]) == (5, "job_failed")
    assert failed.document[0]["state"] == "JOB_STATE_CANCELLED"
    assert run("jobs", "watch", job).code == 5
