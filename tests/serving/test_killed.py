"""A process that deploys, killed at any of its requests: nothing is left, or what serves is finished."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.emulator.server import EmulatorServer
from runner.gcp import endpoints
from runner.gcp.session import Session
from runner.serving.deployment import undeploy
from runner.serving.leaks import clean, find_leaks
from tests.gcp.flaky import Fault, FlakyProxy
from tests.projects import Tuned
from tests.serving.conftest import MACHINE, Truth

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("impatient")]

KILLS = int(os.environ.get("SERVING_TEST_KILLS", "12"))
"""How many processes are killed at random; the seed is printed with a failure. `benchmarks.deploy_saga` kills more."""


@dataclass(slots=True)
class KillingProxy(FlakyProxy):
    """Strikes the so many-th request after `countdown` is set, whatever it asks."""

    deadly: Fault | None = None
    countdown: int = 0

    def _fault(self, method: str, path: str) -> Fault | None:
        if self.deadly is None:
            return None
        self.countdown -= 1
        return self.deadly if self.countdown == -1 else None


@pytest.fixture
def killing(emulator: EmulatorServer) -> Iterator[KillingProxy]:
    running = KillingProxy(emulator.url)
    with running:
        yield running


@pytest.mark.parametrize("way", ["new", "standing"])
def test_killed_anywhere(
    way: str, tuned: Tuned, tuned_session: Session, killing: KillingProxy, truth: Truth, standing: str
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    before = truth.names()
    ended = []
    kills = KILLS // 2
    for number in range(kills):
        what = f"seed {seed}, kill {number}"
        # Half before the service sees the request that is under way, half after it did all of it. From early to late:
        # a deployment that has sent its last request has finished.
        request = chance.randrange(14 * number // kills, 14 * (number + 1) // kills)
        forwarded = chance.random() < 0.5
        ended.append(_kill(killing, tuned, standing if way == "standing" else None, request, forwarded))
        serving = truth.names() - before
        shown = find_leaks(tuned_session)
        if ended[-1] == "finished":
            assert shown == [], what
            name = next(name for name in serving if "/deployedModels/" in name).split("/deployedModels/")[0]
            undeploy(tuned_session, name, delete=way == "new")
            assert truth.names() == before, what
        else:
            _after_kill(tuned_session, truth, before, what, standing)
    assert ended.count("killed") >= kills // 3, ended


def _after_kill(session: Session, truth: Truth, before: set[str], what: str, standing: str) -> None:
    """Clean up; a model that served already when its process was killed is finished instead, and then taken down."""
    left = truth.names() - before
    shown = find_leaks(session)
    assert bool(left) == bool(shown), (what, left, shown)
    deadline = time.monotonic() + 60
    while True:
        clean(session, find_leaks(session))
        if not list((Path(os.environ["RUNNER_STATE_DIR"]) / "deployments").glob("*")):
            break
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    for name in {name.split("/deployedModels/")[0] for name in truth.names() - before if "/deployedModels/" in name}:
        found = endpoints.get_endpoint(session, name)
        assert all("runner-lease-until" in item.labels for item in found.deployed_models), what
        undeploy(session, found, delete=found.id != standing)
    assert truth.names() == before, what
    assert find_leaks(session) == [], what


def _kill(proxy: KillingProxy, tuned: Tuned, standing: str | None, request: int, forwarded: bool) -> str:
    """Start a deployment and kill it, with SIGKILL, at its so many-th request; return how it ended."""
    environment = tuned.environment
    arguments = [proxy.url, str(environment.storage_url), environment.project, tuned.job.final_checkpoint_uri, MACHINE]
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.serving.deploying", *arguments, *([standing] if standing else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    first = child.stdout.readline()
    assert first == "planned\n", child.communicate()

    def kill() -> None:
        child.kill()
        child.wait()

    proxy.deadly = Fault("ANY", ".", "lose answer" if forwarded else "lose request", before=kill)
    proxy.countdown = request
    output, errors = child.communicate(timeout=90)
    proxy.deadly = None
    if child.returncode == -9:
        return "killed"
    assert child.returncode == 0, errors
    assert "endpoints/" in output
    return "finished"
