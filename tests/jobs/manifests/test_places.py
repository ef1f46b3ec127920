"""The queue over two projects of the emulator: each job runs in one place, and the other project's quota counts."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections import Counter

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from runner.emulator.server import EmulatorServer
from runner.errors import ConfigurationError
from runner.gcp import fleet
from runner.gcp.session import Session
from runner.jobs.labels import MANIFEST_LABEL
from runner.jobs.manifests import applying, looking, queueing
from runner.jobs.manifests.places import Place, Slots, obstacles, parse_place
from runner.jobs.manifests.planning import make_plan
from runner.jobs.manifests.records import StateLedger
from tests.cli.invocation import CommandLine
from tests.jobs.conftest import set_quota
from tests.jobs.manifests.folder import Manifests
from tests.provisioning import Provisioned, provision


@pytest.fixture
def second(emulator: EmulatorServer, session: Session) -> Provisioned:
    """Another project, whose agents may use the buckets of the first."""
    made = provision(emulator.url, f"second-{os.getpid()}-{time.monotonic_ns() % 10**9}")
    set_quota(made, 2)
    return made


def grant(session: Session, project: Provisioned) -> None:
    """Let the agents of a project read and write the buckets of a session."""
    agents = [
        f"serviceAccount:service-{project.number}@gcp-sa-{name}.iam.gserviceaccount.com"
        for name in ("aiplatform", "vertex-moss-ft")
    ]
    environment = session.environment
    for bucket in (environment.datasets_bucket, environment.images_bucket, environment.outputs_bucket):
        address = f"{project.url}/storage/v1/b/{bucket}/iam"
        policy = httpx.get(address, timeout=120).json()
        policy["bindings"].append({"role": "roles/storage.objectUser", "members": agents})
        httpx.put(address, json=policy, timeout=120).raise_for_status()


def queue(session: Session, manifests: Manifests, count: int) -> None:
    for number in range(count):
        manifests.add(f"job-{number}", labels="{team: x}", spec="maxCost: 5")
    applying.apply_plan(session, make_plan(session, [manifests.folder], preflight=False, quota=0))


def waiting(session: Session) -> int:
    entries = StateLedger(session).load().entries.values()
    return sum(entry.record.run.phase == "queued" for entry in entries)


@pytest.mark.training
def test_jobs_run_wherever_there_is_a_slot_and_nowhere_twice(
    session: Session, second: Provisioned, manifests: Manifests
) -> None:
    grant(session, second)
    environment = session.environment
    queue(session, manifests, 3)
    places = [Place(environment.project, "us-central1", 1), Place(second.project, "us-central1", 2)]
    steps = queueing.advance(session, limit=0, places=places)
    assert Counter(step.what for step in steps) == {"created": 3}
    other = session.at(second.project, "us-central1")
    assert (len(fleet.all_jobs(session)), len(fleet.all_jobs(other))) == (1, 2)
    ledger, deadline = StateLedger(session), time.monotonic() + 240
    while queueing.unfinished(looking.look(session, ledger, places=places)):
        assert time.monotonic() < deadline
        queueing.advance(session, limit=0, places=places)
        time.sleep(0.2)
    view = looking.look(session, ledger, places=places)
    states = [entry.record.run.outcome.state for entry in view.entries.values() if entry.record.run.outcome]
    assert states == ["JOB_STATE_SUCCEEDED"] * 3
    names = [job.labels[MANIFEST_LABEL] for job in view.jobs]
    assert sorted(names) == ["job-0", "job-1", "job-2"]
    plan = make_plan(session, [manifests.folder], preflight=False)
    assert {job.action for job in plan.jobs} == {"keep"}, "a plan finds the jobs wherever they ran"


def test_a_place_that_cannot_read_the_data_is_left_out(
    run: CommandLine, session: Session, second: Provisioned, manifests: Manifests
) -> None:
    queue(session, manifests, 2)
    runs = [entry.record.run for entry in StateLedger(session).load().entries.values()]
    place = (second.project, "us-central1")
    assert f"service-{second.number}@" in obstacles(session, place, runs)[0]
    assert obstacles(session, ("no-such-project-9", "us-central1"), runs)
    outcome = run("queue", "run", "--once", "--place", f"{second.project}/us-central1", "--format", "json")
    assert outcome.code == 2
    assert second.project in outcome.error["message"]
    assert waiting(session) == 2
    grant(session, second)
    assert obstacles(session, place, runs) == []


def test_the_budget_of_the_queue_is_one_for_all_places(
    run: CommandLine, untrained: Session, second: Provisioned, manifests: Manifests
) -> None:
    queue(untrained, manifests, 3)
    price = next(iter(StateLedger(untrained).load().entries.values())).record.run.price.high or 0.0
    places = [Place(untrained.environment.project, "us-central1", 5)]
    steps = queueing.advance(untrained, limit=0, places=places, budget=2.5 * price)
    assert Counter(step.what for step in steps) == {"created": 2, "blocked": 1}
    assert "of the budget of" in next(step.message for step in steps if step.what == "blocked")
    again = queueing.advance(untrained, limit=0, places=places, budget=2.5 * price)
    assert [step.what for step in again] == ["blocked"]
    assert [step.what for step in queueing.advance(untrained, limit=0, places=places, budget=3 * price)] == ["created"]


def test_what_runs_in_a_place_that_does_not_answer_is_waited_for(untrained: Session, manifests: Manifests) -> None:
    queue(untrained, manifests, 2)
    ledger = StateLedger(untrained)
    gone = "projects/gone/locations/us-central1"
    first, second = ledger.load().entries.values()
    name = f"{gone}/tuningJobs/1"
    assert ledger.write(first.record.changed(phase="submitted", job=name, places=(gone,)), first.generation)
    assert ledger.write(second.record.changed(phase="claimed", places=(gone,), owner="x"), second.generation)
    view = looking.look(untrained, ledger)
    view.down[gone] = "it does not answer"
    assert queueing.unfinished(view) == 2
    assert queueing.ordered(view, view.entries) == []
    (step,) = queueing.settle(ledger, view, second.record.name)
    assert (step.what, "does not answer" in step.message) == ("elsewhere", True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    limits=some.lists(some.integers(0, 5), min_size=1, max_size=6),
    taken=some.dictionaries(some.integers(0, 5), some.integers(0, 6)),
    down=some.sets(some.integers(0, 5)),
)
def test_slots_are_never_more_than_the_quota_of_each_project(
    limits: list[int], taken: dict[int, int], down: set[int]
) -> None:
    @dataclasses.dataclass
    class Seen:
        down: dict[str, str]

        def taken(self) -> Counter[str]:
            return Counter({f"p{number}": count for number, count in taken.items()})

    # Two locations of each project share its quota.
    places = [
        Place(f"p{number}", location, limit) for number, limit in enumerate(limits) for location in ("here", "there")
    ]
    slots = Slots(Seen({f"projects/p{number}/locations/here": "down" for number in down}), places)
    free, given_out = slots.free(), Counter[str]()
    while (place := slots.take()) is not None:
        given_out[place.project] += 1
        assert place.location == "there" or int(place.project[1:]) not in down
    assert sum(given_out.values()) == free
    for number, limit in enumerate(limits):
        assert given_out[f"p{number}"] == max(0, limit - taken.get(number, 0))


@pytest.mark.parametrize("text", ["project", "project/", "/us-central1", "a b/us-central1", json.dumps({})])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is not a place"):
        parse_place(text)
