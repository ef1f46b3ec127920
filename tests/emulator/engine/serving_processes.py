"""Starts real serving processes for tests."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from runner.emulator.engine.launcher import Launcher, WorkerProcess
from runner.emulator.engine.protocol import ModelSource, ServingSpec

LLAMA = ModelSource(kind="tiny", family="llama3")


def chat(text: str, **fields: Any) -> dict[str, Any]:
    """Return a chat completions request of one message."""
    return {"messages": [{"role": "user", "content": text}], **fields}


@dataclass(frozen=True, slots=True)
class Served:
    """A serving process and a client of its socket."""

    process: WorkerProcess
    client: httpx.Client
    socket: Path

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(path, json=body)

    def predict(self, *instances: dict[str, Any], **fields: Any) -> dict[str, Any]:
        answer = self.post("/predict", {"instances": instances, **fields})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def metrics(self) -> dict[str, Any]:
        body: dict[str, Any] = self.client.get("/metrics").json()
        return body

    def wait_for(self, condition: str, timeout_seconds: float = 120) -> dict[str, Any]:
        """Poll the metrics until `condition`, a Python expression over them, holds."""
        deadline = time.monotonic() + timeout_seconds
        while not eval(condition, {}, metrics := self.metrics()):  # noqa: S307 - the tests' own expressions
            assert time.monotonic() < deadline, f"{condition} never held: {metrics}"
            time.sleep(0.02)
        return metrics


def client_of(socket: Path) -> httpx.Client:
    """Return a client of its own connection."""
    return httpx.Client(transport=httpx.HTTPTransport(uds=str(socket)), base_url="http://model", timeout=60)


@contextmanager
def served(launcher: Launcher, source: ModelSource, cache: Path, **limits: int) -> Iterator[Served]:
    """Serve a model until the block ends; yields once it answers."""
    # Unix sockets' paths are limited to about 100 bytes, which pytest's own folders may exceed.
    with tempfile.TemporaryDirectory(prefix="serving-") as name:
        directory = Path(name)
        socket = directory / "model.sock"
        spec = ServingSpec(source=source, socket=str(socket), name="tuned", cache_directory=str(cache), **limits)
        spec.write(directory / "serving.json")
        process = launcher.start_serving(directory)
        try:
            with client_of(socket) as client:
                _wait_until_healthy(process, client, socket)
                yield Served(process, client, socket)
        finally:
            process.kill()
            process.join(10)


def _wait_until_healthy(process: WorkerProcess, client: httpx.Client, socket: Path) -> None:
    log = socket.parent / "worker.log"
    deadline = time.monotonic() + 120
    while not socket.exists():
        assert process.is_alive(), log.read_text() if log.exists() else "never started"
        assert time.monotonic() < deadline, "the server never answered"
        time.sleep(0.05)
    client.get("/health").raise_for_status()
