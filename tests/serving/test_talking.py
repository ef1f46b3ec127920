"""`chat` and `predict` against a real HTTP server whose answers are hostile; conversations kept and asked again."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from runner.cli.main import root
from runner.cli.reference import walk
from runner.emulator.server import EmulatorServer
from runner.errors import ConfigurationError
from runner.gcp import prediction
from runner.gcp.session import Session
from runner.serving.messages import image_part, read_messages
from tests.cli.invocation import CommandLine
from tests.serving.contest_server import ContestServer, says
from tests.serving.stub_endpoint import StubEndpoint

MANAGED = "meta/llama-3.1-8b-instruct-maas"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HOSTILE = {
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "link": "\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "title": "\x1b]0;owned\x07",
    "erase": "\x1b[2J\x1b[H",
    "report": "\x1b[6n",
    "device control": "\x1bP$q\x1b\\",
    "eight bit": "\x9b31m\x9d52;c;x\x9c",
    "overwrite": "safe\rrm -rf /",
    "backspace": "ok\x08\x08no",
    "right to left": "abc\u202egnp.exe\u2066x\u2069",
    "bell and null": "\x07\x00\x7f",
    "line separators": "a\u2028b\u2029c\ufeff",
}


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubEndpoint]:
    with StubEndpoint(seconds=0.0) as running:
        for name, value in (("PROJECT", "p"), ("VERTEX_URL", running.url), ("TOKEN", "t")):
            monkeypatch.setenv(f"RUNNER_{name}", value)
        yield running


def _harmless(text: str) -> bool:
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]", text)


@pytest.mark.parametrize("evil", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("words", [["chat", "--no-stream"], ["predict"], ["chat", "--format", "json"]], ids=" ".join)
def test_what_a_model_says_cannot_steer_the_terminal(
    words: list[str], evil: str, stub: StubEndpoint, run: CommandLine
) -> None:
    outcome = run(*words, "--endpoint", "77", stdin=f"say {evil}")
    assert outcome.code == 0, outcome.err
    assert _harmless(outcome.out + outcome.err), repr(outcome.out)
    if "json" in words:
        assert evil in outcome.document["text"], "a program gets what was said"


def test_files_standard_input_and_arguments_as_prompts(stub: StubEndpoint, run: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("from a file\nof two lines")
    outcome = run("predict", "--endpoint", "77", "--file", str(tmp_path / "q.txt"), "--format", "json")
    assert outcome.document["predictions"] == ["answer to from a file\nof two lines"]
    assert run("predict", "--endpoint", "77", stdin="from a pipe").out == "answer to from a pipe\n"
    assert run("predict", "--endpoint", "77", "--file", "-", stdin="from -").out == "answer to from -\n"
    lines = '{"prompt": "one"}\n\n{"prompt": "two"}\n'
    assert run("predict", "--endpoint", "77", "--instances", "-", stdin=lines).code == 0
    for words, stdin in ((["predict"], " \n"), (["predict", "--file", str(tmp_path / "none")], ""), (["chat"], "")):
        outcome = run(*words, "--format", "json", stdin=stdin)
        assert (outcome.code, outcome.error["code"]) == (2, "configuration"), words


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["predict", "-"], "text with\nlines"),
        (["predict", "--file", "-"], "text with\nlines"),
        (["predict"], "text with\nlines"),
        (["chat", "-", "--no-stream"], "text with\nlines"),
        (["chat", "--no-stream"], "text with\nlines"),
        (["chat", "hello", "--system", "-", "--no-stream"], "hello"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_a_dash_is_standard_input(words: list[str], asked: str, stub: StubEndpoint, run: CommandLine) -> None:
    outcome = run(*words, "--endpoint", "77", stdin="text with\nlines")
    assert (outcome.code, outcome.out) == (0, f"answer to {asked}\n"), outcome.err


@pytest.mark.parametrize(
    "words", [["predict", "-", "-"], ["predict", "-", "--file", "-"], ["chat", "-", "--system", "-"]], ids=" ".join
)
def test_standard_input_is_one_text(words: list[str], run: CommandLine) -> None:
    assert "standard input can be only one" in run(*words, "--json").error["message"]


def test_only_these_arguments_are_texts() -> None:
    """Others name something: where one is added that is said to a model, `-` is standard input there too."""
    texts = {
        (path, parameter.name)
        for path, command, _ in walk(root, None, "runner")
        for parameter in command.params
        if isinstance(parameter, click.Argument)
        and (parameter.metavar or "").strip("[].") in ("PROMPT", "MESSAGE", "")
        and isinstance(parameter.type, click.types.StringParamType)
    }
    assert texts == {("runner predict", "prompts"), ("runner chat", "message"), ("runner emulator key", "account")}


def test_a_conversation_is_kept_taken_up_and_asked_again(stub: StubEndpoint, run: CommandLine, tmp_path: Path) -> None:
    kept = tmp_path / "talk.json"
    chat = ["chat", "--endpoint", "77", "--no-stream"]
    assert run(*chat, "first", "--system", "Be brief.", "--save", str(kept)).code == 0
    assert kept.stat().st_mode & 0o077 == 0, "nobody else reads it"
    assert run(*chat, "second", "--resume", str(kept), "--save", str(kept)).code == 0
    assert [message["role"] for message in read_messages(kept)] == ["system", "user", "assistant", "user", "assistant"]

    same = run("chat", "--endpoint", "77", "--replay", str(kept), "--format", "json").document
    assert (same["different"], len(same["answers"])) == (0, 2)
    body = json.loads(kept.read_text())
    body["messages"][2]["content"] = "another answer"
    kept.write_text(json.dumps(body))
    outcome = run("chat", "--endpoint", "77", "--replay", str(kept))
    assert "then: another answer\nnow:  answer to first" in outcome.out
    assert "1 of 2 answers are the same" in outcome.out

    assert run("chat", "hi", "--replay", str(kept)).code == 2
    missing = run("chat", "hi", "--endpoint", "77", "--resume", str(tmp_path / "none.json"), "--format", "json")
    assert missing.error["message"].endswith(f"{tmp_path / 'none.json'}: no such file")
    kept.write_text('{"version": 9}')
    assert run("chat", "--endpoint", "77", "--replay", str(kept)).code == 2


def test_pictures_are_sent_as_they_are(tmp_path: Path) -> None:
    picture = tmp_path / "dot.png"
    picture.write_bytes(PNG)
    url = image_part(str(picture))["image_url"]["url"]
    assert base64.b64decode(url.removeprefix("data:image/png;base64,")) == PNG
    assert image_part("gs://b/x.png")["image_url"]["url"] == "gs://b/x.png"
    for wrong in (tmp_path / "none.png", tmp_path / "notes.txt"):
        with pytest.raises(ConfigurationError):
            image_part(str(wrong))


def _says_back(body: dict[str, Any]) -> tuple[int, dict[str, Any] | Iterator[str]]:
    """Say back what was asked, in pieces of one character; never end if told so."""
    asked = str(body["messages"][-1]["content"])
    if not body.get("stream"):
        return says(f"answer to {asked}")
    return 200, _endless() if asked == "endless" else iter(f"answer to {asked}\x1b[2J")


def _endless() -> Iterator[str]:
    while True:
        yield "more "
        time.sleep(0.05)


def _talk(server: ContestServer, typed: list[bytes], *words: str, term: str = "dumb") -> str:
    """Type at a real pseudo-terminal, each line at a prompt, and Ctrl-C at an endless answer; return what is shown."""
    main, other = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "runner", "chat", "--endpoint", "talker", "--no-color", *words],
        stdin=other,
        stdout=other,
        stderr=other,
        env={**os.environ, **server.variables(), "TERM": term, "PYTHON_BASIC_REPL": "1"},
        cwd=Path(__file__).parents[2],
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(other)
    seen = ""
    interrupted = False
    deadline = time.monotonic() + 60
    while child.poll() is None or select.select([main], [], [], 0)[0]:
        assert time.monotonic() < deadline, seen
        if not select.select([main], [], [], 0.1)[0]:
            continue
        try:
            seen += os.read(main, 4096).decode(errors="replace")
        except OSError:
            break
        if typed and seen.endswith(("> ", "\n. ", "h. ")):
            os.write(main, typed.pop(0))
            seen += "\n"
        elif not interrupted and "more more more" in seen:
            os.write(main, b"\x03")
            interrupted = True
    os.close(main)
    assert child.wait() == 0, seen
    return seen


def test_a_conversation_at_a_terminal(tmp_path: Path) -> None:
    """Answers come in pieces, hold no control sequence, and end at Ctrl-C, which does not end the conversation."""
    kept = tmp_path / "talk.json"
    lines = [
        "hello \u202e",
        "/history",
        f"/save {kept}",
        "endless",
        "/image /no/such.png",
        "/reset",
        "/sistem x",
        "/temp 9",
        "/save",
        f"/save {tmp_path}/none/talk.json",
        "/exit",
    ]
    with ContestServer({"talker": _says_back}) as server:
        seen = _talk(server, [line.encode() + b"\n" for line in lines], "--system", "Be brief.")
        assert server.left.wait(30), "the request of an answer that was stopped is given up"
    assert "answer to hello \\u202e\\x1b[2J" in seen
    assert "\x1b[2J" not in seen
    assert "assistant: answer to hello \\u202e" in seen
    assert "stopped; /retry asks again" in seen
    assert "such.png: " in seen
    assert "there is no command /sistem: did you mean /system?" in seen
    assert "'9' is not a temperature" in seen
    assert "/save needs FILE" in seen
    assert f"the folder {tmp_path}/none does not exist" in seen
    assert not (tmp_path / "none").exists()
    assert [message["role"] for message in read_messages(kept)] == ["system", "user", "assistant"]
    assert [message["role"] for message in server.asked[-1][1]["messages"]] == ["system", "user", "assistant", "user"]


def test_several_lines_are_one_message_and_a_question_is_asked_again() -> None:
    """A paste, lines that end in a backslash, and what stands between triple quotes."""
    typed = [
        b"\x1b[200~first pasted\nsecond pasted\nthird pasted\x1b[201~\r",
        b"one \\\r",
        b"two\r",
        b'"""\r',
        b"three\r",
        b"\r",
        b'four"""\r',
        b"/temp 0.5\r",
        b"/retry\r",
        b"/exit\r",
    ]
    with ContestServer({"talker": _says_back}) as server:
        _talk(server, typed, term="xterm")
    questions = [body["messages"][-1]["content"] for _, body in server.asked]
    assert questions == [
        "first pasted\nsecond pasted\nthird pasted",
        "one \ntwo",
        "three\n\nfour",
        "three\n\nfour",
    ]
    assert [body.get("temperature") for _, body in server.asked] == [None, None, None, 0.5]
    assert len(server.asked[-1][1]["messages"]) == len(server.asked[-2][1]["messages"])


@pytest.mark.training
def test_a_client_that_leaves_ends_the_generation(session: Session, emulator: EmulatorServer) -> None:
    """Through the whole emulator, to the counters of the process that generates."""
    messages = [{"role": "user", "content": "go on"}]
    pieces = prediction.chat(
        session, model=MANAGED, messages=messages, stream=True, max_tokens=4000, temperature=1.5, ignore_eos=True
    )
    assert isinstance(pieces, Generator)
    next(pieces)

    def counters() -> list[dict[str, Any]]:
        found = []
        for socket in emulator.settings.directory.glob("deployments/*/model.sock"):
            transport = httpx.HTTPTransport(uds=str(socket))
            with httpx.Client(transport=transport, base_url="http://model", timeout=120) as client:
                found.append(client.get("/metrics").json())
        return found

    before = counters()
    assert sum(one["runningSequences"] for one in before) == 1
    pieces.close()
    deadline = time.monotonic() + 120
    now = counters()
    while any(one["runningSequences"] for one in now):
        assert time.monotonic() < deadline, now
        time.sleep(0.02)
        now = counters()
    for reason, more in (("cancelled", 1), ("length", 0), ("stop", 0)):
        assert sum(one["finishedSequences"][reason] for one in now) == more + sum(
            one["finishedSequences"][reason] for one in before
        ), reason
