"""The limit for the hourly cost of all endpoints, also for deployments that begin at the same moment."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import runner
from runner.errors import CostRefusedError, HourlyLimitError
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.prices import AGREED, Terms
from runner.serving import deploying, journal
from runner.serving.deployment import undeploy
from runner.serving.journal import DeploymentRecord
from runner.serving.labels import new_id
from runner.serving.listing import list_deployments
from runner.serving.plan import plan_deployment
from runner.serving.spending import VARIABLE, begin_within, check_hourly_limit
from tests.projects import Tuned

pytestmark = [pytest.mark.training, pytest.mark.usefixtures("state")]


def _record(session: Session, usd: float | None, parent: str = "", own: str = "") -> DeploymentRecord:
    own = own or new_id()
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
            # While its command finishes, a model is in the journal under the project's ID and listed under its number.
            own = made[0].id
            entry = journal.begin(_record(session, plan.usd_per_hour, own=own))
            check_hourly_limit(session, plan, _deployed(session) + 1.5 * (plan.usd_per_hour or 0.0))
            entry.close()
            entry.release()
        finally:
            for endpoint in made:
                undeploy(session, endpoint, delete=True)


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


def test_a_refused_deployment_leaves_no_journal(tuned_session: Session, tuned: Tuned) -> None:
    plan = plan_deployment(tuned_session, tuned.job.id)
    with pytest.raises(CostRefusedError):
        begin_within(tuned_session, plan, 0.5, _record(tuned_session, plan.usd_per_hour))
    assert journal.pending(tuned_session.environment.parent) == []


def test_the_hourly_limit_fails_closed(tuned: Tuned, tuned_session: Session) -> None:
    plan = plan_deployment(tuned_session, tuned.job.id)
    check_hourly_limit(tuned_session, plan, None)
    now = _deployed(tuned_session)
    check_hourly_limit(tuned_session, plan, now + 1.16)
    with pytest.raises(CostRefusedError, match="more than the limit"):
        check_hourly_limit(tuned_session, plan, now + 1.15)
    with pytest.raises(CostRefusedError, match="no price"):
        check_hourly_limit(tuned_session, dataclasses.replace(plan, usd_per_hour=None), 1000.0)


@pytest.mark.parametrize("damage", ["text", "folder", "unreadable line"])
def test_a_journal_that_cannot_be_read_is_no_free_deployment(
    tuned_session: Session, tuned: Tuned, state: Path, damage: str
) -> None:
    plan = plan_deployment(tuned_session, tuned.job.id)
    entry = journal.begin(_record(tuned_session, plan.usd_per_hour))
    if damage == "folder":
        (entry.path.parent / "x.jsonl").mkdir()
    else:
        content = entry.path.read_bytes()
        broken = b"what is this\n" if damage == "text" else content.replace(b'"percent":100', b'"percent":101')
        assert broken != content
        entry.path.write_bytes(broken)
    with pytest.raises(HourlyLimitError, match="what its deployment costs is unknown") as refused:
        check_hourly_limit(tuned_session, plan, 1000.0)
    assert "`runner repair`" in str(refused.value.hint)
    entry.release()
    with journal.abandoned(tuned_session.environment.parent) as found:
        assert len(found) == (1 if damage == "folder" else 0)
    assert journal.damaged()


def test_a_project_has_an_id_and_a_number(tuned_session: Session, tuned: Tuned) -> None:
    plan = plan_deployment(tuned_session, tuned.job.id)
    usd = plan.usd_per_hour or 0.0
    location = tuned_session.environment.location
    entry = journal.begin(_record(tuned_session, usd, parent=f"projects/123456789012/locations/{location}"))
    with pytest.raises(HourlyLimitError, match="is being deployed"):
        check_hourly_limit(tuned_session, plan, _deployed(tuned_session) + 1.5 * usd)
    entry.close()
    entry.release()


def test_the_variable_counts_for_every_caller(
    tuned_session: Session, tuned: Tuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.5")
    plan = plan_deployment(tuned_session, tuned.job.id)
    with pytest.raises(HourlyLimitError):
        deploying.deploy(tuned_session, plan, terms=AGREED)
    with pytest.raises(HourlyLimitError):
        runner.deploy(tuned.job.id, max_cost_per_hour=9, session=tuned_session)


def _deployed(session: Session) -> float:
    """Return US dollars per hour of what is deployed."""
    return sum(item.usd_per_hour or 0.0 for item in list_deployments(session))
