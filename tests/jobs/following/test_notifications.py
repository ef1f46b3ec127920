"""Whoever is told that a job has ended gets it in the form that suits them."""

from __future__ import annotations

import base64
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from runner.jobs.following import notifying
from tests.cli.invocation import CommandLine
from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned
from tests.rest import ended

pytestmark = pytest.mark.usefixtures("quick")


class Receiver:
    """A webhook that keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["content-length"])
                receiver.paths.append(self.path)
                receiver.bodies.append(json.loads(self.rfile.read(length)))
                self.send_response(receiver.answers.pop(0) if receiver.answers else 200)
                answer = b'{"messageIds": ["1"]}' if self.path.endswith(":publish") else b""
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

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


TOPIC = "projects/my-project/topics/tuning-jobs"


@pytest.fixture
def pubsub(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Receiver:
    """The same server as Google's variable for a local Pub/Sub names it."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", receiver.url.removeprefix("http://").split("/")[0])
    return receiver


@pytest.mark.parametrize("name", [TOPIC, f"pubsub://{TOPIC}"])
def test_a_topic_gets_a_message(
    name: str, run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, pubsub: Receiver
) -> None:
    pubsub.answers = [503]
    job = ended(faulty, in_project, "fail=capacity")
    assert run("jobs", "wait", job, "--notify", name).code == 5
    assert pubsub.paths == [f"/v1/{TOPIC}:publish"] * 2
    (message,) = pubsub.bodies[-1]["messages"]
    assert message["attributes"] == {"event": "job.ended", "job": job, "state": "JOB_STATE_FAILED"}
    body = json.loads(base64.b64decode(message["data"]))
    assert (body["event"], body["job"]["id"], body["cause"]) == ("job.ended", job, "capacity")


def test_a_topic_that_is_not_there_changes_nothing_but_is_named(
    run: CommandLine, faulty: FaultyEmulator, in_project: Provisioned, pubsub: Receiver
) -> None:
    pubsub.answers = [404]
    outcome = run("jobs", "wait", ended(faulty, in_project, "fail=data"), "--notify", TOPIC)
    assert outcome.code == 5
    assert f"{TOPIC} was not notified: projects.topics.publish {TOPIC}" in outcome.err


@pytest.mark.parametrize("name", ["projects/my-project/topics/x", "pubsub://my-topic", "projects/p/subscriptions/abc"])
def test_what_is_no_topic(name: str, run: CommandLine, in_project: Provisioned) -> None:
    outcome = run("jobs", "wait", "1", "--notify", name)
    assert outcome.code == 2
    assert "is not projects/PROJECT/topics/TOPIC" in outcome.err
