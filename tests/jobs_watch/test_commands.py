"""The commands that watch, explain, change and compare jobs: what they print, and with which code they end."""

from __future__ import annotations

import http.server
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.jobs import notifying
from tests.cli.invocation import CommandLine
from tests.jobs_watch.conftest import FaultyEmulator
from tests.jobs_watch.rest import created, until
from tests.provisioning import Provisioned

pytestmark = pytest.mark.usefixtures("quick")
ROOT = Path(__file__).parents[2]


def job_of(faulty: FaultyEmulator, project: Provisioned, fault: str, name: str = "a-job", **fields: Any) -> str:
    """Return the id of a new job with a fate."""
    return str(created(faulty, project, name, fate=fault, **fields)["name"]).rsplit("/", 1)[-1]


def ended(faulty: FaultyEmulator, project: Provisioned, fault: str, name: str = "a-job", **fields: Any) -> str:
    """Return the id of a job that has failed as it was to."""
    job = job_of(faulty, project, fault, name, **fields)
    until(faulty, f"{project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED")
    return job


# watch and wait


def test_watching_a_job_that_fails(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "fail=platform")
    outcome = run("jobs", "watch", job)
    assert outcome.code == 5
    assert outcome.out.splitlines()[-1] == f"{job}  failed"
    assert outcome.err == (
        f"error: tuning job {job} failed: Internal error encountered.\nhint: `runner jobs why {job}`\n"
    )


def test_watching_several_jobs_as_json(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    first, second = (job_of(faulty, in_project, f"fail={cause}", cause) for cause in ("data", "capacity"))
    outcome = run("jobs", "watch", first, second, "--format", "json")
    assert outcome.code == 5
    states = [(line["id"], line["state"]) for line in outcome.documents if line["event"] == "state"]
    assert {(first, "JOB_STATE_FAILED"), (second, "JOB_STATE_FAILED")} <= set(states)
    assert outcome.error["code"] == "job_failed"
    assert outcome.error["message"].startswith("2 of 2 jobs did not succeed")


def test_a_stalled_job_ends_the_wait_with_6(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "stall")
    outcome = run("jobs", "wait", job, "--stall-after", "1s", "--format", "json")
    assert outcome.code == 6
    assert outcome.error["code"] == "job_stalled"
    assert f"runner jobs cancel {job}" in outcome.error["hint"]
    watched = run("jobs", "watch", job, "--stall-after", "1s", "--format", "json")
    assert watched.code == 6
    assert watched.documents[-1]["event"] == "stalled"


@pytest.mark.parametrize("command", ["watch", "wait"])
def test_the_time_is_up(command: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "quota-wait=100000")
    outcome = run("jobs", command, job, "--timeout", "1s")
    assert outcome.code == 6
    assert "it goes on" in outcome.err
    assert f"`runner jobs wait {job}`" in outcome.err


def test_a_watch_through_faults_tells_of_them(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = job_of(faulty, in_project, "quota-wait=1000000")
    faulty.arm("tuningJobs.get:status=503,skip=1,times=6")

    def cancel_once_it_has_struck() -> None:
        while faulty.hits()[-1] < 6:
            time.sleep(0.05)
        faulty.http.post(f"/v1beta1/{in_project.parent}/tuningJobs/{job}:cancel", json={}).raise_for_status()

    canceller = threading.Thread(target=cancel_once_it_has_struck, daemon=True)
    canceller.start()
    outcome = run("jobs", "watch", job, "--format", "json")
    canceller.join()
    assert outcome.code == 5
    problems = [line for line in outcome.documents if line["event"] == "problem"]
    assert problems
    assert "currently unavailable" in problems[0]["message"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaving_a_watch_leaves_the_job(
    number: signal.Signals, faulty: FaultyEmulator, in_project: Provisioned, run: CommandLine
) -> None:
    jobs = [job_of(faulty, in_project, "quota-wait=100000", name) for name in ("first", "second")]
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "jobs", "watch", *jobs],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == f"the jobs go on; `runner jobs watch {jobs[0]} {jobs[1]}` comes back to them\n"
    for job in jobs:
        state = faulty.http.get(f"/v1beta1/{in_project.parent}/tuningJobs/{job}").json()["state"]
        assert state == "JOB_STATE_PENDING"


def test_the_picture_on_a_terminal(faulty: FaultyEmulator, in_project: Provisioned, run: CommandLine) -> None:
    job = job_of(faulty, in_project, "quota-wait=100000", "named \x1b]2;evil\x07job")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "jobs", "watch", job, "--timeout", "2s"],
        stdout=child,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "90", "LINES": "30"},
    )
    os.close(child)
    shown = b""
    while True:
        try:
            piece = os.read(parent, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    _, errors = process.communicate(timeout=60)
    os.close(parent)
    assert process.returncode == 6, errors
    text = shown.decode()
    assert "pending (waiting for quota) · waiting" in text
    assert "\x1b]2;" not in text
    assert "named \\x1b]2;evil\\x07job" in text


# notifications


class Receiver:
    """A webhook that keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                receiver.bodies.append(json.loads(self.rfile.read(length)))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/secret-path"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(notifying, "FIRST_PAUSE_SECONDS", 0.01)
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_a_webhook_is_told_the_end(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, receiver: Receiver
) -> None:
    receiver.answers = [503]
    job = ended(faulty, in_project, "fail=capacity")
    assert run("jobs", "wait", job, "--notify", receiver.url).code == 5
    first, again = receiver.bodies
    assert first == again
    assert first["event"] == "job.ended"
    assert first["job"]["id"] == job
    assert first["cause"] == "capacity"


def test_slack_gets_its_own_form_with_nothing_of_a_name_as_markup(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, receiver: Receiver
) -> None:
    job = ended(faulty, in_project, "fail=data", "<!channel> & co")
    assert run("jobs", "watch", job, "--notify", receiver.url, "--notify-format", "slack").code == 5
    (body,) = receiver.bodies
    assert list(body) == ["text"]
    assert "(&lt;!channel&gt; &amp; co) failed" in body["text"]
    assert f"`runner jobs why {job}`" in body["text"]


def test_a_receiver_that_refuses_changes_nothing_but_is_named(
    run: CommandLine,
    faulty: FaultyEmulator,
    in_project: Provisioned,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    receiver.answers = [403]
    monkeypatch.setenv("RUNNER_NOTIFY_URL", receiver.url)
    outcome = run("jobs", "wait", ended(faulty, in_project, "fail=data"))
    assert outcome.code == 5
    assert "127.0.0.1 was not notified: HTTP 403" in outcome.err
    assert "secret-path" not in outcome.err + outcome.out


@pytest.mark.parametrize(
    ("url", "style"), [("https://hooks.slack.com/services/x", "slack"), ("https://example.com/x", "json")]
)
def test_the_form_follows_from_the_address(url: str, style: str) -> None:
    assert notifying.webhook(url).style == style


@pytest.mark.parametrize("url", ["http://example.com/x", "ftp://example.com", "hooks.slack.com/x"])
def test_only_https_is_notified(url: str, run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("jobs", "wait", "1", "--notify", url)
    assert outcome.code == 2
    assert "must start with https://" in outcome.err


# why


@pytest.mark.parametrize(
    ("cause", "evidence", "following"),
    [
        ("data", "INVALID_ARGUMENT, code 3", "--set training_dataset=FILE"),
        ("configuration", "INVALID_ARGUMENT, code 3", "--set NAME=VALUE"),
        ("permission", "missing then: storage.objects.get for service-", "runner jobs clone"),
        ("quota", "Global concurrent managed OSS model fine-tuning jobs", "ask for more"),
        ("capacity", "open models are tuned in europe-west4", "--to europe-west4"),
        ("platform", "no step was trained", "tell Google: projects/"),
    ],
)
def test_why_names_cause_evidence_and_next_command(
    cause: str, evidence: str, following: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = ended(faulty, in_project, f"fail={cause}")
    outcome = run("jobs", "why", job, "--format", "json")
    assert outcome.code == 0, outcome.err
    body = outcome.document
    assert body["cause"] == cause
    assert evidence in " | ".join(body["evidence"])
    assert following in " | ".join(body["next"])
    assert run("jobs", "why", job, "-q").out == f"{cause}\n"


@pytest.mark.parametrize(("fault", "cause"), [("quota-wait=100000", "quota"), ("capacity-wait=100000", "capacity")])
def test_why_of_a_job_that_waits(
    fault: str, cause: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = job_of(faulty, in_project, fault)
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", f"WAITING_FOR_{cause.upper()}")
    outcome = run("jobs", "why", job)
    assert outcome.code == 0
    assert f"cause     {cause}" in outcome.out
    assert "it is not stuck" in outcome.out


def test_why_names_missing_grants_with_the_command_that_mends_them(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    faulty.http.put(f"/storage/v1/b/{in_project.datasets}/iam", json={"bindings": []}).raise_for_status()
    job = created(faulty, in_project)["name"].rsplit("/", 1)[-1]
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED")
    body = run("jobs", "why", job, "--format", "json").document
    assert body["cause"] == "permission"
    commands = [text for text in body["next"] if "add-iam-policy-binding" in text]
    assert len(commands) == 2
    assert all(
        f"gs://{in_project.datasets} --member=serviceAccount:service-{in_project.number}@" in text for text in commands
    )


def test_why_names_the_lines_of_the_file(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, tmp_path: Path
) -> None:
    content = b'\n{"prompt": "", "completion": "b"}\n{"prompt": "a"}\nno JSON\n'
    job = created(faulty, in_project, content=content)["name"].rsplit("/", 1)[-1]
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED", seconds=120)
    body = run("jobs", "why", job, "--format", "json").document
    assert body["cause"] == "data"
    assert [line["line"] for line in body["lines"]] == [2, 3, 4]
    assert all(line["findings"] for line in body["lines"])
    copy = tmp_path / "mine.jsonl"
    copy.write_bytes(content + b'{"prompt": "a", "completion": "b"}\n')
    shown = run("jobs", "why", job, "--train", str(copy))
    assert "3: " in shown.out
    assert "differs from the job's object" in shown.err


def test_why_with_a_file_that_is_not_there(run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("jobs", "why", "latest", "--train", "nothing.jsonl")
    assert (outcome.code, outcome.err) == (2, "error: nothing.jsonl: no such file\n")


def test_why_of_a_job_that_is_not_there(run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("jobs", "why", "4711", "--format", "json")
    assert (outcome.code, outcome.error["code"]) == (4, "not_found")


# cancel, logs, metrics, diff, clone


def test_cancel_says_what_is_billed(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = job_of(faulty, in_project, "stall")
    refused = run("jobs", "cancel", job)
    assert refused.code == 2
    assert "--yes confirms it" in refused.err
    outcome = run("jobs", "cancel", job, "--yes", "--wait", "--format", "json")
    assert outcome.code == 0, outcome.err
    assert outcome.document["state"] == "JOB_STATE_CANCELLED"
    assert outcome.document["billed"] is None
    again = run("jobs", "cancel", job)
    assert again.code == 0
    assert "nothing is billed as far as known" in again.out
    assert "it had ended already: cancelled" in again.err
    assert run("jobs", "why", job, "-q").out == "cancelled\n"


def test_logs_are_the_events(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = ended(faulty, in_project, "fail=platform")
    lines = run("jobs", "logs", job).out.splitlines()
    assert lines[0].endswith("state pending")
    assert lines[-1].endswith("state failed Internal error encountered.")
    events = run("jobs", "logs", job, "--format", "json").documents
    assert [event["number"] for event in events] == list(range(1, len(events) + 1))


def test_metrics_of_a_job_without_any(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, tmp_path: Path
) -> None:
    job = ended(faulty, in_project, "fail=platform")
    assert run("jobs", "metrics", job).code == 4
    there = tmp_path / "losses.csv"
    there.write_text("mine")
    outcome = run("jobs", "metrics", job, "--to", str(there))
    assert outcome.code == 2
    assert "--force overwrites it" in outcome.err
    assert there.read_text() == "mine"


def test_diff_shows_what_differs(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    first, second = ended(faulty, in_project, "fail=data", "one"), ended(faulty, in_project, "fail=platform", "two")
    body = run("jobs", "diff", first, second, "--format", "json").document
    found = {item["name"]: (item["first"], item["second"]) for item in body["values"]}
    assert found["display_name"] == ("one", "two")
    assert "Internal error encountered." in found["error"]
    assert "base_model" not in found
    assert "base_model" in run("jobs", "diff", first, second, "--all").out
    assert "the jobs do not differ" in run("jobs", "diff", first, first).err


def test_clone_changes_prices_and_submits(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, dataset: Path
) -> None:
    content = dataset.read_bytes()
    job = ended(faulty, in_project, "fail=platform", content=content)
    faulty.arm("job:quota-wait=100000")
    refused = run("jobs", "clone", job, "--set", "epochs=2")
    assert refused.code == 7
    assert "list price about $" in refused.err
    planned = run(
        "jobs", "clone", job, "--set", "epochs=2", "--set", "labels.team=search", "--dry-run", "--format", "json"
    )
    assert planned.code == 0, planned.err
    assert planned.document["job"]["epochs"] == 2
    assert planned.document["job"]["labels"] == {"team": "search"}
    assert "outputUri" not in planned.document["job"]
    made = run("jobs", "clone", job, "--set", "epochs=2", "--yes", "--format", "json")
    assert made.code == 0, made.err
    assert made.document["created"] is True
    assert made.document["epochs"] == 2
    again = run("jobs", "clone", made.document["id"], "--yes", "--format", "json")
    assert again.document["created"] is False
    assert again.document["id"] == made.document["id"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["epochs"], "'epochs' is not NAME=VALUE"),
        (["epoch=3"], "'epoch' is no value of a job"),
        (["epochs=many"], "'many' is no whole number"),
        (["base_model="], "base_model cannot be empty"),
    ],
)
def test_a_mistyped_setting(
    settings: list[str], says: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned
) -> None:
    job = ended(faulty, in_project, "fail=platform")
    outcome = run("jobs", "clone", job, *[word for text in settings for word in ("--set", text)])
    assert outcome.code == 2
    assert says in outcome.err


# manifests and reproduction


def test_reproduce_says_what_has_changed_and_runs_it_again(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, dataset: Path
) -> None:
    faulty.arm("job:fail=platform")
    model = "meta/llama3_1@llama-3.1-8b-instruct"
    made = run("jobs", "submit", "--model", model, "--train", str(dataset), "--yes", "--format", "json")
    assert made.code == 0, made.err
    job = made.document["id"]
    told = run("reproduce", job, "--format", "json")
    assert told.code == 0, told.err
    manifest = told.document["manifest"]
    assert manifest["fingerprint"] == made.document["labels"]["runner-fingerprint"]
    assert manifest["datasets"]["training"]["crc32c"]
    assert manifest["price"]["date"]
    assert manifest["estimate"]["known"] is True
    assert manifest["versions"]["open-model-tuning"]
    assert told.document["reproducible"] is True
    until(faulty, f"{in_project.parent}/tuningJobs/{job}", "JOB_STATE_FAILED")
    again = run("reproduce", job, "--submit", "--yes", "--format", "json")
    assert again.code == 0, again.err
    assert again.document["created"] is True
    assert again.document["id"] != job
    uri = manifest["spec"]["training_dataset"].removeprefix("gs://").split("/", 1)
    upload = f"/upload/storage/v1/b/{uri[0]}/o"
    faulty.http.post(upload, params={"uploadType": "media", "name": uri[1]}, content=b"{}\n").raise_for_status()
    changed = run("reproduce", job, "--submit", "--yes")
    assert changed.code == 2
    assert "cannot be run again as it was: training data: CRC32C was" in changed.err


def test_reproduce_without_a_manifest(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = ended(faulty, in_project, "fail=platform")
    outcome = run("reproduce", job)
    assert outcome.code == 4
    assert f"`runner jobs clone {job}`" in outcome.err


def test_pruning_leaves_jobs_of_others_alone(run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned) -> None:
    job = ended(faulty, in_project, "fail=platform")
    outcome = run("checkpoints", "prune", job, "--delete", "--yes")
    assert outcome.code == 2
    assert "was not submitted by this tool" in outcome.err


# the emulator's own commands


def test_faults_on_the_command_line_of_an_emulator_that_does_not_run(run: CommandLine) -> None:
    assert run("emulator", "faults", "ls").code == 69
    outcome = run("emulator", "faults", "add", "tuningJobs.get:explode", "job")
    assert outcome.code == 2
    assert "'explode' is no fault of methods" in outcome.err
    assert "'job' is not METHOD:ACTION" in outcome.err


def test_faults_on_the_command_line(run: CommandLine, faulty: FaultyEmulator, state_directory: Path) -> None:
    started = run("emulator", "start", "--port", "0", "--stand-in", "tiny", "--fault", "job:stall", "--format", "json")
    assert started.code == 0, started.err
    try:
        assert run("emulator", "faults", "add", "projects.get:status=503,times=1", "-q").out == "2\n"
        listed = run("emulator", "faults", "ls", "--format", "json").document
        assert [item["fault"] for item in listed] == ["job:stall", "projects.get:status=503,times=1"]
        assert run("emulator", "faults", "ls", "--unused").code == 1
        assert run("emulator", "faults", "clear", "2").code == 0
        wrong = run("emulator", "faults", "add", "nothing.like.it:drop")
        assert wrong.code == 2
        assert "no method is named 'nothing.like.it'" in wrong.err
    finally:
        stopped = run("emulator", "stop", "--format", "json")
    assert stopped.document == {"stopped": True, "unusedFaults": ["job:stall"]}
    assert "faults that befell nothing: job:stall" in stopped.err
    log = (state_directory / "emulator" / "emulator.log").read_text()
    assert "unused fault 1: job:stall" in log
    again = run("emulator", "start", "--port", "0", "--stand-in", "tiny")
    try:
        assert "faults are armed from before: job:stall; `runner emulator faults clear` removes them" in again.err
    finally:
        run("emulator", "stop")
