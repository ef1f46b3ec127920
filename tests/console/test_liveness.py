"""Pages while things change: two tabs, a service that goes and comes back, hostile names, very many jobs."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from pathlib import Path

import httpx
from playwright.sync_api import Page, expect

from runner.console.changes import Change
from runner.console.observing import SHORTEST_SECONDS
from runner.emulator.server import EmulatorServer
from runner.emulator.settings import EmulatorSettings
from runner.environment import Environment
from runner.errors import ConfigurationError
from runner.gcp.session import Session
from tests.console.conftest import Complaints, Open
from tests.console.running import RunningConsole
from tests.console.test_pages import serious
from tests.loopback import NO_TLS
from tests.projects import environment_of, upload_dataset
from tests.provisioning import provision

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
FIRST_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) if (entry.name === "first-contentful-paint") done(entry.startTime);
}).observe({ type: "paint", buffered: true }))"""
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7*7 }}{% raw %}",
    "\u202egnp.evil\u2066",
    "a\x1b[31mred\x07",
    "';alert(1)//",
    "javascript:alert(1)",
    "é" * 120,
]


def make_job(session: Session, name: str, *, uri: str = "gs://nowhere-at-all/train.jsonl", fate: str = "") -> str:
    """Create a job by a plain request: its data need not be there while it waits. `fate` is a fault of jobs."""
    body = {
        "baseModel": MODEL,
        "tunedModelDisplayName": name,
        "supervisedTuningSpec": {"trainingDatasetUri": uri},
        "outputUri": f"gs://{session.environment.outputs_bucket}/{time.time_ns()}",
    }
    url = f"{session.environment.vertex_base}/v1beta1/{session.environment.parent}/tuningJobs"
    headers = {"x-emulator-fault": fate} if fate else {}
    made = httpx.post(url, json=body, headers=headers, timeout=120, verify=NO_TLS).raise_for_status().json()
    return str(made["name"]).rsplit("/", 1)[-1]


def test_hostile_names_are_only_text(idle_console: RunningConsole, untrained: Session, open_page: Open) -> None:
    jobs = [make_job(untrained, name) for name in HOSTILE]
    page = open_page(idle_console, "/tuning")
    expect(page.locator("tbody tr")).to_have_count(len(HOSTILE))
    words = page.locator("tbody").inner_text()
    assert "<script>alert(1)</script>" in words
    assert "{{ 7*7 }}" in words
    assert r"\u202egnp.evil\u2066" in words
    assert r"a\x1b[31mred\x07" in words
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    for job in jobs:
        for tab in ("", "/dataset", "/details", "/events", "/cancel"):
            answer = page.goto(f"/tuning/jobs/{job}{tab}")
            assert answer is not None
            assert answer.status == 200
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", answer.text())
    for query in HOSTILE:
        page.goto("/tuning?" + str(httpx.QueryParams({"q": query, "state": query, "model": query})))
        assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0


def test_hostile_answers_are_only_text(console: RunningConsole, session: Session, open_page: Open) -> None:
    base = f"{session.environment.vertex_base}/v1beta1/{session.environment.parent}/endpoints"
    httpx.post(base, json={"displayName": "evil"}, timeout=120).raise_for_status()
    [endpoint] = httpx.get(base, timeout=120).json()["endpoints"]
    page = open_page(console, f"/endpoints/{endpoint['name'].rsplit('/', 1)[-1]}/playground")
    answer = "".join(f"data: {json.dumps({'text': text})}\n\n" for text in HOSTILE) + 'data: {"done": true}\n\n'
    page.route("**/playground", lambda route: route.fulfill(body=answer, content_type="text/event-stream"))
    page.get_by_label("Question").fill("<img src=x onerror=alert(1)>")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#talk-status")).to_have_text("Answered")
    expect(page.locator(".turn.model p")).to_contain_text("<script>alert(1)</script>")
    expect(page.locator(".turn.user p")).to_have_text("<img src=x onerror=alert(1)>")
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    words = page.locator("#answers").inner_text()
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f]", words)
    assert r"a\x1b[31mred\x07" in words


def test_a_question_that_is_refused_stays_to_be_mended(
    console: RunningConsole, session: Session, open_page: Open
) -> None:
    base = f"{session.environment.vertex_base}/v1beta1/{session.environment.parent}/endpoints"
    httpx.post(base, params={"endpointId": "one"}, json={"displayName": "one"}, timeout=120).raise_for_status()
    page = open_page(console, "/endpoints/one/playground")
    page.get_by_label("temperature").fill("9")
    page.get_by_label("top_k").fill("0")
    page.get_by_label("Question").fill("Why?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator("#talk-status")).to_have_text("An answer failed.")
    for name in ("temperature", "top_k"):
        expect(page.locator("#answers .notice.bad")).to_contain_text(f"{name}: ")
    expect(page.get_by_label("Question")).to_have_value("Why?")


def test_jobs_that_wait_hide_none_that_failed_and_are_not_billed_for_ever(
    console: RunningConsole, session: Session, open_page: Open
) -> None:
    data = upload_dataset(session)
    make_job(session, "broken", uri=data, fate="fail=permission")
    stalled = make_job(session, "stalled", uri=data, fate="stall")
    page = open_page(console, f"/tuning/jobs/{stalled}")
    expect(page.locator(".chip").first).to_have_text("Tuning")
    for number in range(9):
        make_job(session, f"waits {number}", uri=data)
    page.goto("/")
    expect(page.get_by_text("broken failed (permission)", exact=True)).to_be_visible()
    expect(page.locator(".troubles .bad p")).to_have_text(re.compile("…$"))  # what is cut says so
    expect(page.get_by_text("2 more jobs", exact=True)).to_be_visible()
    expect(page.locator("section[aria-labelledby=h-run] li").first).to_contain_text("stalled")
    page.goto("/bill")
    row = page.get_by_role("row", name="waits 8")
    expect(row.locator("[data-label=Committed]")).to_have_text("not counted")
    expect(row.locator("[data-label=Kind]")).to_have_text("tuning")


def test_two_tabs_ask_no_more_than_one(idle_console: RunningConsole, untrained: Session, open_page: Open) -> None:
    """Four pages ask as often as one, whose two parts look at the job once in `SHORTEST_SECONDS` each."""
    job = make_job(untrained, "shared")
    asked: dict[str, list[float]] = {}
    send = untrained.send

    def noting(method: str, url: str, *rest: object, **options: object) -> object:
        asked.setdefault(f"{method} {url} {options.get('params')}", []).append(time.monotonic())
        return send(method, url, *rest, **options)  # type: ignore[arg-type]

    untrained.send = noting  # type: ignore[method-assign, assignment]
    pages = [open_page(idle_console, f"/tuning/jobs/{job}") for _ in range(4)]
    for page in pages * 2:
        with page.expect_response(lambda answer: "hx-request" in answer.request.headers):
            pass
    looks = {what: times for what, times in asked.items() if f"/tuningJobs/{job} " in what}
    assert looks
    for what, times in looks.items():
        lasted = times[-1] - times[0]
        assert len(times) <= 2 * (2 + lasted / SHORTEST_SECONDS), (what, times)


def test_what_one_tab_changes_the_other_shows(
    idle_console: RunningConsole, untrained: Session, open_page: Open
) -> None:
    job = make_job(untrained, "ended by another tab")
    one = open_page(idle_console, f"/tuning/jobs/{job}")
    other = open_page(idle_console, f"/tuning/jobs/{job}")
    one.get_by_role("link", name="Cancel").click()
    one.get_by_role("button", name="Cancel the job").click()
    expect(one.get_by_text(f"Cancelled job {job}.")).to_be_visible()
    expect(other.locator(".chip").first).to_have_text("Cancelled")


def test_the_emulator_goes_and_comes_back(
    tmp_path: Path, state_directory: Path, open_page: Open, complaints: Complaints
) -> None:
    settings = EmulatorSettings(directory=tmp_path / "emulator", stand_in="tiny")
    with EmulatorServer(settings) as first:
        project = provision(first.url, "goes-and-comes")
        port = int(first.url.rsplit(":", 1)[1])
        with Session(environment_of(project)) as session:
            running = RunningConsole(session)
            running.__enter__()
            page = open_page(running, "/tuning")
            expect(page.get_by_role("heading", name="No tuning jobs yet")).to_be_visible()
    try:
        expect(page.get_by_text("The service does not answer; this is what was known")).to_be_visible()
        other = open_page(running, "/bill")
        expect(other.get_by_role("heading", level=1)).to_be_visible()
        with EmulatorServer(dataclasses.replace(settings, port=port)):
            expect(page.get_by_text("The service does not answer")).to_be_hidden()
            other.goto("/bill")
            expect(other.get_by_role("heading", name="Bill", exact=True)).to_be_visible()
    finally:
        running.__exit__(None, None, None)
        session.close()  # used by the console after it was closed, it has connected again
        # That a page could not be had meanwhile is what browsers report of any failure.
        complaints[:] = [text for text in complaints if "status of 50" not in text]


def painted(page: Page, path: str) -> float:
    """Return after how many milliseconds a page is first painted, the least of three times."""
    times = []
    for _ in range(3):
        page.goto(path)
        times.append(float(page.evaluate(FIRST_PAINT)))
    return min(times)


def test_a_thousand_jobs_and_two_hundred_endpoints(
    idle_console: RunningConsole, untrained: Session, open_page: Open
) -> None:
    page = open_page(idle_console)
    # A page that shows nothing takes 50 ms on an idle machine, and longer on a busy one.
    slowness = max(1.0, painted(page, "/tuning") / 50)
    base = f"{untrained.environment.vertex_base}/v1beta1/{untrained.environment.parent}"
    with httpx.Client(timeout=60) as plain:
        for number in range(1000):
            body = {
                "baseModel": MODEL,
                "tunedModelDisplayName": f"job {number}",
                "supervisedTuningSpec": {"trainingDatasetUri": "gs://nowhere-at-all/train.jsonl"},
                "outputUri": f"gs://{untrained.environment.outputs_bucket}/{number}",
            }
            plain.post(f"{base}/tuningJobs", content=json.dumps(body)).raise_for_status()
        for number in range(200):
            plain.post(f"{base}/endpoints", json={"displayName": f"endpoint {number}"}).raise_for_status()
    for path in ("/tuning", "/tuning?page=40", "/endpoints?all=1", "/", "/bill", "/datasets"):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200
        assert len(answer.body()) < 300_000, path
        assert painted(page, path) < 1000 * slowness, path
    page.goto("/tuning?q=job+77&state=waiting")
    expect(page.locator("tbody tr")).to_have_count(19)


def test_a_long_change_shows_its_stages_and_then_its_outcome(console: RunningConsole, open_page: Open) -> None:
    go = threading.Event()

    def work(change: Change) -> str:
        change.tell("first stage")
        change.sent(2**20, 2**22)
        assert go.wait(60)
        return "/models"

    changes = console.console.changes
    change = changes.start(changes.token("/x"), "/x", "Something was made", work, back="/bill")
    page = open_page(console, f"/changes/{change.id}")
    expect(page.get_by_text("first stage")).to_be_visible()
    expect(page.get_by_text("1.0 MiB of 4.0 MiB")).to_be_visible()
    overview = open_page(console)
    expect(overview.get_by_role("link", name="first stage")).to_be_visible()
    change.tell("second stage")
    expect(page.get_by_text("second stage")).to_be_visible()
    go.set()
    expect(page.get_by_role("heading", name="Model Garden")).to_be_visible()
    expect(page.get_by_text("Something was made.")).to_be_visible()


def test_a_change_that_fails_says_why_and_leads_back(console: RunningConsole, open_page: Open) -> None:
    def work(change: Change) -> str:
        problems = ["<b>no</b>", *(f"mistake {number}" for number in range(59))]
        raise ConfigurationError("<b>no</b>", problems=problems, hint="type `runner doctor`")

    changes = console.console.changes
    change = changes.start(changes.token("/x"), "/x", "Something was made", work, back="/bill")
    page = open_page(console, f"/changes/{change.id}")
    expect(page.get_by_role("alert")).to_contain_text("<b>no</b>")
    expect(page.get_by_role("alert")).to_contain_text("And 10 more.")
    expect(page.get_by_role("alert").locator("code").first).to_have_text("runner doctor")
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_role("heading", name="Bill", exact=True)).to_be_visible()


def test_google_cloud_has_another_colour_than_the_emulator(console: RunningConsole, open_page: Open) -> None:
    colours = []
    cloud = Environment(project="acme-prod", location="europe-west4", token="none")
    with Session(cloud) as session, RunningConsole(session) as running:
        for shown, words in ((console, "Emulator at"), (running, "Google Cloud")):
            # Model Garden asks the service nothing.
            page = open_page(shown, "/models", first="/models")
            expect(page.get_by_role("banner")).to_contain_text(words)
            colours.append(page.locator(".target").evaluate("element => getComputedStyle(element).backgroundColor"))
            assert serious(page) == []
        expect(page.get_by_role("banner")).to_contain_text("acme-prod")
        expect(page.get_by_role("banner")).to_contain_text("billed")
    assert colours[0] != colours[1]
