"""Every page, in both modes and at both widths: readable for everybody, nothing overflows, nothing complains."""

from __future__ import annotations

import html
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from runner.console import application
from runner.gcp import uploads
from runner.gcp.endpoints import Endpoint
from runner.gcp.session import Session
from runner.serving import deployment, past_evaluations
from runner.serving.billing import current_bill
from runner.serving.evaluation import compare
from runner.serving.plan import plan_deployment
from tests.console.conftest import CHROMIUM, Complaints, Open
from tests.console.running import RunningConsole
from tests.projects import Tuned
from tests.serving.test_evaluation import _pairs

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"
CUT = """() => [...document.querySelectorAll('nav, .scroll:not(.wide)')]
    .filter((one) => one.scrollWidth > one.clientWidth).map((one) => one.getAttribute('aria-label'))"""
"""What a finger would have to push aside, though nothing says so. What is compared by columns may be wide."""
WIDTHS = (320, 480, 640, 768, 900, 1024, 1150)
"""Small phones, tablets, and a desktop's window at zooms from 110 to 400 percent."""
MODES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@pytest.fixture(scope="module")
def deployed(tuned: Tuned, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Endpoint]]:
    """A project with a tuned and deployed model."""
    with Session(tuned.environment) as session, pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUNNER_STATE_DIR", str(tmp_path_factory.mktemp("state")))
        endpoint = deployment.deploy(session, plan_deployment(session, tuned.job.name))
        yield session, endpoint
        deployment.undeploy(session, endpoint, delete=True)


@pytest.fixture
def full(deployed: tuple[Session, Endpoint]) -> Iterator[RunningConsole]:
    with RunningConsole(deployed[0]) as running:
        yield running


@pytest.fixture(scope="module")
def kept(deployed: tuple[Session, Endpoint]) -> str:
    """The id of an evaluation, with answers that are cut and full of markup."""
    pairs = [replace(one, base="<b>&" * 40, base_cut=True) for one in _pairs(9, "up", "wrong", "right answer")]
    made = replace(compare("base", "tuned", pairs), settings={"temperature": 0.0, "max_tokens": 40})
    return past_evaluations.keep(deployed[0].environment, made)


@pytest.fixture(scope="module")
def flawed(deployed: tuple[Session, Endpoint]) -> str:
    """The address of a dataset with errors and over-long examples."""
    rows: list[dict[str, object]] = [{"prompt": f"{number} " * 8, "completion": "ok"} for number in range(30)]
    rows += [{"prompt": "word " * 30_000, "completion": "ok"}, {"prompt": 1, "completion": "<b>"}]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    uri = f"gs://{deployed[0].environment.datasets_bucket}/flawed.jsonl"
    return uploads.upload_bytes(deployed[0], content, uri).uri


def paths(tuned: Tuned, endpoint: Endpoint, evaluation: str, flawed: str) -> list[str]:
    """The address of every page that shows something."""
    job = f"/tuning/jobs/{tuned.job.id}"
    chosen = urlencode({"base_model": MODEL, "training": tuned.job.training_dataset_uri})
    return [
        "/",
        "/tuning",
        "/tuning?q=nothing-has-this-name",
        job,
        f"{job}/dataset",
        f"{job}/details",
        f"{job}/events",
        f"{job}/cancel",
        f"/tuning/compare?job={tuned.job.id}",
        "/tuning/create",
        f"/tuning/create/data?base_model={MODEL}",
        f"/tuning/create/data?{chosen}",
        f"/tuning/create/parameters?{chosen}",
        f"/tuning/create/review?{chosen}",
        "/models",
        "/models/deploy",
        f"/models/deploy?source={tuned.job.id}",
        f"/models/deploy/review?source={tuned.job.id}",
        "/endpoints",
        f"/endpoints/{endpoint.id}",
        f"/endpoints/{endpoint.id}/playground",
        f"/endpoints/{endpoint.id}/traffic",
        f"/endpoints/{endpoint.id}/extend",
        f"/endpoints/{endpoint.id}/undeploy",
        "/datasets",
        f"/datasets/check?{chosen}",
        "/bill",
        "/evaluations",
        "/evaluations/new",
        f"/evaluations/{evaluation}",
        f"/datasets/check?{urlencode({'base_model': MODEL, 'training': flawed})}",
    ]


def serious(page: Page) -> list[str]:
    found = Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [
        f"{item['id']}: {node['html'][:160]}"
        for item in found
        for node in item["nodes"]
        if item["impact"] in ("serious", "critical")
    ]


def resize(page: Page, width: int) -> None:
    """Set the width of the window, and wait until the page has got the event and is painted."""
    page.set_viewport_size({"width": width, "height": 860})
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_a_chart_follows_the_window_although_nothing_answers(
    full: RunningConsole, tuned: Tuned, open_page: Open
) -> None:
    page = open_page(full, f"/tuning/jobs/{tuned.job.id}", viewport={"width": 1280, "height": 860})
    page.wait_for_selector(".plots canvas")
    page.route("**/*", lambda route: None)  # no request gets an answer from here on
    for width in (390, 1280, 320, 768):
        resize(page, width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        drawn = page.evaluate("document.querySelector('.plots .uplot').clientWidth")
        assert drawn == page.evaluate("document.querySelector('.plots').clientWidth"), width


def test_every_page_is_accessible_and_fits_in_both_modes_and_widths(
    full: RunningConsole, deployed: tuple[Session, Endpoint], tuned: Tuned, open_page: Open, kept: str, flawed: str
) -> None:
    page = open_page(full, viewport={"width": 1280, "height": 860})
    problems = []
    for path in paths(tuned, deployed[1], kept, flawed):
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        assert len(answer.body()) < 300_000
        page.wait_for_load_state("networkidle")
        if page.locator("h1").count() != 1:
            problems.append(f"{path}: no single heading")
        for width, mode in itertools.product((1280, 390), MODES):
            page.emulate_media(color_scheme=mode)
            resize(page, width)
            problems += [f"{path} at {width}, {mode}: {item}" for item in serious(page)]
            if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                problems.append(f"{path}: wider than {width} pixels")
            problems += [f"{path}: {what} is cut at {width} pixels" for what in page.evaluate(CUT)]
        for width in WIDTHS:
            resize(page, width)
            problems += [f"{path}: {what} is cut at {width} pixels" for what in page.evaluate(CUT)]
        page.set_viewport_size({"width": 1280, "height": 860})
    assert problems == []


def test_a_form_that_is_refused_comes_back_with_what_was_typed_and_every_mistake(
    full: RunningConsole, deployed: tuple[Session, Endpoint], tuned: Tuned
) -> None:
    endpoint = deployed[1]
    own = f"/endpoints/{endpoint.id}"
    [model] = endpoint.deployed_models
    wrong = {"training_address": "here", "validation_address": "there"}
    numbers = {"epochs": "many", "learning_rate": "fast", "adapter_size": "7", "label": "Team=A", "output_uri": "x"}
    chosen = {"base_model": MODEL, "training": tuned.job.training_dataset_uri}
    plan = {"source": "gs://nowhere/at-all", "percent": "half", "lease": "long", "idle": "short", "machine_type": "m9"}
    refused = {
        f"{own}/traffic": ({f"share:{model.id}": "60"}, ["add up to 60"]),
        f"{own}/extend": ({"lease": "long"}, ["no length"]),
        f"{own}/playground": (
            {"question": "Why?", "system": "Be brief.", "temperature": "hot", "top_k": "0"},
            ["'hot'", "top_k: '0'"],
        ),
        "/datasets": ({"base_model": MODEL}, ["neither a file nor an object"]),
        "/tuning/create/data": ({"base_model": MODEL} | wrong, ["'here'", "'there'"]),
        "/evaluations/new": (
            {"endpoint": endpoint.id, "base": endpoint.id, "limit": "few"},
            ["same", "few", "no ques"],
        ),
        "/bill": ({}, ["no file"]),
    }
    with_post = {route.path for route in application._routes() if "POST" in (route.methods or ())}
    forms = {path.replace("{id:resource}", endpoint.id) for path in application._FORMS if path in with_post}
    assert set(refused) == forms
    shown = {
        "/tuning/create/review": (chosen | numbers, ["'many'", "'fast'", "adapter size: 7", "'Team'", "output: "]),
        "/tuning/create/parameters": (chosen | {"mode": "half"}, ["not tuned in mode half"]),
        "/models/deploy/review": (plan, ["'half'", "'long'", "'short'", "'m9'"]),
        "/evaluations/review": ({"endpoint": "e", "base": "b", "questions": "upload:0", "limit": "few"}, ["no longer"]),
    }
    with full.client() as client:
        for path, (given, words) in (refused | shown).items():
            answer = client.post(path, data=given) if path in refused else client.get(path, params=given)
            assert answer.status_code == (400 if path in refused else 200), path
            alert = re.findall(r'<div class="notice bad" role="alert" [^>]*>.*?</div>', answer.text, re.DOTALL)
            assert len(alert) == 1, path
            assert [word for word in words if word not in html.unescape(alert[0])] == [], path
            assert "<form" in answer.text or path == "/tuning/create/review", path
            assert [value for value in given.values() if value not in html.unescape(answer.text)] == [], path
        assert full.console.changes.running() == []


@pytest.mark.parametrize("scripts", [True, False])
def test_what_was_refused_is_read_first(
    full: RunningConsole, deployed: tuple[Session, Endpoint], open_page: Open, complaints: Complaints, scripts: bool
) -> None:
    page = open_page(full, java_script_enabled=scripts)
    page.goto(f"/endpoints/{deployed[1].id}/traffic")
    page.locator("input[name^='share']").first.fill("60")
    page.get_by_role("button", name="Share the traffic so").click()
    expect(page).to_have_title(re.compile("^Error: Traffic"))
    expect(page.locator("div[role=alert]")).to_be_focused()
    complaints[:] = [text for text in complaints if "status of 400" not in text]


def test_without_scripts_everything_reads(
    full: RunningConsole, deployed: tuple[Session, Endpoint], tuned: Tuned, open_page: Open
) -> None:
    page = open_page(full, java_script_enabled=False)
    page.goto(f"/tuning/jobs/{tuned.job.id}")
    expect(page.get_by_role("img", name="Training loss, from")).to_be_visible()
    expect(page.get_by_label("Smoothing")).to_be_hidden()  # it would do nothing
    page.goto(f"/tuning/jobs/{tuned.job.id}/details")
    page.get_by_text("Run manifest").click()
    expect(page.get_by_label("Run manifest")).to_contain_text("fingerprint")
    page.goto(f"/endpoints/{deployed[1].id}/playground")
    page.get_by_label("max_tokens").fill("4")
    page.get_by_label("Question").fill("What is number 7?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".turn.model")).to_have_count(1, timeout=60_000)
    page.goto("/tuning")
    page.get_by_role("combobox", name="State").select_option("bad")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No job fits these filters.")).to_be_visible()


def test_printing_shows_the_content_and_no_navigation(full: RunningConsole, tuned: Tuned, open_page: Open) -> None:
    page = open_page(full, f"/tuning/jobs/{tuned.job.id}/details")
    page.emulate_media(media="print")
    expect(page.get_by_role("heading", name="Checkpoints")).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    page.goto(f"/tuning/jobs/{tuned.job.id}")
    expect(page.get_by_role("table").first).to_be_visible()


def test_paper_is_white_whatever_the_screen_is(full: RunningConsole, tuned: Tuned, open_page: Open) -> None:
    page = open_page(full, f"/tuning/jobs/{tuned.job.id}", color_scheme="dark")
    mark = page.locator(".u-legend .u-marker").nth(1)
    dark = mark.evaluate("one => getComputedStyle(one).borderTopColor")
    page.emulate_media(media="print", color_scheme="dark")
    expect(mark).not_to_have_css("border-top-color", dark)
    expect(mark).to_have_css("border-top-color", "rgb(48, 73, 196)")  # --c0 of the light design
    page.emulate_media(media="screen", color_scheme="dark")
    expect(mark).to_have_css("border-top-color", dark)


def test_what_only_a_colour_tells_is_told_without_colours_too(
    full: RunningConsole, tuned: Tuned, open_page: Open, flawed: str
) -> None:
    page = open_page(full, f"/tuning/jobs/{tuned.job.id}", forced_colors="active")
    styles = "all => all.map((one) => getComputedStyle(one).borderBottomColor)"
    current = page.locator(".tabs a[aria-current]").evaluate_all(styles)
    others = page.locator(".tabs a:not([aria-current])").evaluate_all(styles)
    assert not set(current) & set(others)
    expect(page.locator(".frame > nav a[aria-current]")).to_have_css("outline-style", "solid")
    expect(page.locator("progress").first).to_have_css("border-top-style", "solid")
    page.goto(f"/datasets/check?{urlencode({'base_model': MODEL, 'training': flawed})}")
    expect(page.locator(".learned").first).to_have_css("border-bottom-style", "solid")


def test_a_large_font_of_the_browser_breaks_no_words_of_the_navigation(full: RunningConsole, browser: Browser) -> None:
    large = browser.browser_type.launch(
        executable_path=CHROMIUM,
        args=["--no-sandbox", "--disable-dev-shm-usage", "--blink-settings=defaultFontSize=34"],
    )
    page = large.new_page(viewport={"width": 1280, "height": 860})
    page.goto(full.access.address)
    page.goto("/".join([full.url, "models"]))
    rows = page.locator(".frame > nav a").evaluate_all("all => all.map((one) => one.getClientRects()[0].height)")
    size = page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")
    fits = page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    large.close()
    assert size > 30
    assert max(rows) < 3 * size
    assert fits


def test_the_bill_is_the_same_everywhere(full: RunningConsole, deployed: tuple[Session, Endpoint]) -> None:
    with full.client() as client:
        page = client.get("/bill.json").json()
        rows = client.get("/bill.csv").text.splitlines()
    there = current_bill(deployed[0]).to_json()

    def settled(body: dict[str, Any]) -> list[tuple[Any, ...]]:
        """What does not grow by the second."""
        return [(line["kind"], line["id"], line["name"], line["usdPerHour"], line["from"]) for line in body["lines"]]

    assert settled(page) == settled(there)
    assert {line["kind"] for line in page["lines"]} == {"tuning", "serving", "storage"}
    assert there["usd"] == pytest.approx(page["usd"], abs=0.02)
    assert len(rows) == 1 + len(page["lines"])
