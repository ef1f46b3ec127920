"""Uploads of every size: checked while the page is there, and none is held in memory."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import expect

from runner.console.application import UPLOAD_BYTES
from tests.console.conftest import Open
from tests.console.running import RunningConsole

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def test_a_large_file_is_checked_while_the_page_waits(console: RunningConsole, open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "large.jsonl"
    words = "word " * 40
    with path.open("w") as stream:
        for number in range(120_000):
            stream.write(f'{{"prompt": "{number} {words}", "completion": "{number}"}}\n')
    page = open_page(console, f"/tuning/create/data?base_model={MODEL}")
    page.get_by_label("Upload a file").first.set_input_files(path)
    page.get_by_role("button", name="Check the data").click()
    expect(page.get_by_text("Nothing is wrong with it.")).to_be_visible(timeout=120_000)
    expect(page.get_by_text("of 120,000 lines")).to_be_visible()
    page.get_by_role("button", name="Continue to the parameters").click()
    page.get_by_role("button", name="Review").click()
    expect(page.get_by_role("button", name=re.compile("Start tuning"))).to_be_visible(timeout=120_000)


def test_a_file_with_errors_names_their_lines_and_starts_nothing(
    console: RunningConsole, open_page: Open, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": 1}\nnot json\n')
    page = open_page(console, f"/tuning/create/data?base_model={MODEL}")
    page.get_by_label("Upload a file").first.set_input_files(path)
    page.get_by_role("button", name="Check the data").click()
    expect(page.get_by_text("The service would refuse this")).to_be_visible()
    expect(page.get_by_role("region", name="Findings").get_by_text("wrong.jsonl:3")).to_be_visible()
    expect(page.get_by_role("button", name="Continue to the parameters")).to_have_count(0)
    page.goto(page.url.replace("/create/data", "/create/review"))
    expect(page.get_by_role("alert")).to_contain_text("wrong.jsonl:3")
    expect(page.get_by_role("button", name=re.compile("Start tuning"))).to_have_count(0)


def test_a_file_that_is_too_large_is_not_sent(console: RunningConsole, open_page: Open, tmp_path: Path) -> None:
    path = tmp_path / "huge.jsonl"
    with path.open("wb") as stream:
        stream.truncate(UPLOAD_BYTES + 1)
    page = open_page(console, "/datasets", first="/datasets")
    page.get_by_label("Upload a file").set_input_files(path)
    page.get_by_role("button", name="Check").click()
    said = page.get_by_label("Upload a file").evaluate("input => input.validationMessage")
    assert said == "Larger than 1 GiB: put it into a bucket, and name the object."
    assert page.url.endswith("/datasets")


def test_an_upload_of_an_earlier_console_is_asked_for_again(console: RunningConsole, open_page: Open) -> None:
    page = open_page(console)
    page.goto(f"/tuning/create/data?base_model={MODEL}&training=upload:0123456789abcdef")
    expect(page.get_by_role("alert").first).to_contain_text("upload it again")


def test_mistakes_in_the_form_are_all_told_where_they_can_be_mended(
    console: RunningConsole, open_page: Open, tmp_path: Path
) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n')
    page = open_page(console, "/tuning/create")
    page.get_by_role("radio", name=re.compile("Llama 3.2 1B Instruct")).check()
    page.get_by_role("radio", name=re.compile("^LoRA:")).check()
    page.get_by_role("button", name="Continue to the dataset").click()
    expect(page.get_by_role("alert")).to_contain_text("Llama 3.2 1B Instruct is not tuned in mode PEFT_ADAPTER")
    page.get_by_role("radio", name=re.compile("^Full:")).check()
    page.get_by_role("button", name="Continue to the dataset").click()
    page.get_by_label("Upload a file").first.set_input_files(path)
    page.get_by_role("button", name="Check the data").click()
    page.get_by_role("button", name="Continue to the parameters").click()
    page.get_by_label("Learning rate").fill("7")
    page.get_by_text("Output, labels and identity").click()
    page.get_by_label("Output folder").fill("somewhere")
    page.get_by_label("Labels").fill("Team=A")
    page.get_by_role("button", name="Review").click()
    alert = page.get_by_role("alert")
    for words in ("learning rate: 7.0", "output: ", "label 'Team'"):
        expect(alert).to_contain_text(words)
    page.get_by_role("link", name="Back").click()
    expect(page.get_by_label("Learning rate")).to_have_value("7")
