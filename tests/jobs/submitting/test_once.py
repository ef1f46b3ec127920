"""One billable job for each manifest: whatever is killed, lost or started at once."""

from __future__ import annotations

import datetime
import threading
from collections import Counter

import pytest

from runner.gcp import records
from runner.gcp.session import Session
from runner.jobs.manifests import claiming
from runner.jobs.manifests.applying import apply_plan
from runner.jobs.manifests.planning import make_plan
from runner.jobs.manifests.records import StateLedger
from runner.jobs.outputs import ownership
from runner.jobs.submitting import claims
from tests.gcp.flaky import Fault, FlakyProxy
from tests.jobs.manifests import applying_process
from tests.jobs.manifests.folder import Manifests, names_of

CREATE = r"/tuningJobs$"
APPLIERS = 16
ROUNDS = 3


def test_a_claim_whose_owner_may_live_is_left_alone(
    session: Session, through_proxy: Session, proxy: FlakyProxy, manifests: Manifests, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.3)
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
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.3)
    manifests.add("lost")
    proxy.faults.append(Fault("POST", CREATE, "lose request"))
    apply_plan(through_proxy, make_plan(through_proxy, [manifests.folder], preflight=False))
    request.getfixturevalue("no_lease")
    (step,) = apply_plan(session, make_plan(session, [manifests.folder], preflight=False))
    assert (step.what, names_of(session)) == ("created", ["lost"])


@pytest.mark.parametrize("kind", ["lose answer", "503 after"])
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
    """The test above would notice: here each writer overwrites what others wrote, and the list of jobs lags behind."""
    write = records.write_record

    def careless(session, bucket, name, body, *, generation):  # type: ignore[no-untyped-def]
        there = records.read_record(session, bucket, name)
        return write(session, bucket, name, body, generation=there.generation if there else 0) or there

    monkeypatch.setattr(records, "write_record", careless)
    now = datetime.datetime.now(datetime.UTC)
    monkeypatch.setattr(ownership, "holder_of", lambda session, output: (None, now))
    monkeypatch.setattr(claiming, "jobs_of", lambda session, fingerprint: [])
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
