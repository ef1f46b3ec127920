"""Endpoints in a browser: leases, shares of the traffic, and the end of what is no longer used."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from runner.gcp import endpoints
from runner.gcp.session import Session
from runner.serving import deployment
from runner.serving.leaks import find_leaks
from runner.serving.plan import plan_deployment
from tests.console.conftest import Complaints, Open
from tests.console.running import RunningConsole
from tests.projects import Tuned

WAIT_MS = 120_000


@pytest.fixture
def serving(tuned: Tuned, state_directory: Path) -> Iterator[Session]:
    """A session on the project of the tuned model; what is deployed in it is taken down."""
    with Session(tuned.environment) as session:
        yield session
        for endpoint in endpoints.list_endpoints(session):
            if endpoint.deployed_models:
                deployment.undeploy(session, endpoint, delete=True)


def test_a_lease_that_has_ended_is_shown_extended_and_ended(serving: Session, tuned: Tuned, open_page: Open) -> None:
    plan = plan_deployment(serving, tuned.job.name, display_name="left <i>behind</i>", lease_seconds=1)
    endpoint = deployment.deploy(serving, plan)
    with RunningConsole(serving) as running:
        page = open_page(running)
        expect(page.get_by_text("The lease of left <i>behind</i> has ended", exact=True)).to_be_visible()
        page.get_by_role("link", name=re.compile("Extend or undeploy")).click()
        expect(page.get_by_text("ended", exact=True)).to_be_visible()
        page.get_by_role("link", name="Extend lease").click()
        expect(page.get_by_text("It costs $1.15 per hour meanwhile.")).to_be_visible()
        page.get_by_label("Length").select_option("1 hour")
        page.get_by_role("button", name="Extend").click()
        expect(page.get_by_text("The lease ends in 1 h 00 min.")).to_be_visible()
        expect(page.get_by_text("ended", exact=True)).to_have_count(0)

        page.get_by_role("link", name="Undeploy").click()
        page.get_by_role("link", name="Keep as it is").click()
        expect(page.get_by_role("heading", name="left <i>behind</i>")).to_be_visible()
        assert endpoints.get_endpoint(serving, endpoint.id).deployed_models


def test_what_is_no_longer_used_is_removed_from_the_bill(serving: Session, tuned: Tuned, open_page: Open) -> None:
    plan = plan_deployment(serving, tuned.job.name, display_name="forgotten", lease_seconds=1)
    deployment.deploy(serving, plan)
    # The page shows what has ended when it is opened; a deployment may be there before its second is over.
    deadline = time.monotonic() + WAIT_MS / 1000
    while not find_leaks(serving):
        assert time.monotonic() < deadline, "the lease has not ended"
        time.sleep(0.1)
    with RunningConsole(serving) as running:
        page = open_page(running, "/bill")
        page.get_by_role("link", name="Remove forgotten").click()
        expect(page.get_by_text("This ends $27.62 per day.")).to_be_visible()
        page.get_by_role("button", name="Remove").click()
        expect(page.get_by_text(re.compile(r"\d removed\."))).to_be_visible(timeout=WAIT_MS)
        expect(page.get_by_role("link", name="Remove forgotten")).to_have_count(0)
    assert not any(item.deployed_models for item in endpoints.list_endpoints(serving))


def test_a_canary_is_deployed_promoted_and_the_other_one_ended(
    serving: Session, tuned: Tuned, open_page: Open, complaints: Complaints
) -> None:
    first = deployment.deploy(serving, plan_deployment(serving, tuned.job.name, display_name="stable"))
    with RunningConsole(serving) as running:
        page = open_page(running, f"/models/deploy?source={tuned.job.id}&endpoint={first.id}")
        page.get_by_label("Name").fill("canary")
        page.get_by_label("Share of the traffic").fill("20")
        page.get_by_role("button", name="Review the price").click()
        expect(page.get_by_text("20% of the traffic")).to_be_visible()
        expect(page.get_by_text("With what is deployed already: $2.30 per hour.")).to_be_visible()
        page.get_by_role("button", name=re.compile("^Deploy for")).click()
        expect(page.get_by_text("canary was deployed.")).to_be_visible(timeout=WAIT_MS)
        expect(page.get_by_role("row", name=re.compile("canary"))).to_contain_text("20%")
        expect(page.get_by_role("row", name=re.compile("stable"))).to_contain_text("80%")

        page.get_by_role("link", name="Traffic").click()
        page.get_by_label(re.compile("^stable")).fill("30")
        page.get_by_role("button", name="Share the traffic so").click()
        expect(page.get_by_role("alert")).to_contain_text("the shares add up to 50 percent, not 100")
        expect(page.get_by_label(re.compile("^stable"))).to_have_value("30")
        complaints.clear()  # of the refusal
        page.get_by_role("button", name="Everything to canary").click()
        expect(page.get_by_role("row", name=re.compile("canary"))).to_contain_text("100%")

        page.get_by_role("link", name="Undeploy stable").click()
        page.get_by_role("button", name="Undeploy").click()
        expect(page.get_by_role("row", name=re.compile("stable"))).to_have_count(0, timeout=WAIT_MS)
        expect(page.get_by_role("row", name=re.compile("canary"))).to_be_visible()
    [left] = endpoints.get_endpoint(serving, first.id).deployed_models
    assert left.display_name == "canary"
