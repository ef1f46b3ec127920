"""What command lines of the sweep work in: an emulator, a proxy in front of it, and a new project for each case."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.cli.main import main
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.environment import Environment
from runner.gcp import uploads
from runner.gcp.session import Session
from tests.breaking import hurry
from tests.breaking.serving import QuickLauncher
from tests.gcp.corrupting import CorruptingProxy
from tests.jobs.conftest import contract_bucket, set_quota
from tests.projects import environment_of
from tests.provisioning import provision

LONGEST_SECONDS = 45.0
"""A command line that takes longer hangs."""
SILENCE_SECONDS = 10.0
"""Longest time without a word. A wait is told after a tenth of the real time, and the machine may be busy."""


class HangsError(BaseException):
    """A command line has not ended in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What a command line left."""

    code: int
    out: str
    err: str
    seconds: float
    silence: float
    """Longest time without a word, in seconds."""

    @property
    def document(self) -> Any:
        """Return the JSON of standard output, None if it is none."""
        try:
            return json.loads(self.out)
        except ValueError:
            return None

    @property
    def told(self) -> str:
        """Return the end of what it said, with the end of the traceback of a bug."""
        saved = re.search(r"traceback is in (\S+\.txt)", self.err)
        lines = ""
        if saved and Path(saved[1]).exists():
            lines = " ".join(Path(saved[1]).read_text().splitlines()[-7:])
            Path(saved[1]).unlink()
        return f"{self.code}: {self.err.strip()[-400:]} {lines}"


class _Stamped(io.StringIO):
    """Text that notes when it is written."""

    def __init__(self, moments: list[float]) -> None:
        super().__init__()
        self._moments = moments

    def write(self, text: str) -> int:
        self._moments.append(time.monotonic())
        return super().write(text)


class World:
    """One emulator with its proxy."""

    def __init__(self, server: EmulatorServer, proxy: CorruptingProxy, folder: Path) -> None:
        self.server = server
        self.proxy = proxy
        self.folder = folder
        self._numbers = itertools.count(1)
        self.shared: dict[str, Any] = {}
        """What flows make once."""

    def place(self) -> Place:
        """Return a new project, with a folder and a state directory of its own."""
        number = next(self._numbers)
        project = provision(self.server.url, f"sweep-{os.getpid()}-{number}")
        environment = dataclasses.replace(environment_of(project), contract_bucket=contract_bucket(project))
        set_quota(project, 0)
        folder = self.folder / f"case-{number}"
        folder.mkdir()
        return Place(self, environment, folder)


@dataclass(slots=True)
class Place:
    """A project and a folder on this machine."""

    world: World
    environment: Environment
    folder: Path
    machine: int = 1
    """Its state directory: another number is another machine."""
    values: list[tuple[Any, str, Any]] = field(default_factory=list)
    """Module, name and value of what is set for command lines here."""
    _direct: Session | None = None

    @property
    def direct(self) -> Session:
        """Return a session that is never broken."""
        if self._direct is None:
            self._direct = Session(self.environment)
        return self._direct

    def close(self) -> None:
        """Close the connections."""
        if self._direct is not None:
            self._direct.close()

    @property
    def state(self) -> Path:
        """Return the state directory."""
        return self.folder / f"machine-{self.machine}"

    def variables(self, url: str) -> dict[str, str]:
        """Return the environment of a command line here."""
        here = self.environment
        return {
            "RUNNER_PROJECT": here.project,
            "RUNNER_PROJECT_NUMBER": here.project_number,
            "RUNNER_LOCATION": here.location,
            "RUNNER_DATASETS_BUCKET": here.datasets_bucket,
            "RUNNER_IMAGES_BUCKET": here.images_bucket,
            "RUNNER_OUTPUTS_BUCKET": here.outputs_bucket,
            "RUNNER_CONTRACT_BUCKET": here.contract_bucket,
            "RUNNER_VERTEX_URL": url,
            "RUNNER_STORAGE_URL": url,
            "RUNNER_STATE_DIR": str(self.state),
        }

    @contextlib.contextmanager
    def entered(self, url: str = "") -> Iterator[pytest.MonkeyPatch]:
        """Set the variables, which name the service at `url`, for what runs in this process."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables(url).items():
                patch.setenv(name, value)
            yield patch

    def run(self, arguments: Sequence[str], *, broken: bool, traced: bool = False) -> Ended:
        """Run a command line in this process; a broken one has little patience. It and a traced one use the proxy."""
        url = self.world.proxy.url if broken or traced else self.world.server.url
        moments = [time.monotonic()]
        out, err = _Stamped(moments), _Stamped(moments)
        start = time.monotonic()
        code: Any = None
        with (
            self.entered(url) as patch,
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _limited(LONGEST_SECONDS),
        ):
            for module, name, value in [*hurry.values(broken=broken), *self.values]:
                patch.setattr(module, name, value)
            patch.setattr(sys, "stdin", io.StringIO())
            try:
                main(arguments)
            except SystemExit as end:
                code = end.code
            except HangsError:
                code = -1
        moments.append(time.monotonic())
        silence = max(after - before for before, after in itertools.pairwise(sorted(moments)))
        return Ended(
            code=int(code or 0),
            out=out.getvalue(),
            err=err.getvalue(),
            seconds=time.monotonic() - start,
            silence=silence,
        )

    def start(self, arguments: Sequence[str], *, broken: bool, **variables: str) -> subprocess.Popen[str]:
        """Start a command line as a process of its own; see `run`. The variable FULL makes every file too large."""
        url = self.world.proxy.url if broken or "LAGS" in variables else self.world.server.url
        way = "broken" if broken else "lags" if "LAGS" in variables else "rest"
        return subprocess.Popen(
            [sys.executable, "-m", "tests.breaking.hurry", way, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.variables(url), **variables},
            cwd=Path(__file__).parents[2],
        )

    def put(self, content: bytes, name: str, bucket: str) -> str:
        """Store an object and return its address."""
        return uploads.upload_bytes(self.direct, content, f"gs://{bucket}/{name}").uri


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise HangsError in the main thread after so many seconds."""

    def hangs(*_: object) -> None:
        raise HangsError

    before = signal.signal(signal.SIGALRM, hangs)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[World]:
    """Yield a world below a folder."""
    settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny", concurrent_tuning_jobs=2)
    with EmulatorServer(settings) as server:
        launcher: Any = QuickLauncher(server.emulator.launcher)
        server.emulator.launcher = launcher
        with CorruptingProxy(server.url) as proxy:
            yield World(server, proxy, folder)
