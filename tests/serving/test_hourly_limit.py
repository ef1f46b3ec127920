"""The limit for the hourly cost of all endpoints, also for deployments that begin at the same moment."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from runner.errors import CostRefusedError
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.prices import Terms
from runner.serving import deploying, journal
from runner.serving.deployment import undeploy
from runner.serving.journal import DeploymentRecord
from runner.serving.labels import new_id
from runner.serving.listing import list_deployments
from runner.serving.plan import plan_deployment
from runner.serving.spending import begin_within, check_hourly_limit
from tests.projects import Tuned

pytestmark = pytest.mark.training


def _record(session: Session, usd: float | None, parent: str = "") -> DeploymentRecord:
    own = new_id()
    parent = parent or session.environment.parent
    endpoint, model = f"{parent}/endpoints/{own}", f"{parent}/models/{own}"
    return DeploymentRecord(id=own, parent=parent, endpoint=endpoint, own_endpoint=True, model=model, usd_per_hour=usd)


def test_deployments_at_the_same_moment_share_the_limit(tuned: Tuned) -> None:
    with Session(tuned.environment) as session:
        plan = plan_deployment(session, tuned.job.id)
        limit = _deployed(session) + 2.5 * (plan.usd_per_hour or 0.0)
    together = threading.Barrier(4, timeout=120)

    def deploy(_: int) -> Endpoint | CostRefusedError:
        with Session(tuned.environment) as own:
            terms = Terms(agree=lambda _: together.wait() >= 0)  # every first check has passed
            try:
                return deploying.deploy(own, plan, terms=terms, max_hourly_cost=limit)
            except CostRefusedError as error:
                return error

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(deploy, range(4)))
    made = [item for item in ended if isinstance(item, Endpoint)]
    refused = [item for item in ended if isinstance(item, CostRefusedError)]
    with Session(tuned.environment) as session:
        try:
            assert len(made) == 2, ended
            assert all("is being deployed" in error.message for error in refused)
            assert _deployed(session) <= limit
            assert journal.pending(session.environment.parent) == []
        finally:
            for endpoint in made:
                undeploy(session, endpoint, delete=True)


@pytest.mark.usefixtures("state")
def test_what_has_begun_counts_until_it_is_listed(tuned_session: Session, tuned: Tuned) -> None:
    plan = plan_deployment(tuned_session, tuned.job.id)
    check = partial(check_hourly_limit, tuned_session, plan, _deployed(tuned_session) + 2.5 * (plan.usd_per_hour or 0))
    entries = [journal.begin(_record(tuned_session, plan.usd_per_hour))]
    check()
    entries.append(journal.begin(_record(tuned_session, 100.0, parent="projects/p/locations/elsewhere")))
    check()
    entries.append(journal.begin(_record(tuned_session, plan.usd_per_hour)))
    with pytest.raises(CostRefusedError, match="is being deployed"):
        check()
    entries.pop().close()
    check()
    entries.append(journal.begin(_record(tuned_session, None)))
    with pytest.raises(CostRefusedError, match=rf"{entries[-1].record.id} is unknown"):
        check()
    for entry in entries:
        entry.close()
        entry.release()


@pytest.mark.usefixtures("state")
def test_a_refused_deployment_leaves_no_journal(tuned_session: Session, tuned: Tuned) -> None:
    plan = plan_deployment(tuned_session, tuned.job.id)
    with pytest.raises(CostRefusedError):
        begin_within(tuned_session, plan, 0.5, _record(tuned_session, plan.usd_per_hour))
    assert journal.pending(tuned_session.environment.parent) == []


def _deployed(session: Session) -> float:
    """Return US dollars per hour of what is deployed."""
    return sum(item.usd_per_hour or 0.0 for item in list_deployments(session))
