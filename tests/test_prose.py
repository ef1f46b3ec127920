"""Help, messages and documents are plain English: patterns that read as a translation do not come back."""

from __future__ import annotations

import functools
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLI = ROOT / "docs" / "cli.md"
TALKING = (
    "api",
    "catalog",
    "cli",
    "console",
    "datasets",
    "emulator",
    "gcp",
    "infrastructure",
    "jobs",
    "quickstart",
    "serving",
)
"""Packages of `runner` whose strings people read."""
QUIET = {tokenize.NL, tokenize.COMMENT}
"""Tokens that neither begin nor go on with a statement."""
LONGEST_LINE = 400
"""Characters of a document's line, tables included; what stands in a fence is data or made by a program."""

PATTERNS = {
    r"\b(?:is|are) no (?!longer\b|more\b|such\b)[a-z]+\b(?= (?:of|that|to)|[:;,.]|$)": "write `is not a …`",
    r"\bthe same command goes on\b": "write `run the same command again`",
    r"--[a-z-]+ (?:confirms|overwrites|replaces|goes on|shows) (?:it|where)\b": "write `confirm with --yes`",
    r"\bbefall(?:s|en)?\b|\bbefell\b": "write `fired`",
    r"\bnobody (?:wants|agreed|asks)\b": "write `is no longer used`, `was not confirmed`",
    r"\bof late\b": "write `recent`",
    r"\bmay be repeated\b": "write `repeatable`",
    r"\bwhatever is shown\b": "write `skip confirmation prompts`",
    r"\bmake room\b": "write `free disk space`",
    r"\bper cent\b": "write `percent`",
    r"\bleave (?:-|\w+ out\b)\S* ?(?:\S+ )?out\b": "write `omit`",
    r"\ball 1 \w+s\b|\b1 (?:jobs|files|rows|models|checkpoints)\b": "use `counted`",
    r"\bcatalogue\b|\b(?:behaviour|colour|artefact|misspelt)|(?<!my-)\b(?:organ|recogn|token)is(?!m|t)": "write color",
    r"\bgo(?:es)? on\b(?! with)": "write `continue`",
    r"\banew\b|\bfor ever\b": "write `again`, `forever`",
    r"\b(?:take|taken|takes|took) (?:\w+ )?down\b": "write `undeploy`",
    r"\bmend(?:s|ed|ing)?\b": "write `correct` or `repair`",
    r"\bWho(?:ever|m)? (?:alerts|cannot|may)\b|\b[Ww]hoever\b|\b[Ww]hatever\b": "name it; write `if you …`",
    r"\b(?:is|are|was|were) (?:told|looked at)\b": "write `reports`, `checks`",
    r"` (?:writes|makes|has|names|needs|makes|puts|takes) (?:it|one|them|none)\b|\b(?:is|are) named by `?--": (
        "write `run … to …`, `pass --…`"
    ),
    r"\bso many (?:seconds|minutes|times)\b": "write `this many`",
    r"\b(?:tokens|objects|requests|answers|operations|submissions|MB|bytes) a (?:CPU )?second\b": "write `per second`",
    r"\bby turns\b": "write `alternately`",
    r"\bhold(?:s|ing)? (?:\w+ )?to one another\b|\bheld to (?:one another|those)\b": "write `compare`",
    r"\b(?:came|comes?|became|becomes?) of (?:a|an|it|the|them|each)\b": "write `the result of`",
}
"""What help, messages and documents say otherwise."""
HISTORY = ("CHANGELOG.md",)
"""Documents that tell what was, in the words of then."""


@functools.cache
def spoken() -> list[tuple[str, str]]:
    """Return the place and the text of every string that the command line or a library shows to people."""
    found = []
    folders = [*(ROOT / "runner" / name for name in TALKING), ROOT / "infra" / "automation"]
    for path in sorted(path for folder in folders for path in folder.rglob("*.py")):
        begins = True  # a string that begins a statement is a docstring; a command's is its help, and in docs/cli.md
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.STRING and not begins and " " in token.string:
                    found.append((f"{path.relative_to(ROOT)}:{token.start[0]}", token.string))
                if token.type not in QUIET:
                    begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    return found


def documents() -> Iterator[Path]:
    """Yield the documents of the repository."""
    yield from (ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"))
    yield from sorted((ROOT / "docs").rglob("*.md"))


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbered lines of a document outside fences."""
    fenced = False
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


BAD = (
    "'x' is no duration: write 45s",
    "disk full; the same command goes on",
    "--yes confirms it",
    "faults that befell nothing",
    "what nobody wants",
    "no job of late",
    "Label; may be repeated.",
    "whatever is shown is wanted",
    "make room first",
    "1 to 100 per cent",
    "a plan names its manifests: leave -f out",
    "all 1 slots are taken",
    "not in the catalogue",
    "the job goes on",
    "delete it to begin anew",
    "the guard takes models down",
    "mend the file",
    "Whom alerts tell",
    "each problem is told",
    "`runner init` writes one, another folder is named by --directory",
    "wait so many seconds",
    "objects a CPU second, to another client",
    "both programs run by turns",
    "a test holds them to one another",
    "what came of it",
)
"""A sentence for each pattern, in its order."""


@pytest.mark.parametrize(("pattern", "sentence"), list(zip(PATTERNS, BAD, strict=True)))
def test_each_pattern_finds_what_it_is_for(pattern: str, sentence: str) -> None:
    assert re.search(pattern, sentence)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_messages_and_help_are_plain_english(pattern: str) -> None:
    help_pages = [(f"docs/cli.md:{n}", line) for n, line in enumerate(CLI.read_text("utf-8").splitlines(), 1)]
    found = [f"{place}: {text!r}" for place, text in [*spoken(), *help_pages] if re.search(pattern, text)]
    assert not found, f"{PATTERNS[pattern]}:\n" + "\n".join(found)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_documents_are_plain_english(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line}"
        for path in (*documents(), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md")
        if not {*path.parts} & {*HISTORY}
        for number, line in prose(path)
        if re.search(pattern, re.sub(r"`[^`]*`", "", line))
    ]
    assert not found, f"{PATTERNS[pattern]}:\n" + "\n".join(found)


DOCSTRINGS = {
    r'^"""Of |\bwould else\b|\bso to speak\b': "write a noun: `Number of …`",
    r'^[rR]?"""(?:Tell|Say) whether\b': "write `Return whether`",
    r'\b(?:None|""|\[\]|\{\}) where\b': "write `None if`",
    r"\bgo(?:es)? on\b(?! with)|\banew\b|\bfor ever\b|\bby turns\b": "write `continue`, `again`, `alternately`",
    r"\b(?:whoe|whate|whiche|whome)ver\b": "name it; write `regardless of`",
    r"\b(?:came|comes?|became|becomes?) of (?:a|an|it|the|them|each)\b|\bso many (?!as\b)": "write `the result`",
}
"""Phrases in docstrings and comments that read as a translation."""
BAD_DOCSTRINGS = (
    '"""Of each answer."""',
    '"""Tell whether it is there."""',
    "# None where there is none",
    "# the job goes on",
    "# whoever comes next",
    "# the result says what came of it",
)
"""A text for each of these patterns, in their order."""


@pytest.mark.parametrize(("pattern", "text"), list(zip(DOCSTRINGS, BAD_DOCSTRINGS, strict=True)))
def test_each_pattern_of_docstrings_finds_what_it_is_for(pattern: str, text: str) -> None:
    assert re.search(pattern, text)


@functools.cache
def written() -> list[tuple[Path, int, str]]:
    """Return the file, the line and the text of every docstring and comment."""
    found = []
    paths = [path for folder in ("runner", "infra", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    for path in sorted(path for path in paths if ".venv" not in path.parts):  # the policy pack's packages
        begins = True
        with path.open("rb") as file:
            for token in tokenize.tokenize(file.readline):
                if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and begins):
                    found.append((path, token.start[0], token.string))
                if token.type not in QUIET:
                    begins = token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENCODING)
    return found


@pytest.mark.parametrize("pattern", DOCSTRINGS)
def test_docstrings_and_comments_are_plain_english(pattern: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {text[:80]}" for path, line, text in written() if re.search(pattern, text)
    ]
    assert not found, f"{DOCSTRINGS[pattern]}:\n" + "\n".join(found)


def test_no_line_of_a_document_is_endless() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {len(line)} characters"
        for path in documents()
        for number, line in prose(path)
        if len(line) > LONGEST_LINE
    ]
    assert not found, "\n".join(found)


def test_decisions_are_numbered_without_holes_and_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert [int(name[:4]) for name in pages] == list(range(1, len(pages) + 1))
    listed = re.findall(r"^\| \[(\d{4})\]\((.+?)\)", (folder / "README.md").read_text("utf-8"), re.M)
    assert listed == [(name[:4], name) for name in pages]
    for name in pages:
        assert (folder / name).read_text("utf-8").startswith(f"# {name[:4]} ")
