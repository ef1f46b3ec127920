"""An evaluation made in a browser, and stored leaks removed in one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import expect

from runner.emulator.clock import Clock
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.gcp import storage, uploads
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.serving import deployment
from runner.serving.plan import plan_deployment
from tests.console.conftest import Complaints, Open
from tests.console.running import RunningConsole
from tests.projects import Tuned, environment_of
from tests.provisioning import provision

WAIT_MS = 180_000


@pytest.fixture
def serving(tuned: Tuned, state_directory: Path) -> Iterator[tuple[Session, Endpoint]]:
    with Session(tuned.environment) as session:
        plan = plan_deployment(session, tuned.job.name, display_name="numbers")
        endpoint = deployment.deploy(session, plan, poll=0.3)
        yield session, endpoint
        deployment.undeploy(session, endpoint, delete=True)


def test_a_tuned_model_is_compared_with_its_base(
    serving: tuple[Session, Endpoint], open_page: Open, tmp_path: Path, complaints: Complaints
) -> None:
    session, endpoint = serving
    questions = tmp_path / "held out.jsonl"
    rows = [{"prompt": f"What is {number}?", "completion": f"It is {number}."} for number in range(6)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with RunningConsole(session) as running:
        page = open_page(running, "/evaluations")
        expect(page.get_by_role("heading", name="Nothing was compared yet")).to_be_visible()
        page.goto(f"/endpoints/{endpoint.id}")
        page.get_by_role("link", name="Evaluate").click()
        page.get_by_role("button", name="Review").click()
        expect(page.get_by_role("alert")).to_contain_text("no questions were chosen")
        complaints.clear()  # of the refusal
        page.get_by_label("Questions with answers").set_input_files(questions)
        page.get_by_label("Only the first").fill("5")
        page.get_by_role("button", name="Review").click()
        expect(page.get_by_text("5 questions of held-out.jsonl")).to_be_visible()
        expect(page.get_by_text("$1.15 per hour", exact=True)).to_be_visible()
        page.get_by_text("Command line").click()
        expect(page.get_by_label("Command line")).to_contain_text(f"--endpoint {endpoint.id}")
        page.get_by_role("button", name="Ask both models").click()
        expect(page.get_by_text("The models were compared.")).to_be_visible(timeout=WAIT_MS)
        expect(page.get_by_role("region", name="Verdict")).to_be_visible()
        expect(page.locator(".pair")).to_have_count(5)
        with page.expect_download() as download:
            page.get_by_role("link", name="As a file").click()
        assert "Answers, side by side" in Path(download.value.path()).read_text("utf-8")
        page.get_by_role("link", name="Evaluations", exact=True).first.click()
        expect(page.get_by_role("row", name=re.compile("numbers against meta"))).to_be_visible()


def test_a_stored_leak_is_removed_from_the_bill(tmp_path: Path, state_directory: Path, open_page: Open) -> None:
    moved = [timedelta(days=-40)]
    settings = EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")
    with EmulatorServer(settings, clock=Clock(lambda: datetime.now(UTC) + moved[0])) as server:
        project = provision(server.url, "long-ago")
        with Session(environment_of(project)) as session:
            old = f"gs://{project.datasets}/datasets/old-0123456789ab.jsonl"
            path = tmp_path / "old.jsonl"
            path.write_text('{"prompt": "a", "completion": "b"}\n')
            uploads.upload_file(session, path, old)
            theirs = uploads.upload_bytes(session, b"{}\n", f"gs://{project.datasets}/datasets/theirs.jsonl").uri
        moved[0] = timedelta()
        # A session of its own: no clock of a service jumps while one lasts, so what was just made would contradict it.
        with Session(environment_of(project)) as session:
            with RunningConsole(session) as running:
                page = open_page(running, "/bill")
                page.get_by_role("link", name="Remove old-0123456789ab.jsonl").click()
                expect(page.get_by_text("This ends less than $0.01 per day.")).to_be_visible()
                page.get_by_role("button", name="Remove").click()
                expect(page.get_by_text("1 removed.")).to_be_visible()
                expect(page.get_by_role("link", name="Remove old-0123456789ab.jsonl")).to_have_count(0)
            left = {item.uri for item in storage.list_objects(session, f"gs://{project.datasets}/")}
    assert left == {theirs}
