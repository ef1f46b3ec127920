"""What each fault of the emulator does, on the wire."""

from __future__ import annotations

import dataclasses
import datetime
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from runner.emulator.fault_register import Faults
from runner.emulator.faults import FaultSyntaxError, parse
from runner.emulator.server import EmulatorServer
from runner.gcp.service_clock import ServiceClock, moment_of
from tests.faulty import FaultyEmulator
from tests.provisioning import Provisioned
from tests.rest import created, job_body, jobs_path, until


@pytest.mark.parametrize(
    ("value", "http", "status"),
    [
        ("429", 429, "RESOURCE_EXHAUSTED"),
        ("UNAVAILABLE", 503, "UNAVAILABLE"),
        ("500", 500, "INTERNAL"),
        ("401", 401, "UNAUTHENTICATED"),
        ("502", 502, "UNAVAILABLE"),
    ],
)
def test_an_error_comes_in_googles_form(
    value: str, http: int, status: str, faulty: FaultyEmulator, project: Provisioned
) -> None:
    faulty.arm(f"tuningJobs.list:status={value},times=1,retry-after=2")
    response = faulty.http.get(jobs_path(project))
    assert response.status_code == http
    assert response.json()["error"]["status"] == status
    assert response.json()["error"]["code"] == http
    assert response.headers["retry-after"] == "2"
    assert faulty.http.get(jobs_path(project)).status_code == 200
    assert faulty.hits() == [1]


def test_storage_errors_have_the_older_form(faulty: FaultyEmulator, project: Provisioned) -> None:
    faulty.arm("storage.buckets.get:status=503,message=Try later, please")
    error = faulty.http.get(f"/storage/v1/b/{project.datasets}").json()["error"]
    assert error == {
        "code": 503,
        "message": "Try later, please",
        "errors": [{"domain": "global", "reason": "backendError", "message": "Try later, please"}],
    }


def test_a_dropped_connection_before_and_after_the_commit(faulty: FaultyEmulator, project: Provisioned) -> None:
    faulty.arm("tuningJobs.create:drop,times=1")
    # How the client sees it depends on whether the server closes before it has read everything.
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        faulty.http.post(jobs_path(project), json=job_body(project))
    assert faulty.http.get(jobs_path(project)).json() == {}
    faulty.arm("tuningJobs.create:drop-after,times=1")
    # How the client sees it depends on whether the server closes before it has read everything.
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        faulty.http.post(jobs_path(project), json=job_body(project))
    assert len(faulty.http.get(jobs_path(project)).json()["tuningJobs"]) == 1
    faulty.arm("tuningJobs.create:status-after=503,times=1")
    assert faulty.http.post(jobs_path(project), json=job_body(project)).status_code == 503
    assert len(faulty.http.get(jobs_path(project)).json()["tuningJobs"]) == 2


def test_delay_skip_and_match(faulty: FaultyEmulator, project: Provisioned) -> None:
    faulty.arm("tuningJobs.list:delay=0.3,times=1", f"storage.buckets.get:status=404,skip=1,match=*{project.outputs}")
    start = time.monotonic()
    assert faulty.http.get(jobs_path(project)).status_code == 200
    assert time.monotonic() - start >= 0.3
    answers = [
        faulty.http.get(f"/storage/v1/b/{bucket}").status_code
        for bucket in (project.datasets, project.datasets, project.outputs, project.outputs)
    ]
    assert answers == [200, 200, 200, 404]


def test_probability_repeats_with_its_seed() -> None:
    def struck(seed: int) -> list[bool]:
        fault = parse(f"a.b:drop,probability=0.3,seed={seed}")
        return [fault.befalls("") for _ in range(400)]

    assert struck(1) == struck(1)
    assert struck(1) != struck(2)
    assert 80 < sum(struck(1)) < 160


def test_a_header_breaks_one_request(faulty: FaultyEmulator, project: Provisioned) -> None:
    headers = {"x-emulator-fault": "status=429"}
    assert faulty.http.get(jobs_path(project), headers=headers).status_code == 429
    assert faulty.http.get(jobs_path(project)).status_code == 200
    wrong = faulty.http.get(jobs_path(project), headers={"x-emulator-fault": "explode"})
    assert wrong.status_code == 400
    assert "'explode' is not a fault" in wrong.json()["error"]["message"]


def test_a_header_decides_the_fate_of_the_job_it_creates(faulty: FaultyEmulator, project: Provisioned) -> None:
    job = created(faulty, project, fate="fail=capacity")
    failed = until(faulty, job["name"], "JOB_STATE_FAILED")
    assert "high demand in this region" in failed["error"]["message"]
    while any(fault.get("job") for fault in faulty.http.get("/_emulator/faults").json()["faults"]):
        time.sleep(0.02)  # it goes with its job


def test_the_agent_that_does_not_exist_yet(faulty: FaultyEmulator, project: Provisioned) -> None:
    faulty.arm("setIamPolicy:agent-missing,times=2")
    agent = f"service-{project.number}@gcp-sa-vertex-moss-ft.iam.gserviceaccount.com"
    path = f"/storage/v1/b/{project.datasets}/iam"

    def grant(member: str) -> httpx.Response:
        policy = {"bindings": [{"role": "roles/storage.objectUser", "members": [member]}]}
        return faulty.http.put(path, json=policy)

    other = f"serviceAccount:service-{project.number}@gcp-sa-aiplatform.iam.gserviceaccount.com"
    assert grant(other).status_code == 200
    refused = [grant(f"serviceAccount:{agent}") for _ in range(3)]
    assert [response.status_code for response in refused] == [400, 400, 200]
    assert refused[0].json()["error"]["message"] == f"Service account {agent} does not exist."


def test_waits_run_in_the_emulators_time(faulty: FaultyEmulator, project: Provisioned) -> None:
    # The emulator's clock runs 60 times faster: 240 of its seconds are four of ours.
    faulty.arm("job:quota-wait=240,match=slow", "job:capacity-wait=240,match=slow", "job:fail=platform,match=slow")
    start = time.monotonic()
    job = created(faulty, project, "slow")
    assert until(faulty, job["name"], "WAITING_FOR_QUOTA")["state"] == "JOB_STATE_PENDING"
    assert until(faulty, job["name"], "WAITING_FOR_CAPACITY")["state"] == "JOB_STATE_RUNNING"
    failed = until(faulty, job["name"], "JOB_STATE_FAILED")
    took = time.monotonic() - start
    assert took >= 8
    assert failed["error"] == {"code": 13, "message": "Internal error encountered.", "details": []}
    shown = faulty.server.emulator.clock
    assert shown.scale == 60
    assert failed["endTime"] > failed["createTime"]


def test_a_stalled_job_stays_so_until_it_is_cancelled(faulty: FaultyEmulator, project: Provisioned) -> None:
    faulty.arm("job:stall,match=a-job", "job:fail=platform,match=later")
    job = created(faulty, project)
    until(faulty, job["name"], "TUNING")
    # Another, created later, is past the step at which this one stalls.
    until(faulty, created(faulty, project, "later")["name"], "JOB_STATE_FAILED")
    assert "tuningJobMetadata" not in until(faulty, job["name"], "TUNING")
    faulty.http.post(f"/v1beta1/{job['name']}:cancel", json={}).raise_for_status()
    until(faulty, job["name"], "JOB_STATE_CANCELLED")


@pytest.mark.parametrize(
    ("cause", "code"),
    [("data", 3), ("configuration", 3), ("permission", 7), ("quota", 8), ("capacity", 8), ("platform", 13)],
)
def test_every_class_of_failure(cause: str, code: int, faulty: FaultyEmulator, project: Provisioned) -> None:
    faulty.arm(f"job:fail={cause}")
    failed = until(faulty, created(faulty, project)["name"], "JOB_STATE_FAILED")
    assert failed["error"]["code"] == code
    assert failed["error"]["message"]


def test_faults_are_listed_and_removed(faulty: FaultyEmulator, project: Provisioned) -> None:
    first, second = faulty.arm("tuningJobs.list:status=500,times=1", "job:stall,match=never")
    faulty.http.get(jobs_path(project))
    listed = faulty.http.get("/_emulator/faults").json()["faults"]
    assert [(item["unused"], item["spent"]) for item in listed] == [(False, True), (True, False)]
    assert faulty.http.delete(f"/_emulator/faults/{first}").json()["hits"] == 1
    assert faulty.http.delete(f"/_emulator/faults/{first}").status_code == 404
    assert [item["id"] for item in faulty.http.delete("/_emulator/faults").json()["faults"]] == [second]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tuningJobs.get", "is not METHOD:ACTION"),
        ("tuningJobs.get:explode", "is not a fault of methods: status"),
        ("job:status=500", "is not a fault of tuning jobs: quota-wait"),
        ("a:status", "status needs a value"),
        ("a:status=299", "is not a status"),
        ("a:delay=soon", "is not a number from 0"),
        ("a:drop=1", "drop takes no value"),
        ("a:drop,times=-1", "is not a whole number"),
        ("a:drop,probability=2", "not between 0 and 1"),
        ("a:drop,when=now", "is not an option: times"),
        ("job:fail=weather", "is not a cause of a failure: data"),
    ],
)
def test_mistakes_say_what_was_expected(text: str, says: str) -> None:
    with pytest.raises(FaultSyntaxError, match=says):
        parse(text)


def test_a_mistyped_method_is_refused_and_arms_nothing(faulty: FaultyEmulator) -> None:
    response = faulty.http.post("/_emulator/faults", json={"faults": ["tuningJobs.get:drop", "tuningJob.get:drop"]})
    assert response.status_code == 400
    assert "no method is named 'tuningJob.get'" in response.json()["error"]["message"]
    assert faulty.http.get("/_emulator/faults").json() == {"faults": []}


def test_a_fault_never_hides_the_faults(faulty: FaultyEmulator) -> None:
    faulty.arm("*:status=503")
    assert len(faulty.http.get("/_emulator/faults").json()["faults"]) == 1


@pytest.mark.parametrize("text", ["a.b:status=503,times=2,skip=1,retry-after=1", "job:stall", "job:fail=data,match=x*"])
def test_a_fault_is_shown_as_it_is_written(text: str) -> None:
    assert parse(text).text == text
    assert parse(parse(text).text).to_json() == parse(text).to_json()


def test_unused_faults_are_known() -> None:
    armed = Faults(("a.b:drop", "c.d:drop"))
    assert [fault.action for fault in armed.of_request("x.a.b", "/")] == ["drop"]
    assert [fault.method for fault in armed.unused()] == ["c.d"]


def test_faults_outlive_a_restart_with_what_they_have_struck(tmp_path: Path) -> None:
    from runner.emulator.settings import EmulatorSettings

    settings = EmulatorSettings(directory=tmp_path, stand_in="tiny", faults=("job:stall,times=1",))
    with EmulatorServer(settings) as server, httpx.Client(base_url=server.url, timeout=120) as http:
        armed = ["projects.get:status=429,times=2", "storage.buckets.get:drop"]
        http.post("/_emulator/faults", json={"faults": armed}).raise_for_status()
        assert http.get("/v1/projects/a-project").status_code == 429
    with EmulatorServer(settings) as server, httpx.Client(base_url=server.url, timeout=120) as http:
        listed = http.get("/_emulator/faults").json()["faults"]
        assert [(fault["fault"], fault["hits"]) for fault in listed] == [
            ("job:stall,times=1", 0),
            ("projects.get:status=429,times=2", 1),
            ("storage.buckets.get:drop", 0),
        ]
        assert [http.get("/v1/projects/a-project").status_code for _ in range(2)] == [429, 200]
        assert http.delete("/_emulator/faults").status_code == 200
    with EmulatorServer(dataclasses.replace(settings, faults=())) as server:
        assert httpx.get(f"{server.url}/_emulator/faults", timeout=120).json() == {"faults": []}


def test_a_stall_and_a_seed_go_on_after_a_restart(tmp_path: Path) -> None:
    place = tmp_path / "faults.json"
    text = "a.b:drop,probability=0.5,seed=3,skip=2"
    whole, first = Faults((text,)), Faults((text, "job:quota-wait=100", "job:stall"), place)
    job = {"name": "jobs/1"}
    waits = first.waits_for_quota(job)
    assert first.of_job("stall", job) is not None
    struck = [bool(first.of_request("a.b", "/")) for _ in range(20)]
    second = Faults(place=place)
    assert 0 < second.waits_for_quota(job) <= waits
    assert second.of_job("stall", job) is not None
    assert [fault.hits for fault in second.all()][2] == 1
    struck += [bool(second.of_request("a.b", "/")) for _ in range(20)]
    assert struck == [bool(whole.of_request("a.b", "/")) for _ in range(40)]
    assert place.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 2}', b'{"version": 1}', b"[]"])
def test_a_file_of_faults_that_cannot_be_read_is_left_out(content: bytes, tmp_path: Path) -> None:
    place = tmp_path / "faults.json"
    place.write_bytes(content)
    assert Faults(place=place).all() == []


def test_the_time_goes_on_faster_after_a_restart(tmp_path: Any) -> None:
    from runner.emulator.settings import EmulatorSettings

    settings = EmulatorSettings(directory=tmp_path, stand_in="tiny", time_scale=3600)
    with EmulatorServer(settings) as server:
        start = server.emulator.clock.now()
        while (before := server.emulator.clock.now()) - start < datetime.timedelta(minutes=10):
            time.sleep(0.01)
        headers = httpx.get(server.url, trust_env=False, timeout=120).headers
        dated = moment_of(headers)
        assert dated is not None
        # What clients take for the time is that of the resources.
        assert dated >= before.timestamp() - 1 > start.timestamp() + 60
        assert headers["x-emulator-time-scale"] == "3600"
        clock = ServiceClock()
        clock.hear(headers)
        assert clock.ahead() is None, "this machine's clock is not wrong"
    with EmulatorServer(settings) as server:
        after = server.emulator.clock.now()
    assert before < after
    assert (after - before).total_seconds() < 3600 * 60
