"""Start the emulator as a process of its own, and stop it; nothing but a server of its own is ever killed."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from runner import local_files, times
from runner.emulator.settings import EmulatorSettings
from runner.errors import ConfigurationError, EngineMissingError, RunnerError
from runner.installation import install_hint
from runner.json_text import parsed
from runner.local_processes import module_command
from runner.running_emulator import LOG_FILE, SERVER_FILE, ServerInfo, find, is_server

DEFAULT_PORT = 8085
TOKEN_VARIABLE = "RUNNER_EMULATOR_TOKEN"  # noqa: S105 - the name of a variable
"""How a token reaches the server: a command line could be read by every user of the machine."""

_ROOM_BYTES = 2**20
"""What a new server's database and log take, with room for a few objects."""
_ELSEWHERE = "free disk space, or export RUNNER_STATE_DIR=DIRECTORY, then `runner emulator start`"
_LOG_LIMIT_BYTES = 5 * 1024 * 1024
_STOP_SECONDS = 20.0
"""The server gives open requests 5 s, then stops its training and serving processes."""
_OUR_ENTRIES = frozenset(
    {
        "lock",
        *(f"state.sqlite3{suffix}" for suffix in ("", "-wal", "-shm")),
        *("blobs", "jobs", "deployments", "sockets"),
        *("faults.json", "faults.json.new"),
        *(SERVER_FILE, f"{SERVER_FILE}.new", LOG_FILE, f"{LOG_FILE}.1"),
        *(
            "environment.json",
            "environment.json.new",
            "infra.json",
            "infra.json.lock",
            "infra.json.holder",
            "infra.json.new",
            "credentials.json",
            "gcloud",
            "credentials.json.new",
            "boto.cfg",
            "boto.cfg.new",
            "access-token",
            "access-token.new",
        ),
    }
)
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Servers that this very process started, to be reaped when it stops them."""


def start(settings: EmulatorSettings, *, port: int | None = None, timeout: float = 60.0) -> tuple[ServerInfo, bool]:
    """Start a server that outlives this process, and wait until it answers.

    Args:
        settings: its `port` is not used.
        port: the port to listen on; None takes 8085, or a free one if that is taken.
        timeout: seconds to wait for its first answer.

    Returns:
        The server, and whether it was started now; False means that it ran already.

    Raises:
        ConfigurationError: another one runs on this directory, at another port than the one asked for, or the directory
            cannot be made.
        DiskError: the disk is full, read-only or broken.
        EngineMissingError: the `emulator` extra is not installed.
        RunnerError: it did not start; the message has the end of its log.
    """
    check_installed()
    running = find(settings.directory)
    if running is not None:
        return _same(running, port), False
    try:
        settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise local_files.unwritable(settings.directory, error, hint=_ELSEWHERE) from error
    # Its log could not say so: it would be on the same disk.
    local_files.check_room(settings.directory, _ROOM_BYTES, hint=_ELSEWHERE)
    log = settings.directory / LOG_FILE
    _turn_over(log)
    (settings.directory / SERVER_FILE).unlink(missing_ok=True)
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [*_command(), *to_arguments(settings, free_port(settings.host) if port is None else port)],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            env=_variables(settings),
        )
    _children[process.pid] = process
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        info = find(settings.directory)
        if info is not None and _answers(info):
            return (info, True) if info.pid == process.pid else (_same(info, port), False)
        if process.poll() is not None and info is None:
            raise RunnerError(f"the emulator did not start: {_last_line(log)}", hint=f"its log is {log}")
        time.sleep(0.05)
    process.terminate()
    raise RunnerError(f"the emulator did not answer within {timeout:.0f} s", hint=f"its log is {log}")


def stop(directory: Path, *, timeout: float = _STOP_SECONDS) -> bool:
    """End the server of a state directory and return whether there was one.

    It is asked first; after `timeout` seconds it is killed.
    """
    info = find(directory)
    if info is None:
        (directory / SERVER_FILE).unlink(missing_ok=True)
        return False
    for number, patience in ((signal.SIGTERM, timeout), (signal.SIGKILL, 5.0)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(info.pid, number)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            if not is_server(info.pid, directory):
                if child := _children.pop(info.pid, None):
                    child.wait()
                (directory / SERVER_FILE).unlink(missing_ok=True)
                return True
            time.sleep(0.05)
    raise RunnerError(f"process {info.pid} cannot be ended", hint="the system keeps it; try again later")


def reset(directory: Path) -> bool:
    """Delete the state of a stopped emulator and return whether there was any.

    Raises:
        ConfigurationError: the directory holds a running server or anything that is not an emulator's.
    """
    if not directory.exists() and not directory.is_symlink():
        return False
    if find(directory) is not None:
        raise ConfigurationError(f"an emulator runs on {directory}", hint="`runner emulator stop`")
    entries = sorted(directory.iterdir()) if directory.is_dir() and not directory.is_symlink() else [directory]
    strange = [entry.name for entry in entries if not _ours(entry.name)]
    if strange:
        raise ConfigurationError(
            f"{directory} contains files that are not the emulator's: {', '.join(strange[:5])}",
            hint="nothing was deleted; look at it yourself",
        )
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    directory.rmdir()
    return True


def _ours(name: str) -> bool:
    """Whether this is an emulator's: one of its files, or what a process that was killed while it wrote one left."""
    return name in _OUR_ENTRIES or (name.startswith(".") and name[1:].rpartition(".")[0] in _OUR_ENTRIES)


def announce(settings: EmulatorSettings, url: str) -> None:
    """Write `server.json` for this process; the server calls it once it can be reached."""
    now = times.to_seconds(time.time())
    info = ServerInfo(url=url, pid=os.getpid(), started=now, token=settings.token)
    path = settings.directory / SERVER_FILE
    aside = path.with_name(f"{SERVER_FILE}.new")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(info), file)
    aside.replace(path)


def withdraw(directory: Path) -> None:
    """Remove `server.json` if it is this process's."""
    with contextlib.suppress(OSError, ValueError):
        if parsed((directory / SERVER_FILE).read_bytes()).get("pid") == os.getpid():
            (directory / SERVER_FILE).unlink()


def check_installed() -> None:
    """Return normally if the server's libraries are here. Raises EngineMissingError."""
    from importlib.util import find_spec

    missing = [name for name in ("starlette", "uvicorn", "httptools", "google_crc32c") if find_spec(name) is None]
    if missing:
        raise EngineMissingError(
            f"the local server needs {', '.join(missing)}, which is not installed",
            hint=install_hint("local"),
        )


def to_arguments(settings: EmulatorSettings, port: int) -> list[str]:
    """Return the command line of `python -m runner.emulator` for these settings, but the token."""
    arguments = ["--directory", str(settings.directory.absolute()), "--host", settings.host, "--port", str(port)]
    arguments += ["--stand-in", settings.stand_in, "--concurrent-tuning-jobs", str(settings.concurrent_tuning_jobs)]
    arguments += ["--training-threads", str(settings.training_threads)]
    for host in settings.allowed_hosts:
        arguments += ["--allow-host", host]
    if settings.dedicated_certificate and settings.dedicated_key:
        arguments += ["--dedicated-certificate", str(settings.dedicated_certificate.absolute())]
        arguments += ["--dedicated-key", str(settings.dedicated_key.absolute())]
        arguments += ["--dedicated-port", str(settings.dedicated_port), "--dedicated-host", settings.dedicated_host]
    for fault in settings.faults:
        arguments += ["--fault", fault]
    if settings.time_scale != 1:
        arguments += ["--time-scale", str(settings.time_scale)]
    for model, path in settings.model_directories.items():
        arguments += ["--model-directory", f"{model}={path.absolute()}"]
    return arguments


def free_port(host: str) -> int:
    """Return 8085, or 0 (which takes a free one) if something else listens there."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT


def _command() -> list[str]:
    return module_command("runner.emulator")


def _variables(settings: EmulatorSettings) -> dict[str, str]:
    root = str(Path(__file__).absolute().parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
    variables.pop(TOKEN_VARIABLE, None)
    if settings.token:
        variables[TOKEN_VARIABLE] = settings.token
    return variables


def _same(running: ServerInfo, port: int | None) -> ServerInfo:
    if port not in (None, 0, urlsplit(running.url).port):
        raise ConfigurationError(f"the emulator runs already, at {running.url}", hint="`runner emulator stop` first")
    return running


def _answers(info: ServerInfo) -> bool:
    address = urlsplit(info.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=1)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _turn_over(log: Path) -> None:
    with contextlib.suppress(OSError):
        if log.stat().st_size > _LOG_LIMIT_BYTES:
            log.replace(log.with_name(log.name + ".1"))


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").split("\n")
    except OSError:
        return "it left no log"
    return next((line.strip() for line in reversed(lines) if line.strip()), "its log is empty")
