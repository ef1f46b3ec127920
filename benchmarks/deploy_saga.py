"""Break every request of a deployment, and kill its process anywhere; check what is left.

    python -m benchmarks.deploy_saga [--faults all|N] [--kills 200] [--seed N]

Three kinds of deployments (to a new endpoint; to an existing endpoint; as a replacement of an older model) are traced
once without a fault. Each request of each trace then has four faults: refused before it takes effect, response lost
after it took effect, carried out only after the client has given up, and its process killed (SIGKILL). Other kills hit
a deploying process at a random request or a random time.

After each fault, `find_leaks` must return exactly the resources that the emulator has now and did not have before, and
`clean` must leave exactly the previous resources. A model that was already serving may be completed instead, and must
then have its lease. An endpoint and two models of another owner exist all the time, and must not change.

The emulator is complete except for the serving processes: a process that only reports that it is healthy replaces the
model server, because no request reaches it. This is not part of the product.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from google.cloud.storage import Client  # noqa: F401 - imported once, in the fork server

from benchmarks.deploy_saga_world import PATIENCE, HealthyLauncher, Proxy, World
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.environment import Environment
from runner.errors import RunnerError
from runner.gcp import endpoints, failures, operations, rest, uploads
from runner.gcp.session import Session
from runner.serving import deployment, recovery
from runner.serving.deployment import deploy, undeploy
from runner.serving.labels import LEASE_LABEL
from runner.serving.leaks import clean, find_leaks
from runner.serving.plan import plan_deployment
from tests.gcp.flaky import Fault
from tests.provisioning import provision

MACHINE = "g2-standard-12"
WAYS = ("new", "standing", "replacing")
FATES = ("refused", "answer lost", "late", "killed")
SETTLE = 4.0
"""Seconds for which an unanswered request can still take effect here; it is 60 otherwise."""
_IDS = re.compile(r"(endpoints|models|operations)/[^/:?]+")


def plan_of(session: Session, world_source: str, endpoint: str | None, percent: int = 100) -> Any:
    """Return the plan of one deployment."""
    return plan_deployment(
        session, world_source, machine_type=MACHINE, endpoint=endpoint, display_name="saga", percent=percent
    )


def deploying(pipe: Connection, environment: Environment, source: str, endpoint: str | None, state: str) -> None:
    """Deploy in a separate process, after a signal."""
    _hurry()
    os.environ["RUNNER_STATE_DIR"] = state
    with Session(environment) as session:
        plan = plan_of(session, source, endpoint)
        pipe.send("planned")
        pipe.recv()
        try:
            pipe.send(deploy(session, plan, poll=0.1).name)
        except RunnerError as error:
            pipe.send(f"error: {error.message}")


def _hurry() -> None:
    failures.FIRST_PAUSE_SECONDS = 0.02
    deployment.LOOKUP_SECONDS = 0.3
    deployment.UNDO_SECONDS = 20.0
    recovery.SETTLE_SECONDS = SETTLE
    rest.TIMEOUT_SECONDS = PATIENCE


def standing_endpoint(world: World, way: str) -> str | None:
    """Create the endpoint that a kind needs, with an older model of this tool for a replacement."""
    if way == "new":
        return None
    path = f"/v1beta1/{world.environment.parent}/endpoints"
    answer = world.direct.http.post(path, json={"displayName": "standing"}).raise_for_status().json()
    name = str(answer["response"]["name"])
    if way == "replacing":
        deploy(world.direct, plan_of(world.direct, world.source, name), poll=0.1)
    return name


def take_away(world: World, endpoint: str | None, way: str) -> None:
    """Remove the resources of `standing_endpoint`, and all models on it."""
    if endpoint is None:
        return
    found = endpoints.get_endpoint(world.direct, endpoint)
    if found.deployed_models:
        undeploy(world.direct, found)
    operations.wait(world.direct, endpoints.delete_endpoint(world.direct, endpoint), timeout=30, poll=0.1)


def trace(world: World, way: str) -> list[tuple[str, str, int]]:
    """Return the requests of one deployment: method, pattern of the path, and number of equal previous requests.

    Repeated polls of the same operation count as one request.
    """
    endpoint = standing_endpoint(world, way)
    with Session(_through(world)) as session:
        plan = plan_of(session, world.source, endpoint)
        world.proxy.requests.clear()
        made = deploy(session, plan, poll=0.1)
    lines = list(world.proxy.requests)
    if way == "new":
        undeploy(world.direct, made, delete=True)
    take_away(world, endpoint, way)
    seen: Counter[tuple[str, str]] = Counter()
    calls: list[tuple[str, str, int]] = []
    operation = ""
    for line in lines:
        method, path = line.split(" ", 1)
        if "/operations/" in path:
            if path == operation:
                seen[method, "/operations/"] += 1
                continue
            operation = path
        pattern = "/operations/" if "/operations/" in path else _pattern(path)
        calls.append((method, pattern, seen[method, pattern]))
        seen[method, pattern] += 1
    return calls


def _pattern(path: str) -> str:
    """Return a regular expression for paths of this kind."""
    last = path.split("?")[0].rsplit("/locations/", 1)[-1].split("/", 1)
    rest = last[1] if len(last) > 1 else last[0].partition(":")[2] and ":" + last[0].partition(":")[2]
    return _IDS.sub(lambda match: f"{match[1]}/[^/:?]+", rest).replace("?", r"\?").replace("[^/:\\?]", "[^/:?]") + "$"


def _through(world: World) -> Environment:
    import dataclasses

    return dataclasses.replace(world.environment, vertex_url=world.proxy.url)


def examine(world: World, before: set[str], what: str, state: Path) -> str:
    """Check what is left, clean up and check again; return the result."""
    for thread in world.proxy.late:
        thread.join()
    world.proxy.late.clear()
    deadline = time.monotonic() + 60
    while True:
        now = set(world.truth())
        shown = find_leaks(world.direct)
        if now == set(world.truth()):
            break  # the service had no running operation
    left = now - before
    named = {name for leak in shown for name in leak.resources}
    # If the deployment got so far, an earlier model that was undeployed is still an existing model resource.
    world.expect(named == left, f"{what}: shown {sorted(named)}, left {sorted(left)}")
    outcome = "nothing left" if not left else "removed"
    while list((state / "deployments").glob("*")):
        clean(world.direct, find_leaks(world.direct))
        if time.monotonic() > deadline:
            world.expect(False, f"{what}: not settled after 60 s")
            break
        time.sleep(0.1)
    after = world.truth()
    served = {name for name in set(after) - before if "/deployedModels/" in name}
    if served:
        outcome = "finished"
        for name in served:
            found = endpoints.get_endpoint(world.direct, name.split("/deployedModels/")[0])
            leased = all(LEASE_LABEL in item.labels for item in found.deployed_models)
            world.expect(leased, f"{what}: serves without a lease")
            undeploy(world.direct, found, delete=found.id.startswith("omt-"))
    world.expect(find_leaks(world.direct) == [], f"{what}: something is shown after all was removed")
    world.expect(world.theirs() == world.documents, f"{what}: what is somebody else's has changed")
    return outcome


def one_case(world: World, way: str, what: str, state: Path, run: Callable[[str | None], str]) -> str:
    """Let `run` deploy and fail, examine what is left; return the result."""
    endpoint = standing_endpoint(world, way)
    before = set(world.truth())
    old = {name for name in before - world.foreign if name != endpoint}
    ended = run(endpoint)
    world.proxy.faults.clear()
    if way == "replacing":
        # The replaced model belongs to the tool and is deployed; whether it still exists is part of the result.
        before -= {name for name in old if name not in world.truth()}
    outcome = examine(world, before, what, state)
    remaining = set(world.truth()) - world.foreign - ({endpoint} if endpoint else set())
    if way == "replacing":
        kept = {name for name in remaining if "/deployedModels/" in name}
        world.expect(len(kept) <= 1, f"{what}: {len(kept)} models are billed")
    else:
        world.expect(remaining == set(), f"{what}: {sorted(remaining)} remain")
    take_away(world, endpoint, way)
    for model in [name for name in set(world.truth()) - world.foreign if "/models/" in name]:
        world.expect(way == "replacing", f"{what}: the model {model} remains")
        operations.wait(world.direct, endpoints.delete_model(world.direct, model), timeout=30, poll=0.1)
    world.expect(set(world.truth()) == world.foreign, f"{what}: {sorted(set(world.truth()) - world.foreign)} remain")
    return outcome if ended != "deployed" else "deployed"


def fault_of(call: tuple[str, str, int], fate: str) -> Fault:
    """Return the fault for a request; it lasts longer than the retries."""
    method, pattern, skip = call
    kinds: dict[str, str | int] = {"refused": 503, "answer lost": "lose answer", "late": "late"}
    kind = kinds[fate]
    return Fault(method, pattern, kind, times=8, skip=skip)


def in_process(world: World, fault: Fault) -> Callable[[str | None], str]:
    """Return a function that deploys here, with a fault."""

    def run(endpoint: str | None) -> str:
        with Session(_through(world)) as session:
            plan = plan_of(session, world.source, endpoint)
            world.proxy.faults.append(fault)
            try:
                made = deploy(session, plan, poll=0.1)
            except RunnerError:
                return "failed"
        world.proxy.faults.clear()
        undeploy(world.direct, made, delete=endpoint is None)
        return "deployed"

    return run


def killed(world: World, state: Path, strike: Callable[[Any], None]) -> Callable[[str | None], str]:
    """Return a function that deploys in a process that `strike` kills."""
    context = multiprocessing.get_context("forkserver")

    def run(endpoint: str | None) -> str:
        here, there = context.Pipe()
        child = context.Process(target=deploying, args=(there, _through(world), world.source, endpoint, str(state)))
        child.start()
        there.close()
        try:
            here.recv()  # planned
        except EOFError:  # the machine is too slow for PATIENCE: nothing was started
            child.join()
            return "failed"
        strike(child)
        here.send("go")
        child.join(60)
        world.proxy.deadly = None
        answer = ""
        with contextlib.suppress(EOFError, ConnectionError):
            answer = here.recv() if here.poll() else ""
        here.close()
        if child.exitcode == -9 and not answer:
            return "killed"
        if child.exitcode is None:
            child.kill()
            raise RuntimeError("a deployment hangs")
        if answer.startswith("projects/"):
            undeploy(world.direct, answer, delete=endpoint is None)
            return "deployed"
        return "failed"

    return run


def at_request(world: World, number: int, forwarded: bool) -> Callable[[Any], None]:
    """Return a function that kills a process at its n-th request, before or after it took effect."""

    def strike(child: Any) -> None:
        def kill() -> None:
            child.kill()
            child.join()

        world.proxy.deadly = Fault("ANY", ".", "lose answer" if forwarded else "lose request", before=kill)
        world.proxy.countdown = number

    return strike


def after(seconds: float) -> Callable[[Any], None]:
    """Return a function that kills a process after this many seconds."""

    def strike(child: Any) -> None:
        threading.Timer(seconds, child.kill).start()

    return strike


def strangers(world: World) -> None:
    """Deploy a model of another owner, and create another one."""
    operation = endpoints.deploy_custom_model(world.direct, world.source, display_name="another's")
    operations.wait(world.direct, operation, timeout=60, poll=0.1)
    upload = endpoints.upload_model(world.direct, display_name="theirs", gcs_uri=world.source, container={})
    operations.wait(world.direct, upload, timeout=30, poll=0.1)
    world.foreign = set(world.truth())
    world.documents = world.theirs()


def main() -> int:
    """Run and print the results; exit code 1 if there are violations."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", default="all", help="all, or so many of them, chosen at random")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--only", default="", help="only faults whose description has this")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    chance = random.Random(options.seed)
    _hurry()
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="saga-") as name:
        directory = Path(name)
        state = directory / "state"
        os.environ["RUNNER_STATE_DIR"] = str(state)
        multiprocessing.get_context("forkserver").set_forkserver_preload(["benchmarks.deploy_saga"])
        with EmulatorServer(EmulatorSettings(directory=directory / "emulator")) as server:
            launcher: Any = HealthyLauncher()
            server.emulator.launcher = launcher
            project = provision(server.url, "saga")
            environment = Environment(
                project=project.project,
                location=project.location,
                outputs_bucket=project.outputs,
                vertex_url=server.url,
                storage_url=server.url,
                token="a-token",  # noqa: S106
            )
            proxy = Proxy(server.url)
            with proxy, Session(environment) as direct:
                # Killed clients break their connections, which is intended.
                rest.TIMEOUT_SECONDS = 60.0
                assert direct.http, "what looks on has the usual patience"
                rest.TIMEOUT_SECONDS = PATIENCE
                proxy._server.handle_error = lambda *_: None  # type: ignore[union-attr,method-assign]
                source = f"gs://{project.outputs}/weights"
                uploads.upload_bytes(direct, b'{"model_type": "llama"}', f"{source}/config.json")
                uploads.upload_bytes(direct, b"never read", f"{source}/model.safetensors")
                world = World(environment, proxy, direct, source)
                strangers(world)
                traces = {way: trace(world, way) for way in WAYS}
                cases = [(way, call, fate) for way in WAYS for call in traces[way] for fate in FATES]
                cases = [case for case in cases if options.only in describe(*case)]
                if options.faults != "all":
                    cases = chance.sample(cases, int(options.faults))
                print(f"seed {options.seed}; " + ", ".join(f"{way}: {len(traces[way])} requests" for way in WAYS))
                outcomes: Counter[tuple[str, str]] = Counter()
                for way, call, fate in cases:
                    what = describe(way, call, fate)
                    if fate == "killed":
                        run = killed(world, state, at_request(world, traces[way].index(call), chance.random() < 0.5))
                    else:
                        run = in_process(world, fault_of(call, fate))
                    outcomes[fate, one_case(world, way, what, state, run)] += 1
                report(f"{len(cases)} faults", outcomes, world, start)
                outcomes.clear()
                for number in range(options.kills):
                    way = WAYS[number % 3]
                    what = f"seed {options.seed}, kill {number}, {way}"
                    if chance.random() < 0.5:
                        length = len(traces[way]) + 2
                        strike = at_request(world, chance.randrange(length), chance.random() < 0.5)
                    else:
                        strike = after(chance.uniform(0.0, 0.8))
                    outcomes[way, one_case(world, way, what, state, killed(world, state, strike))] += 1
                report(f"{options.kills} kills", outcomes, world, start)
    return 1 if world.failures else 0


def describe(way: str, call: tuple[str, str, int], fate: str) -> str:
    """Describe a case."""
    return f"{way}, {call[0]} {call[1]} #{call[2]}, {fate}"


def report(title: str, outcomes: Counter[tuple[str, str]], world: World, start: float) -> None:
    """Print the results of the cases."""
    print(f"{title}, {time.monotonic() - start:.0f} s, {len(world.failures)} not as promised")
    for (kind, outcome), number in sorted(outcomes.items()):
        print(f"  {kind:>12}: {outcome:<12} {number}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
