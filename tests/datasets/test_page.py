"""The report page in a real browser: it is painted, nothing of the dataset runs, and nothing is wrong with it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runner.datasets.checks import check_files
from runner.datasets.reports.html import render

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = "</code><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"


def page(tmp_path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"Question {n} " * n}, {"role": "assistant", "content": "Yes."}] * k}
        for n in range(1, 40)
        for k in (1, 2)
    ]
    for role, text, answer in (
        (EVIL, EVIL, ""),
        ("user", "\x1b]0;x\x07 jane@example.com", ""),
        ("user", "AKIAABCDEFGHIJKLMNOP", "b"),
    ):
        rows.append({"messages": [{"role": role, "content": text}, {"role": "assistant", "content": answer}]})
    path = tmp_path / "<img src=x>.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    target = tmp_path / "report.html"
    target.write_text(render(check_files(path)), "utf-8")
    return target


def test_worst_examples_are_shown_but_no_secrets(tmp_path: Path) -> None:
    text = page(tmp_path).read_text("utf-8")
    worst = text.split("<h2>Worst examples</h2>")[1]
    assert "&lt;/code&gt;&lt;script&gt;" in worst
    assert "AKIAABCDEFGHIJKLMNOP" not in text
    assert "not shown" in worst
    assert "Turns of an example" in text


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_a_browser_paints_the_page_and_runs_nothing_of_it(tmp_path: Path) -> None:
    from PIL import Image

    assert BROWSER is not None
    report = page(tmp_path)
    shot = tmp_path / "report.png"
    base = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    base += ["--enable-logging=stderr", "--window-size=1000,2600"]

    def browse(*options: str) -> str:
        done = subprocess.run(
            [*base, *options, report.as_uri()], check=True, timeout=120, capture_output=True, text=True
        )
        # The browser reports what scripts and the policy of the page complain of on its console.
        assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
        return done.stdout

    document = browse("--dump-dom")
    assert "<title>&lt;img src=x&gt;.jsonl</title>" in document
    for words in (
        "Findings",
        "Worst examples",
        "unknown-role",
        "What one epoch would cost on each model",
        "Line",
        "How to fix",
        "The service would refuse this",
        "USD an epoch",
    ):
        assert words in document
    assert document.count("<rect") > 5
    assert "<script" not in document
    assert "<img" not in document
    browse(f"--screenshot={shot}")
    with Image.open(shot) as image:
        colours: dict[Any, int] = {colour: count for count, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert colours.get((0x30, 0x49, 0xC4), 0) > 2000, "the bars, in the colour of the style sheet"
    assert sum(count for colour, count in colours.items() if max(colour) < 80) > 5000, "text"
