"""Functions and schedules: what is run, by whom, when the emulator's clock says so, and what is never run."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded import apply
from runner.emulator.clock import Clock
from runner.emulator.errors import ApiError
from runner.emulator.server import EmulatorServer
from runner.emulator.serverless.cron import Cron
from runner.emulator.settings import EmulatorSettings

PROJECT = "scheduled"
AT = f"projects/{PROJECT}/locations/us-central1"
JOB = f"/scheduler/v1/{AT}/jobs/{PROJECT}-idle-guard"
FUNCTION = f"/functions/v2/{AT}/functions/{PROJECT}-idle-guard"
CONFIG = {"idleGuard": "true", "idleGuardMinutes": "5", "endpoint": "false"}


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.moved = timedelta()

    def read(self) -> datetime:
        return datetime.now(UTC) + self.moved


class Served:
    """An emulator with the stack's guard in it."""

    def __init__(self, url: str, hands: Hands) -> None:
        self.hands = hands
        self.client = httpx.Client(base_url=url, timeout=120, trust_env=False)

    def job(self, *, run: bool = False) -> dict[str, Any]:
        answer = self.client.post(f"{JOB}:run", json={}) if run else self.client.get(JOB)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder, hands = tmp_path_factory.mktemp("scheduled"), Hands()
    settings = EmulatorSettings(directory=folder / "emulator", stand_in="tiny")
    with EmulatorServer(settings, clock=Clock(hands.read)) as server:
        apply(server.url, project=PROJECT, config=CONFIG, state=folder / "state.json")
        found = Served(server.url, hands)
        yield found
        found.client.close()


def test_the_guard_runs_when_the_emulators_clock_says_so(served: Served) -> None:
    before = served.job()
    assert "lastAttemptTime" not in before
    assert before["retryConfig"]["maxDoublings"] == 5  # as Google fills it in
    due = datetime.fromisoformat(before["scheduleTime"])
    assert due.minute % 5 == 0
    served.hands.moved = timedelta(minutes=5, seconds=10)
    deadline = time.monotonic() + 120
    while "lastAttemptTime" not in (after := served.job()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert after["status"] == {}, after
    assert datetime.fromisoformat(after["lastAttemptTime"]) >= due
    assert datetime.fromisoformat(after["scheduleTime"]) > due


def test_whoever_lacks_the_role_does_not_call(served: Served) -> None:
    service = f"/run/v2/{AT}/services/{PROJECT}-idle-guard"
    policy = served.client.get(f"{service}:getIamPolicy").json()
    assert policy["bindings"][0]["role"] == "roles/run.invoker"
    served.client.post(f"{service}:setIamPolicy", json={"policy": {"bindings": []}}).raise_for_status()
    refused = served.job(run=True)["status"]
    assert (refused["code"], "lacks roles/run.invoker" in refused["message"]) == (7, True)
    policy.pop("etag")
    served.client.post(f"{service}:setIamPolicy", json={"policy": policy}).raise_for_status()
    assert served.job(run=True)["status"] == {}


def test_code_that_is_not_of_this_installation_is_never_run(served: Served, tmp_path: Path) -> None:
    function = served.client.get(FUNCTION).json()
    source = function["buildConfig"]["source"]["storageSource"]
    mark = tmp_path / "run"
    for name, code in (
        ("main.py", f"open({str(mark)!r}, 'w')\ndef main(request): return 'x', 200\n"),
        ("sitecustomize.py", f"open({str(mark)!r}, 'w')\n"),
        ("../runner/errors.py", "x = 1\n"),
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, code)
        upload = f"/upload/storage/v1/b/{source['bucket']}/o"
        served.client.post(upload, params={"uploadType": "media", "name": "other.zip"}, content=buffer.getvalue())
        build = {**function["buildConfig"], "source": {"storageSource": {**source, "object": "other.zip"}}}
        served.client.patch(
            FUNCTION, params={"updateMask": "buildConfig"}, json={"buildConfig": build}
        ).raise_for_status()
        status = served.job(run=True)["status"]
        assert "only this installation's functions" in status["message"]
    assert not mark.exists()
    body = {"buildConfig": function["buildConfig"]}
    served.client.patch(FUNCTION, params={"updateMask": "buildConfig"}, json=body).raise_for_status()


def test_a_function_needs_its_source_and_a_schedule_its_form(served: Served) -> None:
    function = served.client.get(FUNCTION).json()
    taken = served.client.post(
        f"/functions/v2/{AT}/functions?functionId={PROJECT}-idle-guard", json={"buildConfig": function["buildConfig"]}
    )
    assert taken.status_code == 409
    missing = {**function["buildConfig"], "source": {"storageSource": {"bucket": "scheduled-contract", "object": "no"}}}
    absent = served.client.post(f"/functions/v2/{AT}/functions?functionId=other", json={"buildConfig": missing})
    assert absent.status_code == 404
    job = served.job()
    wrong = {"name": f"{AT}/jobs/other", "schedule": "every minute", "httpTarget": job["httpTarget"]}
    assert served.client.post(f"/scheduler/v1/{AT}/jobs", json=wrong).status_code == 400


MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(st.integers(5, 59), MOMENTS)
def test_every_so_many_minutes(minutes: int, moment: datetime) -> None:
    following = Cron(f"*/{minutes} * * * *").after(moment)
    assert moment < following <= moment + timedelta(hours=1)
    assert (following.minute % minutes, following.second) == (0, 0)


@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 6), MOMENTS)
def test_once_a_week(minute: int, hour: int, day: int, moment: datetime) -> None:
    following = Cron(f"{minute} {hour} * * {day}").after(moment)
    assert moment < following <= moment + timedelta(days=7)
    assert (following.minute, following.hour, following.isoweekday() % 7) == (minute, hour, day)


@pytest.mark.parametrize("text", ["", "* * * *", "60 * * * *", "*/0 * * * *", "a * * * *", "5-1 * * * *", "0 0 31 2 *"])
def test_what_never_comes_or_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ApiError, match="Schedule or time zone is invalid"):
        Cron(text).after(datetime(2026, 1, 1, tzinfo=UTC))
