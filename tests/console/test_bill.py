"""The bill of a day with two jobs, a deployment and a leak: page, commands and files add up alike, to the cent."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from runner.gcp.session import Session
from runner.jobs.following import watching
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from runner.serving import deployment
from runner.serving.plan import plan_deployment
from tests.console.conftest import Open
from tests.console.running import RunningConsole
from tests.projects import MODEL, Tuned, upload_dataset


@pytest.fixture(scope="module")
def day(tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """A project of today: two jobs, a deployment, a deployment whose lease is over, and what they have stored."""
    with Session(tuned.environment) as session, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        data = upload_dataset(session, 8, "other.jsonl")
        spec = TuningJobSpec(base_model=MODEL, training_dataset=data, epochs=1, display_name="other")
        watching.wait(session, submission.submit(session, spec).id, 300, poll=0.3)
        made = []
        for name, lease in (("wanted", 3600.0), ("forgotten", 1.0)):
            plan = plan_deployment(session, tuned.job.name, display_name=name, lease_seconds=lease)
            made.append(deployment.deploy(session, plan, poll=0.3))
        yield session
        for endpoint in made:
            deployment.undeploy(session, endpoint, delete=True)


def command(session: Session, *words: str) -> str:
    """The output of a command on the same project."""
    given = session.environment
    variables = {
        "RUNNER_PROJECT": given.project,
        "RUNNER_VERTEX_URL": str(given.vertex_url),
        "RUNNER_STORAGE_URL": str(given.storage_url),
        "RUNNER_TOKEN": "a-token",
        "RUNNER_DATASETS_BUCKET": given.datasets_bucket,
        "RUNNER_IMAGES_BUCKET": given.images_bucket,
        "RUNNER_OUTPUTS_BUCKET": given.outputs_bucket,
        "COLUMNS": "240",
    }
    done = subprocess.run(
        [sys.executable, "-m", "runner", *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def dollars(texts: list[str]) -> float:
    """The sum of amounts as they are shown."""
    return round(sum(float(text.strip().replace("$", "").replace(",", "")) for text in texts), 4)


def shown(page: Page) -> tuple[list[str], float, float]:
    """The lines of the page, their sum, and the sum that it gives."""
    table = page.get_by_role("region", name="Jobs, endpoints, buckets")
    names = table.locator("tbody th").all_inner_texts()
    lines = [text for text in table.locator("tbody td[data-label=Spent]").all_inner_texts() if text != "not counted"]
    return names, dollars(lines), dollars(table.locator("tfoot td[data-label=Spent]").all_inner_texts())


def test_the_bill_of_a_day_adds_up_everywhere(day: Session, open_page: Open, tuned: Tuned) -> None:
    with RunningConsole(day) as running:
        page = open_page(running, "/bill")
        begin = time.time()
        names, lines, total = shown(page)
        with running.client() as client:
            files = client.get("/bill.json").json(), client.get("/bill.csv").text
        by_command = json.loads(command(day, "bill", "--format", "json"))
        plain = command(day, "bill")
        as_csv = command(day, "bill", "--csv")
        seconds = time.time() - begin
        expect(page.get_by_role("row", name=re.compile("forgotten")).first).to_contain_text("no longer used")
        expect(page.get_by_role("link", name="Remove forgotten")).to_be_visible()

    assert {"small", "other", "wanted", "forgotten", tuned.environment.outputs_bucket} <= set(names)
    assert lines == total

    def grown(body: float) -> bool:
        """Whether a sum is the page's, and what has come to it since: two machines, and what is stored."""
        return total - 0.0005 <= body <= total + 2.5 * (seconds + 5) / 3600 + 0.0005

    for body in (files[0], by_command):
        own = [line["usd"] for line in body["lines"] if line["usd"] is not None]
        assert round(sum(own), 4) == body["usd"]
        assert round(sum(body["days"].values()), 4) == body["usd"]
        assert round(sum(body["kinds"].values()), 4) == body["usd"]
        assert sorted(line["name"] for line in body["lines"]) == sorted(names)
        assert [line["name"] for line in body["lines"] if line["noLongerUsed"]] == ["forgotten"]
        assert body["leaksUsdPerDay"] == pytest.approx(24 * 1.1507, abs=0.01)
        assert grown(body["usd"])
    for text in (files[1], as_csv):
        assert grown(sum(float(row["usd"]) for row in csv.DictReader(io.StringIO(text)) if row["usd"]))
    assert grown(dollars(re.findall(r"\$[0-9,]+\.[0-9]{4}", plain)))


def test_what_google_has_billed_stands_beside_it(day: Session, open_page: Open, tmp_path: Path) -> None:
    today = time.strftime("%Y-%m-%d", time.gmtime())
    rows = [
        {"day": today, "service": "Vertex AI", "sku": "Tuning", "cost": 1.5, "currency": "USD"},
        {"day": today, "service": "Cloud Storage", "sku": "Standard", "cost": 0.25, "currency": "USD"},
    ]
    path = tmp_path / "billed.json"
    path.write_text(json.dumps(rows))
    with RunningConsole(day) as running:
        page = open_page(running, "/bill")
        page.get_by_label("Rows of the export").set_input_files(path)
        page.get_by_role("button", name="Compare").click()
        table = page.get_by_role("region", name="List price and billed")
        expect(table.get_by_role("row", name=re.compile("tuning"))).to_contain_text("$1.5000")
        expect(table.get_by_role("row", name=re.compile("Sum"))).to_contain_text("$1.7500")
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps([{**rows[0], "currency": "EUR"}]))
        page.get_by_label("Rows of the export").set_input_files(wrong)
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("main").get_by_text("the currency is EUR").first).to_be_visible()
    body = json.loads(command(day, "bill", "--billed", str(path), "--format", "json"))
    assert body["billed"]["kinds"] == {"tuning": 1.5, "serving": 0.0, "storage": 0.25, "other": 0.0}
