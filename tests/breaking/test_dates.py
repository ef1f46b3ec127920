"""Nothing that costs or deletes is decided by a `Date:` that what the service lists and makes contradicts."""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from runner.errors import AmbiguousSubmissionError, GoogleApiError
from runner.gcp import endpoints, tuning_jobs
from runner.gcp.session import Session
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import claims, prepared, submission
from runner.serving import idle_guard, leases, recovery
from runner.serving.billing import current_bill
from runner.serving.deployment import deploy
from runner.serving.leaks import find_leaks
from runner.serving.lives import lives
from runner.serving.plan import plan_deployment
from runner.serving.stale import find_stale
from tests.breaking.flows.serving import MACHINE, Undeploy
from tests.breaking.world import Place, World
from tests.gcp.corrupting import Exchange
from tests.projects import MODEL, upload_dataset

DAY = 86400.0


def dated(days: float) -> Callable[[Exchange], bool]:
    """Return what moves the date of every answer."""

    def change(exchange: Exchange) -> bool:
        exchange.answered["date"] = email.utils.formatdate(time.time() + days * DAY, usegmt=True)
        return True

    return change


@contextlib.contextmanager
def moved(place: Place, days: float) -> Iterator[Session]:
    """Yield a session whose answers all have another date."""
    url = place.world.proxy.url
    with place.entered(), Session(dataclasses.replace(place.environment, vertex_url=url, storage_url=url)) as through:
        place.world.proxy.answer = dated(days)
        yield through
        place.world.proxy.answer = None


DECIDING: dict[str, Callable[[Session, Undeploy], object]] = {
    "leaks": lambda session, flow: find_leaks(session),
    "stored leaks": lambda session, flow: find_stale(session),
    "bill": lambda session, flow: current_bill(session),
    "lives": lambda session, flow: lives(session, endpoints.list_endpoints(session)),
    "extend": lambda session, flow: leases.extend(session, endpoints.get_endpoint(session, flow.endpoint.id), 3600),
    "deploy": lambda session, flow: deploy(session, plan_deployment(session, flow.source, machine_type=MACHINE)),
    "idle guard": lambda session, flow: idle_guard.guard(session, dry_run=False),
    "jobs of the guard": lambda session, flow: idle_guard.report_jobs(session, ended=60, waiting=60),
}


@pytest.mark.parametrize("what", DECIDING)
def test_a_time_before_the_creation_of_what_is_there_decides_nothing(what: str, world: World) -> None:
    place = world.place()
    flow = Undeploy(place)
    with place.entered():
        uri = upload_dataset(place.direct)
        submission.submit(place.direct, TuningJobSpec(base_model=MODEL, training_dataset=uri, epochs=1))
    before = flow.truth()
    labels = endpoints.get_endpoint(place.direct, flow.endpoint.id).labels
    with moved(place, -3) as through:
        with pytest.raises(GoogleApiError, match=r"created something at .* reports the time .* now"):
            DECIDING[what](through, flow)
        assert recovery.abandoned_records(through) == []
    assert flow.truth() == before
    assert endpoints.get_endpoint(place.direct, flow.endpoint.id).labels == labels
    place.close()


@pytest.mark.parametrize("days", [-3, 3])
def test_a_wrong_date_takes_no_claim_over(days: float, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another runner has claimed a job and is about to create it: whoever takes that for old would create a second."""
    place = world.place()
    with place.entered():
        spec = TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(place.direct), epochs=1)
        first = prepared.prepare(place.direct, spec)
        other = claims.take(
            place.direct,
            first.wanted(),
            first.manifest(place.environment.parent, {}),
            owner="another",
            jobs=partial(_none, place.direct),
        )
    assert isinstance(other, claims.Claim)
    place.machine = 2
    with moved(place, days) as through, pytest.raises(GoogleApiError, match=r"reports the time .* now"):
        submission.submit(through, spec)
    # Whoever comes next finds the claim of the runner that is about to create the job.
    monkeypatch.setattr(claims, "LOOKUP_SECONDS", 0.1)
    for machine in (2, 3):
        place.machine = machine
        with place.entered(), pytest.raises(AmbiguousSubmissionError, match="another runner has claimed"):
            submission.submit(place.direct, spec)
    assert tuning_jobs.list_jobs(place.direct) == []
    place.close()


def test_a_lease_that_a_wrong_date_made_is_told(world: World) -> None:
    place = world.place()
    flow = Undeploy(place)
    with moved(place, 3) as through, pytest.raises(GoogleApiError, match=r"reports the time .* now"):
        leases.extend(through, endpoints.get_endpoint(through, flow.endpoint.id), 3600)
    place.close()


def _none(session: Session) -> list[tuning_jobs.TuningJob]:
    return tuning_jobs.list_jobs(session)
