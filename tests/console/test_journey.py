"""The whole way in a browser, from an uploaded table to a chat with the tuned model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console.conftest import Open
from tests.console.running import RunningConsole

TRAINING_MS = 180_000


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table as people have one: not what the service takes."""
    path = tmp_path / "answers.csv"
    rows = "".join(f'"What is number {number}?","It is {number}."\n' for number in range(24))
    path.write_text("question,answer\n" + rows)
    return path


def test_the_three_ways_of_the_specification_by_mouse(console: RunningConsole, open_page: Open, table: Path) -> None:
    page = open_page(console)
    expect(page.get_by_role("heading", name="Nothing here yet")).to_be_visible()

    # Model card, fine-tune, managed tuning.
    page.get_by_role("link", name="Model Garden").click()
    page.get_by_role("link", name="Fine-tune Llama 3.2 1B Instruct: managed tuning").click()
    expect(page.get_by_role("radio", name=re.compile("Llama 3.2 1B Instruct"))).to_be_checked()

    # Tuning page, create a tuned model.
    page.get_by_role("link", name="Tuning", exact=True).click()
    page.get_by_role("link", name="Create tuned model").first.click()
    page.get_by_role("radio", name=re.compile("Llama 3.1 8B Instruct")).check()
    page.get_by_role("button", name="Continue to the dataset").click()

    page.get_by_label("Upload a file").first.set_input_files(table)
    page.get_by_role("button", name="Check the data").click()
    expect(page.get_by_text("The file is CSV")).to_be_visible()
    page.get_by_role("link", name="Convert it").click()
    expect(page.get_by_text("Nothing is wrong with it.")).to_be_visible()
    expect(page.get_by_role("heading", name=re.compile("Line 1:"))).to_be_visible()
    page.get_by_role("button", name="Continue to the parameters").click()

    page.get_by_label("Tuned model name").fill("numbers")
    page.get_by_label("Number of epochs").fill("2")
    page.get_by_role("button", name="Review").click()
    expect(page.get_by_text("No obstacle was found")).to_be_visible()
    page.get_by_text("Command line").click()
    expect(page.get_by_label("Command line")).to_contain_text("--train answers.csv")
    expect(page.get_by_label("Command line")).to_contain_text("--convert")
    page.get_by_role("button", name=re.compile("Start tuning")).click()

    expect(page.get_by_role("heading", name="numbers")).to_be_visible()
    expect(page.locator(".chip").first).to_have_text("Succeeded", timeout=TRAINING_MS)
    expect(page.get_by_role("link", name="Deploy", exact=True)).to_be_visible()  # the page says so by itself
    expect(page.locator("#charts canvas").first).to_be_visible()
    for tab, words in (
        ("Dataset", "What the service counted"),
        ("Details", "Checkpoints"),
        ("Events and log", "Events"),
    ):
        page.get_by_role("link", name=tab, exact=True).click()
        expect(page.get_by_role("heading", name=words, exact=True)).to_be_visible()

    # Model Garden, deploy with custom weights.
    page.get_by_role("link", name="Model Garden").click()
    page.get_by_role("link", name="Deploy model with custom weights").click()
    page.get_by_role("link", name="numbers").click()
    page.get_by_role("button", name="Review the price").click()
    expect(page.get_by_text("$1.15 per hour", exact=True)).to_be_visible()
    page.get_by_role("button", name=re.compile("Deploy for")).click()
    expect(page.get_by_text("numbers was deployed.")).to_be_visible(timeout=TRAINING_MS)

    page.get_by_role("link", name="Playground").click()
    ask(page)
    page.get_by_label("Beside it").select_option(index=1)
    page.get_by_label("Question").fill("What is number 8?")
    page.get_by_role("button", name="Ask").click()
    expect(page.locator(".turn.model")).to_have_count(3)
    expect(page.locator("#talk-status")).to_have_text("Answered", timeout=60_000)

    page.get_by_role("link", name="numbers").click()
    page.get_by_role("link", name="Undeploy").click()
    expect(page.get_by_text("This ends $1.15 per hour.")).to_be_visible()
    page.get_by_role("button", name="Undeploy").click()
    expect(page.get_by_role("heading", name="Nothing is deployed")).to_be_visible(timeout=60_000)


def ask(page: Page) -> None:
    page.get_by_label("max_tokens").fill("8")
    page.wait_for_load_state()  # before the page's script has run, Enter is only a new line
    page.get_by_label("Question").fill("What is number 7?")
    page.get_by_label("Question").press("Enter")
    expect(page.locator("#talk-status")).to_have_text("Answered", timeout=60_000)
    expect(page.locator(".turn.model p").first).not_to_have_text("…")
    expect(page.get_by_text(re.compile(r"first piece after"))).to_be_visible()


def press_to(page: Page, name: str, *, most: int = 60) -> None:
    """Press Tab until what has this accessible name has the focus, and hold that it can be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => { const e = document.activeElement; const l = e.labels?.[0];
            return [e.getAttribute('aria-label') || l?.innerText || e.innerText || '',
                    getComputedStyle(e).outlineStyle] }"""
        )
        if re.search(name, found[0]):
            assert found[1] != "none", f"{name} has the focus and does not show it"
            return
    raise AssertionError(f"no way to {name} by Tab on {page.url}")


def enter(page: Page) -> None:
    """Press Enter, and wait for the page that it leads to."""
    with page.expect_navigation():
        page.keyboard.press("Enter")
    page.wait_for_load_state("load")


def test_the_whole_way_by_keyboard_alone(console: RunningConsole, open_page: Open, table: Path) -> None:
    page = open_page(console)
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    press_to(page, "^Create tuned model")
    enter(page)
    expect(page.get_by_role("heading", name="Create tuned model")).to_be_visible()
    press_to(page, "Llama 3.1 8B Instruct")
    press_to(page, "Continue to the dataset")
    enter(page)
    press_to(page, "Upload a file")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(table)
    press_to(page, "Check the data")
    enter(page)
    press_to(page, "Convert it")
    enter(page)
    expect(page.get_by_text("Nothing is wrong with it.")).to_be_visible()
    press_to(page, "Continue to the parameters")
    enter(page)
    press_to(page, "Tuned model name")
    page.keyboard.type("keys")
    press_to(page, "Number of epochs")
    page.keyboard.type("1")
    press_to(page, "^Review")
    enter(page)
    expect(page.get_by_text("No obstacle was found")).to_be_visible()
    press_to(page, "^Start tuning")
    enter(page)
    expect(page.get_by_role("navigation", name="Job")).to_be_visible()
    expect(page.locator(".chip").first).to_have_text("Succeeded", timeout=TRAINING_MS)

    press_to(page, "^Deploy$")
    enter(page)
    press_to(page, "^Lease")
    page.keyboard.press("ArrowUp")
    press_to(page, "Review the price")
    enter(page)
    expect(page.get_by_text("$1.15 per hour", exact=True)).to_be_visible()
    press_to(page, "^Deploy for")
    enter(page)
    expect(page.get_by_role("heading", name="Deployed models")).to_be_visible(timeout=TRAINING_MS)
    press_to(page, "^Playground")
    enter(page)
    press_to(page, "^Question")
    page.wait_for_load_state()
    page.keyboard.type("What is number 7?")
    page.keyboard.press("Enter")
    expect(page.locator("#talk-status")).to_have_text("Answered", timeout=60_000)
    expect(page.locator(":focus")).to_have_attribute("name", "question")
    page.keyboard.type("And number 8?")
    page.keyboard.press("Enter")
    expect(page.locator(".turn.model")).to_have_count(2, timeout=60_000)

    press_to(page, "^keys$", most=90)
    enter(page)
    press_to(page, "^Undeploy$")
    enter(page)
    expect(page.get_by_text("This ends $1.15 per hour.")).to_be_visible()
    press_to(page, "^Undeploy$")
    enter(page)
    expect(page.get_by_role("heading", name="Nothing is deployed")).to_be_visible(timeout=60_000)
