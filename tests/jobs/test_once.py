"""One billable job for each manifest: whatever is killed, lost or started at once."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from multiprocessing.context import ForkServerProcess

import pytest

from runner.gcp.session import Session
from runner.jobs import claiming, identity
from runner.jobs.applying import apply_plan
from runner.jobs.planning import make_plan
from runner.jobs.state_ledger import StateLedger
from tests.jobs import applying_process
from tests.jobs.manifests import Manifests, names_of
from tests.runner.flaky import Fault, FlakyProxy

CREATE = r"/tuningJobs$"
APPLIERS = 16
ROUNDS = 3


def writes_of_an_apply(through_proxy: Session, proxy: FlakyProxy, manifests: Manifests) -> int:
    """Apply once, undisturbed, and return how many writes that takes."""
    applying_process.apply(through_proxy, manifests.folder)
    return proxy.count("POST", ".")


def killed_at(session: Session, proxy: FlakyProxy, manifests: Manifests, number: int, kind: str) -> None:
    """Run an apply that is killed by SIGKILL at its write `number`, before or after that one takes effect."""
    started: list[ForkServerProcess] = []
    ready = threading.Event()

    def kill() -> None:
        ready.wait(60)
        started[0].kill()  # not joined here: two threads that read one exit status lose it

    proxy.faults[:] = [Fault("POST", ".", kind, skip=number, before=kill)]
    started.append(applying_process.start(session.environment, manifests.folder))
    ready.set()
    started[0].join(180)
    proxy.faults.clear()
    assert started[0].exitcode == -signal.SIGKILL, f"write {number}: not killed, {started[0].exitcode}"


def sweep(
    session: Session, through_proxy: Session, proxy: FlakyProxy, manifests: Manifests, points: list[int]
) -> Counter[str]:
    """Kill an apply of new manifests at each point, before and after its write, apply again; count jobs by name."""
    for point in points:
        for kind in ("lose request", "lose answer"):
            for old in manifests.folder.glob("*.yaml"):
                old.unlink()
            with (manifests.folder / "train.jsonl").open("a") as file:
                file.write(json.dumps({"prompt": f"Which point is {point} {kind}?", "completion": "This one."}) + "\n")
            for part in ("a", "b"):
                manifests.add(f"kill-{point}-{kind[5:7]}-{part}")
            killed_at(through_proxy, proxy, manifests, point, kind)
            applying_process.apply(session, manifests.folder)
    return Counter(names_of(session))


@pytest.mark.usefixtures("no_lease")
def test_kill_9_at_every_write_of_an_apply(
    untrained: Session, untrained_through_proxy: Session, proxy: FlakyProxy, manifests: Manifests
) -> None:
    session, through_proxy = untrained, untrained_through_proxy
    manifests.add("first-a")
    manifests.add("first-b")
    writes = writes_of_an_apply(through_proxy, proxy, manifests)
    assert writes == 9  # the data; for each of two jobs: queued, claimed, created, noted

    counts = sweep(session, through_proxy, proxy, manifests, list(range(writes)))

    assert len(counts) == 2 + 2 * 2 * writes
    assert set(counts.values()) == {1}


@pytest.mark.usefixtures("no_lease")
def test_the_sweep_catches_a_runner_that_trusts_its_record_alone(
    untrained: Session,
    untrained_through_proxy: Session,
    proxy: FlakyProxy,
    manifests: Manifests,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(identity, "of_attempt", lambda jobs, record: [])

    counts = sweep(untrained, untrained_through_proxy, proxy, manifests, [4])

    assert max(counts.values()) == 2


def test_a_claim_whose_owner_may_live_is_left_alone(
    session: Session, through_proxy: Session, proxy: FlakyProxy, manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claiming, "LOOKUP_SECONDS", 0.3)
    manifests.add("lost")
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    (step,) = apply_plan(through_proxy, make_plan(through_proxy, [manifests.folder], preflight=False))
    assert step.what == "uncertain"

    plan = make_plan(session, [manifests.folder], preflight=False)
    assert [job.action for job in plan.jobs] == ["wait"]
    (step,) = apply_plan(session, plan)
    assert step.what == "elsewhere"
    assert names_of(session) == []


def test_a_claim_that_has_run_out_is_taken_over(
    session: Session,
    through_proxy: Session,
    proxy: FlakyProxy,
    manifests: Manifests,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.setattr(claiming, "LOOKUP_SECONDS", 0.3)
    manifests.add("lost")
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    apply_plan(through_proxy, make_plan(through_proxy, [manifests.folder], preflight=False))
    request.getfixturevalue("no_lease")
    (step,) = apply_plan(session, make_plan(session, [manifests.folder], preflight=False))
    assert (step.what, names_of(session)) == ("created", ["lost"])


@pytest.mark.parametrize("kind", ["lose answer", "status after"])
def test_a_lost_answer_to_the_create_is_one_job(
    kind: str, session: Session, through_proxy: Session, proxy: FlakyProxy, manifests: Manifests
) -> None:
    manifests.add("lost")
    proxy.faults.append(Fault("POST", CREATE, kind))
    (step,) = apply_plan(through_proxy, make_plan(through_proxy, [manifests.folder], preflight=False))
    assert (step.what, names_of(session)) == ("created", ["lost"])
    assert StateLedger(session).load().entries["lost"].record.run.job == step.job


def test_lost_answers_to_the_writes_of_records_are_recognised(
    session: Session, through_proxy: Session, proxy: FlakyProxy, manifests: Manifests
) -> None:
    manifests.add("lost")
    proxy.faults.append(Fault("POST", r"uploadType=multipart&ifGenerationMatch", "lose answer", times=3))
    (step,) = apply_plan(through_proxy, make_plan(through_proxy, [manifests.folder], preflight=False))
    assert (step.what, names_of(session)) == ("created", ["lost"])
    assert StateLedger(session).load().entries["lost"].record.run.phase == "submitted"


def test_many_runners_at_once_make_one_job_of_each_manifest(untrained: Session, manifests: Manifests) -> None:
    failures: list[BaseException] = []

    def run(barrier: threading.Barrier) -> None:
        try:
            with Session(untrained.environment) as session:
                barrier.wait(60)
                applying_process.apply(session, manifests.folder)
        except BaseException as error:
            failures.append(error)

    for number in range(ROUNDS):
        manifests.add(f"round-{number}")
        barrier = threading.Barrier(APPLIERS)
        threads = [threading.Thread(target=run, args=(barrier,)) for _ in range(APPLIERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    assert failures == []
    assert Counter(names_of(untrained)) == Counter({f"round-{number}": 1 for number in range(ROUNDS)})


def test_without_preconditions_many_runners_make_several(
    untrained: Session, manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above would notice: here each writer overwrites what others wrote."""
    write = StateLedger.write

    def careless(ledger: StateLedger, record, generation):  # type: ignore[no-untyped-def]
        entry = ledger.read(record.name)
        return write(ledger, record, entry.generation if entry else 0) or entry

    monkeypatch.setattr(StateLedger, "write", careless)
    manifests.add("careless")
    barrier = threading.Barrier(8)

    def run() -> None:
        with Session(untrained.environment) as opened:
            plan = make_plan(opened, [manifests.folder], quota=100, preflight=False)
            barrier.wait(60)
            apply_plan(opened, plan)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(names_of(untrained)) > 1
