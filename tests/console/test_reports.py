"""Reports as files: readable for everybody, on a phone, in the dark and on paper, and short where nothing is wrong."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.datasets.reports.html import render
from runner.serving.evaluation import compare
from runner.serving.evaluation_report import to_html
from runner.serving.judging import Judgement
from tests.serving.test_evaluation import _pairs

MODEL = find_model("meta/llama3_1@llama-3.1-8b-instruct")
LIMIT = MODEL.modes["FULL"].max_sequence_length
EVIL = "</pre><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">\x1b\u202e"


def _dataset(path: Path, *, flawed: bool) -> str:
    rows: list[object] = [{"prompt": f"{number} " * number, "completion": "yes"} for number in range(1, 80)]
    if flawed:
        rows += [{"prompt": "word " * (LIMIT * factor), "completion": "ok"} for factor in (1, 2, 9)]
        rows += [{"prompt": 1, "completion": EVIL}, {"prompt": EVIL, "completion": ""}] * 30
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return render(check_files(path, model=MODEL, mode="FULL"))


def _evaluation() -> str:
    pairs = [*_pairs(70, "up", EVIL, "right answer"), *_pairs(6, "down", "right answer", "wrong")]
    pairs[3] = replace(pairs[3], tuned_cut=True)
    judgement = Judgement(judge="a judge", verdicts=("tuned",) * 70 + ("unreadable", "swayed") * 3)
    found = compare("base", f"tuned {EVIL}", pairs, judgement=judgement, usd_per_1000=1.5)
    return to_html(replace(found, settings={"temperature": 0.0, "max_tokens": 1024}))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("reports")
    made = {
        "clean": _dataset(folder / "clean.jsonl", flawed=False),
        "flawed": _dataset(folder / "flawed.jsonl", flawed=True),
        "evaluation": _evaluation(),
    }
    for name, text in made.items():
        (folder / f"{name}.html").write_text(text, "utf-8")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that nothing may complain on."""
    context = browser.new_context()
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text))
    yield opened
    context.close()
    assert said == []


@pytest.mark.parametrize("name", ["clean", "flawed", "evaluation"])
def test_a_report_is_accessible_and_fits_in_both_modes_and_widths(
    browser: Browser, page: Page, files: dict[str, Path], name: str
) -> None:
    # The policy of the file forbids all scripts, so the checker's too: it gets a page without one.
    context = browser.new_context(bypass_csp=True)
    checked = context.new_page()
    checked.goto(files[name].as_uri())
    page.goto(files[name].as_uri())
    assert page.title() != "run"
    assert page.locator("script, img").count() == 0
    assert page.locator("h1").count() == 1
    problems = []
    for width, mode in itertools.product((1280, 390), ("light", "dark")):
        for one in (page, checked):
            one.set_viewport_size({"width": width, "height": 860})
            one.emulate_media(color_scheme=mode)  # type: ignore[arg-type]
        for item in Axe().run(checked).response["violations"]:
            if item["impact"] in ("serious", "critical"):
                problems += [f"{width}, {mode}: {item['id']}: {node['html'][:120]}" for node in item["nodes"]]
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            problems.append(f"wider than {width}")
    context.close()
    assert problems == []


CLIPPED = """() => [...document.querySelectorAll('main *')].filter(e => {
  const style = getComputedStyle(e);
  return style.overflowY !== 'visible' && e.scrollHeight > e.clientHeight + 1 && style.display !== 'inline'
      && !e.classList.contains('sr') && e.tagName !== 'svg';
}).map(e => e.outerHTML.slice(0, 80))"""
FOLDED = """() => [...document.querySelectorAll('details > :not(summary)')]
  .filter(e => !e.checkVisibility({contentVisibilityAuto: true}) || e.getBoundingClientRect().height === 0)
  .map(e => e.outerHTML.slice(0, 80))"""


@pytest.mark.parametrize("name", ["clean", "flawed", "evaluation"])
def test_paper_shows_everything(page: Page, files: dict[str, Path], name: str) -> None:
    page.goto(files[name].as_uri())
    assert page.locator("details").count() > 0
    assert page.evaluate(FOLDED) != []  # on the screen they are folded
    page.emulate_media(media="print", color_scheme="dark")
    page.wait_for_function(f"() => ({FOLDED})().length === 0")  # once the page is drawn for paper
    assert page.evaluate(CLIPPED) == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_clean_file_is_a_short_page(page: Page, files: dict[str, Path]) -> None:
    page.set_viewport_size({"width": 1280, "height": 860})
    page.goto(files["clean"].as_uri())
    assert "Nothing is wrong with it." in page.locator(".verdict").inner_text()
    assert page.get_by_text("Findings").count() == 0
    assert page.evaluate("document.documentElement.scrollHeight") <= 860


def test_the_limit_is_drawn_into_the_lengths(page: Page, files: dict[str, Path]) -> None:
    page.goto(files["flawed"].as_uri())
    rows = page.locator("table.bars").first.locator("tbody tr")
    kinds = [row.get_attribute("class") for row in rows.all()]
    line = kinds.index("limit")
    assert f"{LIMIT:,} tokens: the limit" in rows.nth(line).inner_text()
    assert set(kinds[:line]) == {None}
    assert set(kinds[line + 1 :]) == {"beyond"}
    counts = [int(row.locator("td").last.inner_text()) for row in rows.all()[line + 1 :]]
    assert sum(counts) == 3
    red, blue = (
        page.locator(f"table.bars {chosen} rect").first.evaluate("e => getComputedStyle(e).fill")
        for chosen in (".beyond", "tr:not(.beyond)")
    )
    assert red != blue


def test_findings_are_one_table_of_line_problem_and_fix(page: Page, files: dict[str, Path]) -> None:
    page.goto(files["flawed"].as_uri())
    region = page.get_by_role("region", name="Findings")
    assert region.locator("thead th").all_inner_texts() == ["Line", "Problem", "How to fix"]
    assert region.get_by_text("and 10 more").count() >= 1
    made = page.locator(".made").inner_text()
    assert MODEL.id in made
    assert "UTC by open-model-tuning" in made


def test_cut_answers_are_marked(page: Page, files: dict[str, Path]) -> None:
    page.goto(files["evaluation"].as_uri())
    assert page.locator(".pair .chip").all_inner_texts() == ["cut off at 1,024 tokens"]
    assert "temperature 0, max tokens 1024" in page.locator(".made").inner_text()
    first = page.locator("main > *").nth(1)
    assert first.get_attribute("aria-label") == "Verdict"
