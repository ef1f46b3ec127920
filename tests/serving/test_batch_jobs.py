"""Batch prediction jobs as the engine of `batch` and `eval`: priced, created once, resumed, joined in order."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runner
from runner.errors import ConfigurationError, CostRefusedError, JobFailedError
from runner.gcp import batch_jobs
from runner.gcp.session import Session
from runner.jobs.labels import FINGERPRINT_LABEL
from runner.prices import Terms
from runner.serving.batches import jobs, predictors
from runner.serving.batches.pricing import Work, advice, estimate
from runner.serving.comparing import compare
from runner.serving.plan import choose_machine
from tests.cli.invocation import CommandLine
from tests.gcp.flaky import Fault, FlakyProxy
from tests.jobs.conftest import point_at
from tests.projects import MODEL, Tuned

pytestmark = pytest.mark.training
LIMITS = Terms(limit=100.0)
MANY = Work(questions=100_000, expected_tokens=25_600_000, most_tokens=102_400_000)


@pytest.fixture
def opened(tuned: Tuned, state: Path) -> Iterator[Session]:
    with Session(tuned.environment) as session:
        yield session


def questions(folder: Path, count: int, *, salt: str = "") -> Path:
    path = folder / "questions.jsonl"
    with path.open("w") as file:
        for index in range(count):
            line: dict[str, Any] = {"id": f"q{index}", "max_tokens": 3, "temperature": 0}
            kind = (
                {"prompt": f"{salt} say {index}"}
                if index % 3
                else {"messages": [{"role": "user", "content": f"{salt} What is {index}?"}]}
            )
            file.write(json.dumps({**line, **kind}) + "\n" * (2 if index == 4 else 1))
        file.write('{"prompt": "refused", "max_tokens": -1}\n')
    return path


def of_ours(session: Session) -> list[dict[str, Any]]:
    path = f"/v1beta1/{session.environment.parent}/batchPredictionJobs"
    found = session.pages(path, "batchPredictionJobs", "batchPredictionJobs.list")
    return [job for job in found if FINGERPRINT_LABEL in job.get("labels", {})]


def test_answers_come_back_in_order_and_a_repetition_creates_nothing(
    opened: Session, tuned: Tuned, tmp_path: Path
) -> None:
    source, output = questions(tmp_path, 9, salt="order"), tmp_path / "answers.jsonl"
    who = predictors.predictor(opened, tuned.job.id)
    assert who.base_model == MODEL
    asked: list[str] = []
    done = jobs.run_job(
        opened, who, source, output, terms=Terms(limit=50.0, tell=lambda price: asked.append(price.what))
    )
    assert (done.created, done.total, done.failed) == (True, 10, 1)
    assert "1 x g2-standard-12" in asked[0]
    answers = [json.loads(line) for line in output.read_text().splitlines()]
    assert [item.get("id") for item in answers] == [*(f"q{index}" for index in range(9)), None]
    assert [item["line"] for item in answers] == [1, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    assert all(isinstance(item["answer"], str) for item in answers[:9])
    assert answers[0]["usage"]["completion_tokens"] <= 3
    assert "max_tokens" in answers[9]["error"]["message"]
    assert [path.name for path in tmp_path.iterdir() if "answers" in path.name] == ["answers.jsonl"]
    before, first = len(of_ours(opened)), output.read_bytes()
    output.unlink()
    again = jobs.run_job(opened, who, source, output, terms=Terms())
    assert (again.created, again.job.name) == (False, done.job.name)
    assert output.read_bytes() == first
    assert len(of_ours(opened)) == before
    job = runner.get_job(tuned.job.id, session=opened)
    assert job.batch(source, output).job.name == done.job.name
    restarted = jobs.run_job(opened, who, source, output, terms=LIMITS, restart=True)
    assert restarted.created
    assert restarted.job.name != done.job.name
    assert jobs.run_job(opened, who, source, output, terms=Terms()).job.name == restarted.job.name


def test_nothing_starts_before_the_price_is_agreed_to(opened: Session, tuned: Tuned, tmp_path: Path) -> None:
    source, output = questions(tmp_path, 3, salt="price"), tmp_path / "answers.jsonl"
    who = predictors.predictor(opened, tuned.job.id)
    before = len(of_ours(opened))
    for terms in (Terms(), Terms(limit=0.001), Terms(agree=lambda price: False)):
        with pytest.raises(CostRefusedError):
            jobs.run_job(opened, who, source, output, terms=terms)
    assert len(of_ours(opened)) == before
    assert not output.exists()


def test_killed_anywhere_the_same_command_goes_on_with_the_same_job(
    opened: Session, tuned: Tuned, tmp_path: Path, state: Path
) -> None:
    source, output = questions(tmp_path, 30, salt="killed"), tmp_path / "answers.jsonl"
    environment = tuned.environment
    variables = {
        **os.environ,
        "RUNNER_PROJECT": environment.project,
        "RUNNER_LOCATION": environment.location,
        "RUNNER_OUTPUTS_BUCKET": environment.outputs_bucket,
        "RUNNER_VERTEX_URL": environment.vertex_url or "",
        "RUNNER_STORAGE_URL": environment.storage_url or "",
        "RUNNER_TOKEN": "a-token",
        "RUNNER_STATE_DIR": str(state),
    }
    command = [sys.executable, "-m", "runner", "batch", str(source), "--engine", "vertex", "--model", tuned.job.id]
    command += ["-o", str(output), "--yes", "--format", "json"]
    before = {job["name"] for job in of_ours(opened)}

    def made() -> list[dict[str, Any]]:
        return [job for job in of_ours(opened) if job["name"] not in before]

    child = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
    deadline = time.monotonic() + 120
    while not made():
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=300, cwd=Path(__file__).parents[2], check=False
    )
    assert done.returncode == 1, done.stderr
    body = json.loads(done.stdout)
    assert (body["created"], body["total"], body["failed"]) == (False, 31, 1)
    assert [job["name"] for job in made()] == [body["job"]]
    assert len(output.read_text().splitlines()) == 31


def test_several_machines_at_once_make_one_job(opened: Session, tuned: Tuned, tmp_path: Path) -> None:
    environment = tuned.environment
    source, before = questions(tmp_path, 6, salt="several"), {job["name"] for job in of_ours(opened)}
    children = []
    for number in range(4):
        variables = {
            **os.environ,
            "RUNNER_PROJECT": environment.project,
            "RUNNER_LOCATION": environment.location,
            "RUNNER_OUTPUTS_BUCKET": environment.outputs_bucket,
            "RUNNER_VERTEX_URL": environment.vertex_url or "",
            "RUNNER_STORAGE_URL": environment.storage_url or "",
            "RUNNER_TOKEN": "a-token",
            "RUNNER_STATE_DIR": str(tmp_path / f"state-{number}"),
        }
        output = tmp_path / f"answers-{number}.jsonl"
        command = [sys.executable, "-m", "runner", "batch", str(source), "--engine", "vertex", "--model", tuned.job.id]
        command += ["-o", str(output), "--yes", "--format", "json"]
        children.append(
            subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
        )
    bodies = [json.loads(child.communicate(timeout=300)[0]) for child in children]
    (made,) = [job["name"] for job in of_ours(opened) if job["name"] not in before]
    assert {body["job"] for body in bodies} == {made}
    assert sum(body["created"] for body in bodies) == 1
    assert len({(tmp_path / f"answers-{number}.jsonl").read_bytes() for number in range(4)}) == 1


def test_a_job_that_was_cancelled_is_an_error_and_the_next_run_pays_for_a_new_one(
    opened: Session, tuned: Tuned, tmp_path: Path
) -> None:
    source, output = questions(tmp_path, 40, salt="cancelled"), tmp_path / "answers.jsonl"
    who = predictors.predictor(opened, tuned.job.id)
    with pytest.raises(JobFailedError, match="cancelled"):
        jobs.run_job(
            opened, who, source, output, terms=LIMITS, progress=lambda job: batch_jobs.cancel(opened, job.name)
        )
    assert not output.exists()
    with pytest.raises(CostRefusedError):
        jobs.run_job(opened, who, source, output, terms=Terms())


def test_what_it_costs_follows_from_answers_machines_and_rates() -> None:
    machine = choose_machine(MODEL)
    one, four = estimate(MANY, MODEL, machine, 1), estimate(MANY, MODEL, machine, 4)
    assert one.usd is not None
    assert one.high is not None
    assert four.seconds is not None
    assert one.seconds is not None
    assert four.usd is not None
    assert one.usd < four.usd < one.high, "more machines each take time to start"
    assert four.seconds < one.seconds / 2
    measured = estimate(MANY, MODEL, machine, 1, rate=1e5)
    assert measured.usd is not None
    assert measured.usd < one.usd
    assert estimate(MANY, MODEL, None, 1).high is None
    said = advice(MANY, MODEL, machine, concurrency=8, replicas=1, hourly=1.0)
    assert "with 4 replicas" in said
    assert "faster" in said
    few = Work(questions=100, expected_tokens=25_600, most_tokens=102_400)
    assert advice(few, MODEL, machine, concurrency=8, replicas=1, hourly=1.0) == ""


def test_a_plan_of_a_batch_starts_nothing_and_options_go_with_their_engine(
    opened: Session, tuned: Tuned, tmp_path: Path, run: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    point_at(monkeypatch, opened)
    source, before = questions(tmp_path, 3, salt="plan"), len(of_ours(opened))
    words = ["batch", str(source), "-o", str(tmp_path / "a.jsonl"), "--format", "json"]
    planned = run(*words, "--engine", "vertex", "--model", tuned.job.id, "--replicas", "2", "--dry-run").document
    assert (planned["questions"], planned["replicas"], planned["machineType"]) == (4, 2, "g2-standard-12")
    assert 0 < planned["usd"]["expected"] < planned["usd"]["high"]
    refused = run(*words, "--engine", "vertex", "--model", tuned.job.id)
    assert (refused.code, refused.error["code"]) == (7, "cost_refused")
    wrong = run(*words, "--model", tuned.job.id)
    assert (wrong.code, wrong.error["hint"]) == (2, "add --engine vertex")
    assert len(of_ours(opened)) == before


def test_mistakes_in_the_questions_are_told_before_anything_is_sent(
    opened: Session, tuned: Tuned, tmp_path: Path
) -> None:
    path, who = tmp_path / "q.jsonl", predictors.predictor(opened, tuned.job.id)
    path.write_text('{"text": 1}\n')
    with pytest.raises(ConfigurationError, match="has neither"):
        jobs.run_job(opened, who, path, tmp_path / "a", terms=LIMITS)


def test_a_create_whose_answer_is_lost_is_found_and_not_repeated(
    opened: Session, tuned: Tuned, tmp_path: Path, proxy: FlakyProxy
) -> None:
    source, output = questions(tmp_path, 5, salt="lost"), tmp_path / "answers.jsonl"
    before = {job["name"] for job in of_ours(opened)}
    proxy.faults.append(Fault("POST", "/batchPredictionJobs$", "lose answer"))
    through = dataclasses.replace(tuned.environment, vertex_url=proxy.url)
    with Session(through) as session:
        done = jobs.run_job(session, predictors.predictor(session, tuned.job.id), source, output, terms=LIMITS)
    assert [job["name"] for job in of_ours(opened) if job["name"] not in before] == [done.job.name]


def test_an_evaluation_by_batch_jobs_says_what_an_evaluation_by_endpoints_says(
    opened: Session, tuned: Tuned, tmp_path: Path
) -> None:
    path = tmp_path / "held_out.jsonl"
    lines = [{"prompt": f"What is {index}?", "completion": f"It is {index}."} for index in range(6)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(CostRefusedError):
        compare(opened, path, endpoint=tuned.job.id, base_endpoint=tuned.job.tuned_model, engine="vertex")
    before = len(of_ours(opened))
    found = compare(
        opened,
        path,
        endpoint=tuned.job.id,
        base_endpoint=tuned.job.tuned_model,
        engine="vertex",
        sampling={"max_tokens": 8},
        terms=LIMITS,
    )
    assert len(found.pairs) == 6
    assert all(pair.base == pair.tuned for pair in found.pairs), "the same model under both names"
    assert "batch prediction" in found.likelihood_missing
    assert len(of_ours(opened)) == before + 1, "the same questions to the same model are one job"
    with pytest.raises(ConfigurationError, match="Google-managed"):
        compare(opened, path, endpoint=tuned.job.id, base_model="meta/llama", engine="vertex")
