"""docs/faults.md: every form in it is one that the emulator takes, and every fault is in it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from runner.emulator import faults
from tests.faulty import FaultyEmulator
from tests.loopback import NO_TLS
from tests.provisioning import Provisioned
from tests.rest import jobs_path

PAGE = (Path(__file__).parents[3] / "docs" / "faults.md").read_text()
PLACES = {"=SECONDS": "=5", "=BYTES": "=256", "=N": "=2", "=P": "=0.5", "=PATTERN": "=nightly-*", "=TEXT": "=any, text"}
CAUSES = {"job": faults._FAILURES, "deployment": faults._DEPLOYMENT_FAILURES}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def first_column(title: str) -> list[str]:
    return [code for row in re.findall(r"^\| (`.*?) \|", section(title), re.M) for code in re.findall("`([^`]+)`", row)]


def spelled(form: str) -> list[str]:
    """Return the texts that a form stands for: `stall[=SECONDS]` is two, `fail=CAUSE` one for each cause."""
    if "[" in form:
        return [*spelled(re.sub(r"\[.*\]", "", form)), *spelled(form.replace("[", "").replace("]", ""))]
    if form.endswith("=CAUSE"):
        return [form.replace("CAUSE", cause) for cause in CAUSES[form.partition(":")[0]]]
    for place, value in PLACES.items():
        if form.endswith(place):
            return [form.removesuffix(place) + value]
    return [form]


REQUESTS = [text for form in first_column("Requests") for text in spelled(form)]
JOBS = [text for form in first_column("Jobs") for text in spelled(form)]
DEPLOYMENTS = [text for form in first_column("Deployments") for text in spelled(form)]
OPTIONS = [text for form in first_column("Options") for text in spelled(form)]
INSTRUCTIONS = [row.split("`")[3] for row in section("Retry tests").splitlines() if row.startswith("| `")]
HEADERS = re.findall(r"x-emulator-fault: ([^'`]+)", PAGE)
WHOLE = [
    *re.findall(r"--fault (\S+)", PAGE),
    *(word for line in re.findall(r"faults add (.*?)(?:  |\n|#)", PAGE) for word in line.split()),
    *re.findall(r"`([\w.*]+:[a-z-]+=[^`]+[0-9a-z])`", PAGE),
]


@pytest.mark.parametrize("text", dict.fromkeys([*JOBS, *DEPLOYMENTS, *WHOLE]))
def test_whole_faults(text: str) -> None:
    assert faults.parse(text).action


@pytest.mark.parametrize("text", dict.fromkeys([*REQUESTS, *INSTRUCTIONS]))
def test_faults_of_requests(text: str) -> None:
    assert faults.parse(text, method="storage.objects.get").action


@pytest.mark.parametrize("option", OPTIONS)
def test_options(option: str) -> None:
    assert faults.parse(f"storage.objects.get:status=503,{option}").action


def test_the_tables_are_complete() -> None:
    def actions(texts: list[str]) -> set[str]:
        return {text.rpartition(":")[2].partition("=")[0] for text in texts}

    assert actions(REQUESTS) == {*faults.REQUEST_ACTIONS}
    assert actions(JOBS) == {*faults.JOB_ACTIONS}
    assert actions(DEPLOYMENTS) == {*faults.DEPLOYMENT_ACTIONS}
    assert {text.partition("=")[0] for text in OPTIONS} == {
        *("times", "skip", "probability", "seed", "match", "retry-after", "after", "message")
    }
    assert len(HEADERS) >= 2
    assert len(WHOLE) >= 6


@pytest.mark.parametrize("text", dict.fromkeys([*HEADERS, *JOBS, *(text.removeprefix("job:") for text in JOBS)]))
def test_headers(text: str, faulty: FaultyEmulator, project: Provisioned) -> None:
    """Of a request that creates a job; the body is refused, but only after the header was read."""
    with httpx.Client(base_url=faulty.url, verify=NO_TLS, timeout=120) as client:
        answer = client.post(jobs_path(project), json={}, headers={"x-emulator-fault": text})
    assert "x-emulator-fault" not in answer.text
    assert answer.status_code in {400, 429}
