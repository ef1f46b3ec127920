"""The emulator as a process of its own: started, found, stopped, reset."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from runner.cli.emulator.state import key
from runner.emulator import daemon
from runner.emulator.settings import EmulatorSettings
from runner.errors import ConfigurationError, RunnerError
from runner.running_emulator import find
from tests.cli.invocation import CommandLine, process

ROOT = Path(__file__).parents[2]


@pytest.fixture
def directory(state_directory: Path) -> Iterator[Path]:
    """A state directory whose server, if any, is stopped after the test."""
    path = state_directory / "emulator"
    yield path
    daemon.stop(path)


def _settings(directory: Path, token: str | None = None) -> EmulatorSettings:
    return EmulatorSettings(directory=directory, stand_in="tiny", token=token)


def test_its_life_on_the_command_line(run: CommandLine, directory: Path) -> None:
    started = run("emulator", "start", "--port", "0", "--stand-in", "tiny", "--format", "json")
    assert started.code == 0, started.err
    url = started.document["url"]
    assert started.document["alreadyRunning"] is False
    assert started.document["log"] == str(directory / "emulator.log")
    assert httpx.get(f"{url}/v1/projects/some-project", timeout=120).status_code == 200

    again = run("emulator", "start", "--format", "json")
    assert (again.code, again.document["url"], again.document["alreadyRunning"]) == (0, url, True)
    second = run("emulator", "start", "--foreground", "--port", "0")
    assert second.err == f"error: another emulator uses {directory}\nhint: `runner emulator stop` stops it\n"
    other_port = run("emulator", "start", "--port", "1", "--format", "json")
    assert (other_port.code, other_port.error["code"]) == (2, "configuration")

    status = run("emulator", "status", "--format", "json").document
    assert (status["url"], status["pid"]) == (url, started.document["pid"])
    assert run("emulator", "status", "-q").out == f"{url}\n"

    refused = run("emulator", "reset")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert find(directory) is not None

    assert run("emulator", "stop", "--format", "json").document == {"stopped": True}
    assert run("emulator", "stop", "--format", "json").document == {"stopped": False}
    assert not (directory / "server.json").exists()
    assert run("emulator", "status").code == 69
    assert run("emulator", "logs", "--lines", "0").code == 0

    assert run("emulator", "reset", "--yes", "--format", "json").document["deleted"] is True
    assert not directory.exists()
    assert run("emulator", "reset", "--yes", "--format", "json").document["deleted"] is False


def test_provisioned_it_is_where_commands_work(
    run: CommandLine, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("emulator", "start", "--port", "0", "--stand-in", "tiny")
    provisioned = run("emulator", "provision", "--project", "some-project", "--format", "json")
    assert provisioned.code == 0, provisioned.err
    assert provisioned.document["project"] == "some-project"

    shown = run("environment", "show", "--format", "json").document
    assert shown["project"] == "some-project"
    assert shown["datasetsBucket"] == provisioned.document["buckets"]["datasets"]
    assert run("jobs", "ls", "--format", "json").document == []
    findings = run("doctor", "--format", "json")
    assert findings.code == 0, findings.out

    variables = json.loads(run("emulator", "env", "--shell", "json").out)
    script = (
        "import google.auth, google.auth.transport.requests as transport\n"
        "credentials, project = google.auth.default(scopes=['https://www.googleapis.com/auth/cloud-platform'])\n"
        "credentials.refresh(transport.Request())\n"
        "print(project, credentials.service_account_email, bool(credentials.token))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env={**os.environ, **variables}
    )
    account = provisioned.document["runnerServiceAccount"]
    assert done.stdout.split() == ["some-project", account, "True"], done.stderr

    path = tmp_path / "made.json"
    made = run("emulator", "key", "ci-account", "--role", "roles/viewer", "--to", str(path), "--format", "json")
    email = "ci-account@some-project.iam.gserviceaccount.com"
    assert made.document == {"file": str(path), "account": email}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text())["client_email"] == email
    refused = run("emulator", "key", "--to", str(path), "--format", "json").error
    assert (refused["problems"], refused["hint"]) == ([f"{path} exists"], "overwrite it with --force")
    for stranger in ("someone@gmail.com", "builds-ci@other-project.iam.gserviceaccount.com", "ci"):
        denied = run("emulator", "key", stranger, "--project", "some-project", "--format", "json")
        assert (denied.code, denied.error["code"]) == (2, "configuration")
        assert stranger in denied.error["message"], denied.err
    url = json.loads((directory / "server.json").read_text())["url"]
    accounts = httpx.get(f"{url}/v1/projects/some-project/serviceAccounts", timeout=120).json()["accounts"]
    assert not [item for item in accounts if item["email"].startswith(("someone@", "builds-ci@"))]
    monkeypatch.chdir(tmp_path)
    for example in key.examples:
        made = run(*shlex.split(example)[1:])
        assert (made.code, made.err) == (0, ""), example
    missing = run("emulator", "faults", "clear", "99")
    assert missing.err == "error: There is no fault '99'.\nhint: `runner emulator faults ls` lists them\n"
    assert json.loads(run("emulator", "key").out)["client_email"] == account
    assert run("emulator", "reset", "--yes").code == 0
    assert not directory.exists()


def test_a_token_is_demanded_and_kept_from_other_users(
    run: CommandLine, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info, fresh = daemon.start(_settings(directory, "s3cret"), port=0)

    assert fresh
    assert info.token == "s3cret"
    assert httpx.get(f"{info.url}/v1/projects/p", timeout=120).status_code == 401
    assert (
        httpx.get(f"{info.url}/v1/projects/p", headers={"authorization": "Bearer s3cret"}, timeout=120).status_code
        == 200
    )
    assert stat.S_IMODE((directory / "server.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    if Path("/proc").exists():
        assert b"s3cret" not in Path(f"/proc/{info.pid}/cmdline").read_bytes()
    assert info.describe(directory)["token"] == "set"
    refused = run("emulator", "key", "--to", str(directory / "server.json"), "--format", "json").error
    assert len(refused["problems"]) == 3
    assert all(problem in refused["message"] for problem in refused["problems"])

    # Commands that work in this emulator know its token; one that was given another is refused.
    addresses = {"vertex": info.url, "storage": info.url}
    document = {"version": 1, "project": "some-project", "apiEndpoints": addresses}
    (directory / "environment.json").write_text(json.dumps(document))
    assert "has not been used in project" in run("jobs", "ls").err
    monkeypatch.setenv("RUNNER_TOKEN", "another")
    assert run("jobs", "ls", "--format", "json").error["http"] == 401


def test_a_killed_server_is_no_obstacle(directory: Path) -> None:
    first, _ = daemon.start(_settings(directory), port=0)
    os.kill(first.pid, signal.SIGKILL)
    _until_gone(first.pid)
    assert (directory / "server.json").exists()
    assert find(directory) is None

    second, fresh = daemon.start(_settings(directory), port=0)

    assert fresh
    assert second.pid != first.pid


def test_it_outlives_its_starter_and_ends_orderly_by_a_signal(directory: Path) -> None:
    words = ["emulator", "start", "--port", "0", "--stand-in", "tiny", "-q"]
    url = subprocess.run(
        [sys.executable, "-m", "runner", *words], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.strip()
    info = find(directory)
    assert info is not None
    assert info.url == url

    os.kill(info.pid, signal.SIGTERM)
    _until_gone(info.pid)

    assert not (directory / "server.json").exists()


def test_in_the_foreground_until_ctrl_c(directory: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "runner", "emulator", "start", "--foreground", "--port", "0", "--stand-in", "tiny"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert server.stderr is not None
    assert server.stderr.readline().startswith("listening on http://127.0.0.1:")
    _until(lambda: (directory / "server.json").exists())
    server.send_signal(signal.SIGINT)
    _, errors = server.communicate(timeout=120)

    assert server.returncode == 0, errors
    assert not (directory / "server.json").exists()


def test_why_it_did_not_start_is_said(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(RunnerError, match=r"did not start: .*cannot listen on 127\.0\.0\.1"):
            daemon.start(_settings(directory), port=taken.getsockname()[1])


def test_another_address_needs_a_token(directory: Path) -> None:
    settings = EmulatorSettings(directory=directory, host="0.0.0.0")
    with pytest.raises(RunnerError, match="reachable from other machines"):
        daemon.start(settings, port=0)


def test_a_process_that_is_not_the_server_is_neither_found_nor_ended(directory: Path) -> None:
    directory.mkdir(parents=True)
    with _bystander() as process:
        body = {"url": "http://127.0.0.1:9", "pid": process.pid, "started": "2026-01-01T00:00:00Z", "token": None}
        (directory / "server.json").write_text(json.dumps(body))

        assert find(directory) is None
        assert daemon.stop(directory) is False
        # A signal that was sent to it would come before the answer.
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"still there\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"still there\n"
    assert not (directory / "server.json").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1}', '{"url": 1, "pid": "x", "started": ""}'])
def test_a_damaged_server_file_counts_as_none(content: str, directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "server.json").write_text(content)

    assert find(directory) is None


def test_a_reset_deletes_only_an_emulators_state(directory: Path, tmp_path: Path) -> None:
    (directory / "blobs").mkdir(parents=True)
    (directory / "lock").touch()
    (directory / ".credentials.json.x1y2z3").touch()  # of a command that was killed while it wrote that file
    (directory / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"thesis\.txt"):
        daemon.reset(directory)
    assert (directory / "lock").exists()

    (directory / "thesis.txt").unlink()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept").touch()
    (directory / "jobs").symlink_to(tmp_path / "elsewhere")
    assert daemon.reset(directory) is True
    assert (tmp_path / "elsewhere" / "kept").exists()


def test_a_linked_state_directory_is_not_followed(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    directory.parent.mkdir(parents=True, exist_ok=True)
    directory.symlink_to(tmp_path / "real")

    with pytest.raises(ConfigurationError):
        daemon.reset(directory)
    assert (tmp_path / "real").exists()


@contextlib.contextmanager
def _bystander() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def _until_gone(pid: int) -> None:
    def gone() -> bool:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        return False

    _until(gone)


def _until(condition: object, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("command", ["start", "stop", "reset"])
def test_a_state_directory_that_cannot_be_is_no_bug(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    confirmed = ["--yes"] if command == "reset" else []
    state = str(tmp_path / "file" / "state")
    done = process("emulator", command, *confirmed, "--format", "json", RUNNER_STATE_DIR=state)
    assert (done.code, done.error["code"]) == (2, "configuration"), done.err
    assert done.error["message"].endswith("file is a file, not a folder")
    assert "RUNNER_STATE_DIR" in done.error["hint"]


def test_starting_on_a_full_disk_says_so(tmp_path: Path) -> None:
    program = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9999, 9999))\n"
    program += "from runner.cli.main import main; main(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", program, "emulator", "start", "--format", "json"],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "RUNNER_STATE_DIR": str(tmp_path)},
        cwd=Path(__file__).parents[2],
    )
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    assert (done.returncode, error["code"], error["path"]) == (74, "disk", str(tmp_path / "emulator"))
    assert list((tmp_path / "emulator").iterdir()) == []


def test_a_sigterm_while_it_starts_is_never_lost(tmp_path: Path) -> None:
    """Whatever the program is doing then: here something that would swallow an exception."""
    program = """
import contextlib, os, signal, sys
from pathlib import Path
from runner.emulator.__main__ import run
from runner.emulator.settings import EmulatorSettings

def ready(url):
    with contextlib.suppress(BaseException):
        signal.raise_signal(signal.SIGTERM)

sys.exit(run(EmulatorSettings(directory=Path(sys.argv[1])), ready=ready))
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", program, str(tmp_path / "state")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
