"""The documents as a site: every link leads somewhere, every document has a page, nothing is fetched from outside."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SITE = ROOT / "deploy" / "site"


@pytest.fixture(scope="module")
def generator() -> dict[str, Any]:
    return runpy.run_path(str(SITE / "pages.py"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(SITE / "pages.py"), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=target)
    assert done.returncode == 0, done.stderr
    return target


def listed(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [page for entry in (nav.values() if isinstance(nav, dict) else nav) for page in listed(entry)]


def test_every_document_has_a_page_and_a_place_in_the_menu(site: Path, generator: dict[str, Any]) -> None:
    pages = set(generator["pages"]().values())
    nav = set(listed(tomllib.loads((SITE / "zensical.toml").read_text("utf-8"))["project"]["nav"]))
    assert nav <= pages
    # The list of decisions leads to each of them.
    assert {page for page in pages - nav if not page.startswith("decisions/")} == set()
    for page in pages:
        html = page.replace("README.md", "index.md").removesuffix(".md") + ".html"
        assert (site / html).is_file(), page


def test_links_and_anchors_lead_to_what_exists(site: Path) -> None:
    dead: list[str] = []
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        body = page.read_text("utf-8")
        for target in re.findall(r'<a [^>]*?href="?([^" >]+)', body):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page
            file = file / "index.html" if file.is_dir() else file
            if not file.is_file() or (anchor and not re.search(rf'id="?{re.escape(anchor)}["\s>]', file.read_text())):
                dead.append(f"{page.relative_to(site)}: {target}")
    assert sorted(set(dead)) == []


def test_a_dead_link_is_refused(generator: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"docs/cli\.md: nowhere\.md does not exist"):
        generator["rewritten"]("see [this](nowhere.md)", "docs/cli.md", generator["pages"]())


def test_nothing_is_fetched_from_outside(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="?(https?:[^" >]+)', page.read_text("utf-8")
        )
        assert loaded == [], page.name


def test_a_search_finds_each_command_and_each_error(site: Path) -> None:
    index = json.loads((site / "search.json").read_text("utf-8"))
    text = json.dumps(index)
    for word in ("runner jobs submit", "runner leaks", "output_taken", "ShareGPT"):
        assert word in text, word


def test_the_tutorial_types_what_the_tour_types() -> None:
    """The tour runs in a test, as it is written."""

    def commands(text: str) -> list[str]:
        lines = [line for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
        return [re.sub(r"\s+# .*", "", line) for line in lines if line.startswith("runner ")]

    tour = (ROOT / "README.md").read_text("utf-8").split("## A tour")[1].split("\n## ")[0]
    typed = commands((ROOT / "docs" / "tutorial.md").read_text("utf-8"))
    assert typed == [line for line in commands(tour) if not line.startswith("runner eval --help")]
