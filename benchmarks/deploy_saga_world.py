"""The environment of `benchmarks.deploy_saga`: an emulator whose models only report that they are healthy, and a proxy.

This is not part of the product.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from runner.environment import Environment
from runner.gcp.session import Session
from tests.gcp.flaky import Fault, FlakyProxy
from tests.local_server import Handler

PATIENCE = 1.5
"""Seconds that a client waits for a response here; it is 60 otherwise."""
LATE = 2.5
"""Seconds after which a late request takes effect."""
_SERVER = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1] + "~"); s.listen(8); os.rename(sys.argv[1] + "~", sys.argv[1])
while True:
    c, _ = s.accept(); c.recv(65536); c.sendall(b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\nconnection: close\\r\\n\\r\\n{}"); c.close()
"""  # noqa: E501


class HealthyProcess:
    """A process that only reports that it is healthy."""

    def __init__(self, directory: Path) -> None:
        path = json.loads((directory / "serving.json").read_text())["socket"]
        self._process = subprocess.Popen([sys.executable, "-S", "-E", "-c", _SERVER, path])

    def is_alive(self) -> bool:
        """Return whether it is running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it."""
        self._process.kill()

    async def wait(self) -> int:
        """Return its exit code."""
        while (code := self._process.poll()) is None:
            await asyncio.sleep(0.05)
        return code


class HealthyLauncher:
    """Starts a `HealthyProcess` instead of a model."""

    def available(self) -> None:
        """Nothing is missing."""

    def start_serving(self, directory: Path) -> HealthyProcess:
        """Start one."""
        return HealthyProcess(directory)

    def close(self) -> None:
        """Do nothing: the server has stopped all of them."""


@dataclass(slots=True)
class Proxy(FlakyProxy):
    """A proxy that can also carry out requests late, and break the n-th request of any kind."""

    deadly: Fault | None = None
    countdown: int = 0
    late: list[threading.Thread] = field(default_factory=list)
    slowest: float = 0.0
    """Duration of the longest request, except those that are intentionally late."""

    def _handle(self, handler: Handler) -> None:
        fault = next((item for item in self.faults if item.kind == "late"), None)
        if fault is None or not self._is_next(fault, handler):
            start = time.monotonic()
            with contextlib.suppress(ConnectionError):  # the requesting process was killed
                FlakyProxy._handle(self, handler)
            self.slowest = max(self.slowest, time.monotonic() - start)
            return
        body = handler.body()
        self.requests.append(f"{handler.command} {handler.path}")
        thread = threading.Thread(
            target=self._carry_out_late, args=(handler.command, handler.path, dict(handler.headers.items()), body)
        )
        thread.start()
        self.late.append(thread)
        time.sleep(PATIENCE + 0.3)
        handler.close_connection = True

    def _is_next(self, fault: Fault, handler: Handler) -> bool:
        if fault.times <= 0 or fault.method != handler.command or not re.search(fault.path, handler.path):
            return False
        if fault.skip > 0:
            fault.skip -= 1
            return False
        fault.times -= 1
        return True

    def _carry_out_late(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        time.sleep(LATE)
        kept = {key: value for key, value in headers.items() if key.lower() not in {"host", "content-length"}}
        httpx.request(method, self.upstream + path, content=body, headers=kept, timeout=60)

    def _fault(self, method: str, path: str) -> Fault | None:
        if self.deadly is None:
            return FlakyProxy._fault(self, method, path)
        self.countdown -= 1
        return self.deadly if self.countdown == -1 else None


@dataclass(slots=True)
class World:
    """The emulator, the proxy before it, and the resources of another owner."""

    environment: Environment
    proxy: Proxy
    direct: Session
    source: str
    foreign: set[str] = field(default_factory=set)
    documents: str = ""
    failures: list[str] = field(default_factory=list)

    def truth(self) -> dict[str, Any]:
        """Return the documents of all endpoints, models and deployed models, by name."""
        found: dict[str, Any] = {}
        for collection in ("endpoints", "models"):
            path = f"/v1beta1/{self.environment.parent}/{collection}"
            for item in self.direct.http.get(path, params={"pageSize": "1000"}).json().get(collection, []):
                found[item["name"]] = item
                for one in item.get("deployedModels", []) if collection == "endpoints" else []:
                    found[f"{item['name']}/deployedModels/{one['id']}"] = one
        return found

    def theirs(self) -> str:
        """Return the documents of another owner's resources, as text."""
        return json.dumps({key: value for key, value in self.truth().items() if key in self.foreign}, sort_keys=True)

    def expect(self, right: bool, what: str) -> None:
        """Record a failure."""
        if not right:
            self.failures.append(what)
            print(f"FAILED {what}; the slowest request so far took {self.proxy.slowest:.1f} s", flush=True)
