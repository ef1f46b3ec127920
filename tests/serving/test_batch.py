"""Batches against a server that counts: order, retries, refusals, and kills in the middle."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.environment import Environment
from runner.errors import ConfigurationError, QuotaExceededError
from runner.gcp import endpoints, failures, prediction
from runner.gcp.session import Session
from runner.serving.batches import online as batch
from runner.serving.batches.online import BatchProgress, run_batch
from tests.cli.invocation import process
from tests.serving.stub_endpoint import ENDPOINT, StubEndpoint

LINES = 1200


@pytest.fixture
def stub() -> Iterator[StubEndpoint]:
    with StubEndpoint() as running:
        yield running


@pytest.fixture
def asking(stub: StubEndpoint) -> Iterator[Session]:
    with Session(Environment(project="p", vertex_url=stub.url, token="a-token")) as opened:
        yield opened


def _questions(path: Path, number: int) -> Path:
    with path.open("w") as file:
        for index in range(number):
            file.write(json.dumps({"id": f"q{index}", "messages": [{"role": "user", "content": f"{index} é\u2028"}]}))
            file.write("\n\n" if index % 100 == 50 else "\n")
    return path


def _answers(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def _run(asking: Session, source: Path, output: Path, **more: Any) -> BatchProgress:
    return run_batch(asking, endpoints.get_endpoint(asking, ENDPOINT), source, output, **more)


def test_answers_keep_the_order_and_requests_their_bound(asking: Session, stub: StubEndpoint, tmp_path: Path) -> None:
    source, output = _questions(tmp_path / "q.jsonl", 200), tmp_path / "new" / "a.jsonl"
    seen: list[BatchProgress] = []
    done = _run(asking, source, output, concurrency=6, progress=seen.append)
    assert (done.done, done.total, done.asked, done.failed, done.tokens) == (200, 200, 200, 0, 400)
    assert 2 <= stub.most <= 6
    answers = _answers(output)
    assert [answer["id"] for answer in answers] == [f"q{index}" for index in range(200)]
    assert [answer["answer"] for answer in answers] == [f"answer to {index} é\u2028" for index in range(200)]
    assert answers[60]["line"] == 62, "blank lines count as lines"
    assert [state.done for state in seen] == sorted(state.done for state in seen)
    assert seen[10].seconds_left is not None
    assert list(output.parent.iterdir()) == [output]


def test_what_passes_is_tried_again(
    asking: Session, stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "FIRST_PAUSE_SECONDS", 0.01)
    stub.refusals = (429, 503, 500)
    done = _run(asking, _questions(tmp_path / "q.jsonl", 60), tmp_path / "a.jsonl", concurrency=4)
    assert (done.asked, done.failed) == (60, 0)
    assert set(stub.asked.values()) == {1}


def test_a_single_prediction_is_tried_again_too(
    asking: Session, stub: StubEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "FIRST_PAUSE_SECONDS", 0.01)
    stub.refusals = (503,)
    assert prediction.predict(asking, ENDPOINT, [{"prompt": "x"}]) == ["answer to x"]
    assert stub.asked == {"x": 1}


def test_what_does_not_pass_ends_the_run_which_goes_on_later(
    asking: Session, stub: StubEndpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(batch, "ATTEMPTS", 3)
    stub.failing = dict.fromkeys(range(50, 1000), 429)
    source, output = _questions(tmp_path / "q.jsonl", 100), tmp_path / "a.jsonl"
    with pytest.raises(QuotaExceededError):
        _run(asking, source, output, concurrency=4)
    assert not output.exists()
    answered = sum(stub.asked.values())
    stub.failing = {}
    assert _run(asking, source, output, concurrency=4).asked == 100 - answered
    assert set(stub.asked.values()) == {1}
    assert len(_answers(output)) == 100


def test_a_refused_line_does_not_stop_the_others(stub: StubEndpoint, tmp_path: Path) -> None:
    source = tmp_path / "q.jsonl"
    source.write_text(
        '{"messages": [{"role": "user", "content": "forbidden"}]}\n{"prompt": "plain", "max_tokens": 2}\n'
    )
    outcome = process(
        *("batch", str(source), "--endpoint", "77", "-o", str(tmp_path / "a.jsonl"), "--format", "json"),
        RUNNER_PROJECT="p",
        RUNNER_VERTEX_URL=stub.url,
        RUNNER_TOKEN="t",
    )
    assert outcome.code == 1
    assert outcome.error["message"] == "1 of 2 lines were refused"
    assert outcome.document["failed"] == 1
    first, second = _answers(tmp_path / "a.jsonl")
    assert first["error"]["http"] == 400
    assert second["answer"] == "answer to plain"


def test_a_long_batch_is_told_that_a_batch_job_would_be_faster(stub: StubEndpoint, tmp_path: Path) -> None:
    machine = {"machineType": "g2-standard-12", "acceleratorType": "NVIDIA_L4", "acceleratorCount": 1}
    stub.resources = {"dedicatedResources": {"machineSpec": machine, "minReplicaCount": 1, "maxReplicaCount": 1}}
    stub.seconds = 0

    def said(count: int) -> str:
        source = _questions(tmp_path / "q.jsonl", count)
        words = ["batch", str(source), "--endpoint", "77", "-o", str(tmp_path / f"{count}.jsonl"), "--concurrency", "1"]
        outcome = process(*words, RUNNER_PROJECT="p", RUNNER_VERTEX_URL=stub.url, RUNNER_TOKEN="t")
        assert outcome.code == 0, outcome.err
        return outcome.err

    assert "a batch prediction job would be faster" in said(200)
    assert "--engine vertex --replicas 4" in said(201)
    assert "batch prediction" not in said(99)
    stub.resources = {}
    assert "batch prediction" not in said(202), "nothing is known of its machine"


def test_mistakes_in_the_file_are_all_listed_and_nothing_is_asked(
    asking: Session, stub: StubEndpoint, tmp_path: Path
) -> None:
    source = tmp_path / "q.jsonl"
    source.write_text(
        '{"prompt": "a"}\nnot json\n[1]\n{"messages": []}\n{"text": 1}\n{"prompt": "a", "messages": [1]}\n'
    )
    with pytest.raises(ConfigurationError) as caught:
        _run(asking, source, tmp_path / "a.jsonl")
    assert [problem.split(" ")[0].rsplit(":")[-1] for problem in caught.value.problems] == ["2", "3", "4", "5", "6"]
    source.write_text("\n")
    with pytest.raises(ConfigurationError, match="has no lines"):
        _run(asking, source, tmp_path / "a.jsonl")
    assert not stub.asked


def test_a_journal_is_of_one_input(asking: Session, stub: StubEndpoint, tmp_path: Path) -> None:
    source, output = _questions(tmp_path / "q.jsonl", 3), tmp_path / "a.jsonl"
    (tmp_path / "a.jsonl.journal").write_text('{"input": "another"}\n')
    with pytest.raises(ConfigurationError, match="another input"):
        _run(asking, source, output)
    assert _run(asking, source, output, restart=True).asked == 3


def test_killed_five_times_every_line_is_answered_once_and_in_order(stub: StubEndpoint, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    source, output = _questions(tmp_path / "q.jsonl", LINES), tmp_path / "a.jsonl"
    variables = {**os.environ, "RUNNER_PROJECT": "p", "RUNNER_VERTEX_URL": stub.url, "RUNNER_TOKEN": "t"}
    concurrency = 8
    command = [sys.executable, "-m", "runner", "batch", str(source), "--endpoint", "77", "-o", str(output)]
    command += ["--concurrency", str(concurrency), "--format", "json"]
    stops = sorted(chance.sample(range(50, LINES - 100), 5))
    for number, stop in enumerate(stops):
        child = subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 60
        while sum(stub.asked.values()) < stop + number * concurrency:
            assert child.poll() is None, (seed, stop)
            assert time.monotonic() < deadline, (seed, stop)
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert not output.exists()
    kept = {json.loads(line)["index"] for line in _whole(tmp_path / "a.jsonl.journal")[1:]}
    before = dict(stub.asked)
    last = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2], check=True
    )
    assert json.loads(last.stdout)["asked"] == LINES - len(kept)
    for index in kept:
        question = f"{index} é\u2028"
        assert stub.asked[question] == before[question], f"seed {seed}: {question} was on disk and is asked again"
    answers = _answers(output)
    assert [answer["id"] for answer in answers] == [f"q{index}" for index in range(LINES)], seed
    assert all(answer["answer"] == f"answer to {answer['id'][1:]} é\u2028" for answer in answers)
    # What was under way at a kill was answered, but nobody was there to write it down.
    assert sum(stub.asked.values()) <= LINES + 5 * concurrency, seed


def _whole(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]


def test_a_disk_that_fills_loses_no_answer(stub: StubEndpoint, tmp_path: Path) -> None:
    """Files may not grow beyond 5000 bytes (EFBIG): the journal first, then, with more, the output."""
    source, output = _questions(tmp_path / "q.jsonl", 60), tmp_path / "a.jsonl"
    limited = "import resource, sys; n = int(sys.argv.pop(1)); resource.setrlimit(resource.RLIMIT_FSIZE, (n, n))\n"
    program = limited + "from runner.cli.main import main; main(sys.argv[1:])"
    variables = {"RUNNER_PROJECT": "p", "RUNNER_VERTEX_URL": stub.url, "RUNNER_TOKEN": "t"}

    def run(size: int) -> tuple[int, dict[str, Any]]:
        command = ["batch", str(source), "--endpoint", "77", "-o", str(output), "--format", "json"]
        done = subprocess.run(
            [sys.executable, "-c", program, str(size), *command],
            capture_output=True,
            text=True,
            timeout=120,
            env={**os.environ, **variables, "RUNNER_STATE_DIR": str(tmp_path / "state")},
            cwd=Path(__file__).parents[2],
        )
        last = json.loads(done.stderr.splitlines()[-1]) if done.returncode else {"error": {}}
        return done.returncode, last["error"]

    journal = output.with_name("a.jsonl.journal")
    code, error = run(3000)
    assert (code, error.get("code"), error.get("path")) == (74, "disk", str(journal))
    assert "answered questions are not asked again" in error["hint"]
    kept = len(_answers(journal)) - 1
    assert kept > 0
    assert not output.exists()
    assert run(1 << 20)[0] == 0
    assert [answer["id"] for answer in _answers(output)] == [f"q{index}" for index in range(60)]
    again = [question for question, times in stub.asked.items() if times > 1]
    assert len(again) <= 8, "only what was under way"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["a.jsonl", "q.jsonl"]
