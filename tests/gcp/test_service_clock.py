"""The service's time: learnt from its answers, whatever this machine's clock shows or a single answer says."""

from __future__ import annotations

import ast
import datetime
import email.utils
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import runner
from runner.errors import GoogleApiError
from runner.gcp.service_clock import ServiceClock, moment_of
from runner.gcp.session import Session
from tests.gcp.corrupting import CorruptingProxy, Exchange
from tests.projects import environment_of
from tests.provisioning import Provisioned

READS = {"time", "now", "utcnow", "today"}
MAY_READ = {
    "runner/gcp/service_clock.py": "says how far this machine's clock is off",
    "runner/locks.py": "tells people since when a lock is held",
    "runner/jobs/submitting/ledger.py": "dates lines for people",
    "runner/jobs/outputs/run_manifest.py": "dates a document for people",
    "runner/jobs/following/progress.py": "shows how long a job has waited",
    "runner/serving/evaluation.py": "dates an evaluation for people",
    "runner/cli/jobs/live.py": "shows how long a job has run",
    "runner/cli/jobs/read.py": "chooses which jobs a list shows",
    "runner/gcp/login.py": "dates a request for a token, which ends by another clock",
    "runner/cli/text.py": "shows how long it is until a moment",
    "runner/cli/completing.py": "ages the names that a shell completes",
    "runner/console/observing.py": "ages what a page shows",
    "runner/console/changes.py": "ages forms and shows when a change began",
}
"""Modules that read this machine's clock, and why nothing that costs money is decided by it."""
ELSEWHERE = ("runner/emulator/", "runner/datasets/")
"""The emulator is the service; datasets cost nothing."""


def test_nothing_that_costs_money_is_decided_by_this_machines_clock() -> None:
    root = Path(runner.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        name = str(path.relative_to(root.parent))
        if name.startswith(ELSEWHERE):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in READS and _of_a_clock(node.value):
                found.add(name)
    assert found - set(MAY_READ) == set(), "these ask this machine's clock: use Session.now, or say why not"
    assert set(MAY_READ) - found == set(), "these no longer do"


def _of_a_clock(node: ast.expr) -> bool:
    """Tell whether an expression is the module `time`, or the class `datetime` or `date`."""
    last = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
    return last in {"time", "datetime", "date"}


def _headers(moment: float) -> dict[str, str]:
    return {"date": email.utils.formatdate(moment, usegmt=True)}


def test_the_time_is_the_median_of_what_answers_say() -> None:
    clock = ServiceClock()
    assert clock.now() is None
    assert clock.ahead() is None
    clock.hear({"date": "soon"})
    clock.hear({})
    assert clock.now() is None
    for moment in (1000.0, 1_000_000.0, 1000.0):
        clock.hear(_headers(moment))
    now = clock.now()
    assert now is not None
    assert 1000.0 <= now < 1060.0
    for _ in range(9):
        clock.hear(_headers(2000.0))
    now = clock.now()
    assert now is not None
    assert 2000.0 <= now < 2060.0, "what was heard last counts"
    for moment in (now + 1, now - 1, now + 1):
        clock.hear(_headers(moment))
        later = clock.now()
        assert later is not None
        assert later >= now, "it never goes back by less than answers can tell"
        now = later


@pytest.mark.parametrize(
    ("headers", "moment"),
    [
        ({"date": "Thu, 01 Jan 1970 00:10:00 GMT"}, 600.0),
        ({"date": "Thu, 01 Jan 1970 00:10:00 GMT", "age": "30"}, 630.0),
        ({"date": "Thu, 01 Jan 1970 00:10:00", "age": "x"}, 600.0),
        ({"date": "Thu, 01 Jan 99999999999 00:10:00 GMT"}, None),
        ({"date": ""}, None),
    ],
)
def test_when_an_answer_was_made(headers: dict[str, str], moment: float | None) -> None:
    assert moment_of(headers) == moment


@pytest.fixture
def dated(project: Provisioned) -> Iterator[tuple[Session, list[str]]]:
    """A session whose answers carry the date that is put into the list; none for an empty one."""
    dates: list[str] = [""]

    def change(exchange: Exchange) -> bool:
        exchange.answered.pop("date", None)
        exchange.answered |= {"date": dates[-1]} if dates[-1] else {}
        return True

    import dataclasses

    with CorruptingProxy(project.url) as proxy:
        proxy.answer = change
        environment = dataclasses.replace(environment_of(project), vertex_url=proxy.url, storage_url=proxy.url)
        with Session(environment) as session:
            yield session, dates


def test_a_session_asks_for_the_time_and_refuses_to_guess(dated: tuple[Session, list[str]]) -> None:
    session, dates = dated
    with pytest.raises(GoogleApiError, match="does not say the service's time"):
        session.now()
    dates.append("Tue, 14 Nov 2023 22:13:20 GMT")
    assert 1_700_000_000 <= session.now() < 1_700_000_060
    assert session.timestamp().startswith("2023-11-14T22:1")
    moment = datetime.datetime.fromisoformat(session.timestamp())
    assert abs(moment.timestamp() - session.now()) < 5
    ahead = session.clock.ahead()
    assert ahead is not None
    assert ahead == pytest.approx(time.time() - 1_700_000_000, abs=60)
