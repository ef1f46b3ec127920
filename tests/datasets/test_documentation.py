"""Every finding has a row in the table, and a bad and a good example that are what they say."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from runner.catalog import find_model
from runner.datasets.checks import check_files
from runner.datasets.examples import Finding
from runner.datasets.images.inspection import PictureCheck
from runner.datasets.reading.remote import remote_object
from runner.datasets.rules import texts
from runner.environment import Environment
from runner.explanations import every
from runner.gcp import uploads
from runner.gcp.session import Session
from tests.datasets.written import JPEG
from tests.provisioning import Provisioned

ROOT = Path(__file__).parents[2]
EXAMPLES = (ROOT / "docs" / "dataset-findings.md").read_text("utf-8")
SEVERITIES = {item.name: item.severity for item in every() if item.kind == "finding"}
"""Of each code, as the table of docs/dataset-format.md has them."""


@dataclass(frozen=True, slots=True)
class Block:
    """A file of the documentation and how it is to be checked."""

    content: bytes
    label: str

    @property
    def model(self) -> str | None:
        match = re.search(r"`--model (\S+)`", self.label)
        return match[1] if match else None

    @property
    def name(self) -> str:
        match = re.search(r"in `(\S+)`", self.label)
        return match[1] if match else "train.jsonl"


def blocks(code: str) -> dict[str, Block]:
    """Return the files of a code's section: bad, good, perhaps training."""
    section = EXAMPLES.split(f"\n## {code}\n")[1].split("\n## ")[0]
    found: dict[str, Block] = {}
    for label, kind, body in re.findall(r"^(\S[^\n]*):\n\n```(\w+)\n(.*?)\n```$", section, re.M | re.S):
        # Our own documentation, never a dataset.
        content = eval(body, {"gzip": gzip, "json": json}) if kind == "python" else body.encode()  # noqa: S307
        found[label.split(",")[0].split()[0].lower()] = Block(content, label)
    return found


def findings(block: Block, training: Block | None, folder: Path, client: Session | None) -> list[Finding]:
    if client is not None and block.name.startswith("gs://"):
        uploads.upload_bytes(client, block.content, block.name)
        return check_files(remote_object(client, block.name), as_stored=True).findings
    path = folder / block.name
    path.write_bytes(block.content)
    if "--fetch-images" in block.label:
        with PictureCheck(client, decode=False) as pictures:
            return check_files(path, look_closer=pictures.findings).findings
    model = find_model(block.model) if block.model else None
    near = "--near-duplicates" in block.label
    if training is None:
        return check_files(path, model=model, near_duplicates=near, workers=1).findings
    first = folder / "training.jsonl"
    first.write_bytes(training.content)
    return check_files(first, path, model=model, near_duplicates=near, workers=1).findings


@pytest.fixture
def with_a_cat(project: Provisioned) -> Iterator[Session]:
    """The bucket of the examples, with one picture in it."""
    httpx.post(f"{project.url}/storage/v1/b?project={project.project}", json={"name": "my-bucket"}, timeout=120)
    environment = Environment(vertex_url=project.url, storage_url=project.url, token="a-token")
    with Session(environment) as session:
        uploads.upload_bytes(session, JPEG, "gs://my-bucket/cat.jpg")
        yield session


@pytest.mark.parametrize("code", SEVERITIES)
def test_the_bad_example_has_the_finding_and_the_good_one_has_not(
    code: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    files = blocks(code)
    needs_bucket = "--fetch-images" in files["bad"].label or "gs://" in files["bad"].name
    client = request.getfixturevalue("with_a_cat") if needs_bucket else None
    assert {"bad", "good"} <= set(files) <= {"bad", "good", "training"}
    bad = findings(files["bad"], files.get("training"), tmp_path, client)
    assert code in {finding.code for finding in bad}
    assert {finding.severity for finding in bad if finding.code == code} == {SEVERITIES[code]}
    good = findings(files["good"], files.get("training"), tmp_path, client)
    assert code not in {finding.code for finding in good}
    assert {finding.severity for finding in good} <= {"warning"}


def test_table_and_examples_hold_the_same_codes() -> None:
    assert re.findall(r"^## (\S+)$", EXAMPLES, re.M) == list(SEVERITIES) == sorted(SEVERITIES)
    for code, severity in SEVERITIES.items():
        assert f"\n## {code}\n\n*{severity.capitalize()}.* " in EXAMPLES


def test_no_code_is_missing_in_the_table() -> None:
    used: set[str] = set()
    for path in (ROOT / "runner" / "datasets").rglob("*.py"):
        source = path.read_text("utf-8")
        call = r"(?:\.error|\.warning|self\.add|self\._tell|_warn|ImageError)"
        call += r'\(\s*(?:report,\s*|validation,\s*)?"([a-z0-9-]+)"'
        call += r'|code="([a-z0-9-]+)"|"code": "([a-z0-9-]+)"'
        pair = r'\("([a-z0-9]+(?:-[a-z0-9]+)+)", (?:f?"|message|what|error\.message)'
        used |= {name for names in re.findall(call, source) for name in names if name}
        used |= set(re.findall(pair, source))
    used |= {texts.remark(number)[0] for number in range(len(texts.SPECIAL_TOKENS) + len(texts.PATTERNS))}
    assert used - {"utf-8", "left-out"} == set(SEVERITIES)
