"""The bill adds up, whatever is on it."""

from __future__ import annotations

import datetime
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.catalog.models import MachineChoice
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.tuning_jobs import from_document
from runner.serving.bill import bill_of

NOW = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC).timestamp()
L4 = MachineChoice(machine_type="g2-standard-12", accelerator_type="NVIDIA_L4", accelerator_count=1)
MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


def when(hours: float) -> str:
    """A moment so many hours before now."""
    return datetime.datetime.fromtimestamp(NOW - 3600 * hours, datetime.UTC).isoformat().replace("+00:00", "Z")


def job(tokens: int, *, hours: float = 2, state: str = "SUCCEEDED", epochs: int = 1) -> dict[str, object]:
    ended = {} if state == "RUNNING" else {"endTime": when(hours - 1)}
    return {
        "name": "projects/p/locations/l/tuningJobs/1",
        "state": f"JOB_STATE_{state}",
        "baseModel": MODEL,
        "createTime": when(hours),
        "supervisedTuningSpec": {"tuningMode": "TUNING_MODE_FULL", "hyperParameters": {"epochCount": str(epochs)}},
        "tuningDataStats": {
            "supervisedTuningDataStats": {"totalBillableTokenCount": str(tokens), "tuningStepCount": "10"}
        },
        "tuningJobMetadata": {"completedStepCount": "5" if state == "RUNNING" else "10"},
        **ended,
    }


def endpoint(hours: float, *, lease: int | None = None, machine: MachineChoice | None = L4) -> Endpoint:
    labels = {} if lease is None else {"runner-lease-until": str(int(NOW) + lease), "runner-idle-limit": "none"}
    model = DeployedModel(
        id="7", model="m/models/omt-1@1", machine=machine, replicas=1, create_time=when(hours), labels=labels
    )
    return Endpoint(name="projects/p/locations/l/endpoints/omt-1", id="omt-1", deployed_models=(model,))


def test_two_jobs_and_a_deployment_of_a_day() -> None:
    jobs = [from_document(job(1_000_000)), from_document(job(2_000_000, state="RUNNING"))]
    bill = bill_of(jobs, [endpoint(10, lease=7200)], now=NOW)
    by_kind = {(line.kind, line.running): line for line in bill.lines}
    assert by_kind["tuning", False].usd == pytest.approx(0.67)
    assert (by_kind["tuning", True].usd, by_kind["tuning", True].committed_usd) == (0.67, 0.67)
    serving = by_kind["serving", True]
    assert serving.usd == pytest.approx(11.507, abs=0.01)
    assert serving.committed_usd == pytest.approx(2.3014, abs=0.001)
    assert bill.usd_per_hour == serving.usd_per_hour == pytest.approx(1.1507, abs=0.001)
    assert bill.usd == round(sum(line.usd or 0 for line in bill.lines), 4)


def test_what_has_no_price_is_said_and_what_is_older_is_left_out() -> None:
    jobs = [from_document(job(10, hours=24 * 40)), from_document({**job(10), "baseModel": "x/y@z"})]
    bill = bill_of(jobs, [endpoint(24 * 40, machine=None)], now=NOW)
    assert [line.usd for line in bill.lines] == [None, None]
    assert (bill.unknown, bill.usd) == (2, 0.0)


@given(
    st.lists(st.tuples(st.integers(1, 10**9), st.floats(1, 900), st.booleans()), max_size=6),
    st.lists(st.floats(0.01, 900), max_size=4),
)
def test_days_lines_and_forms_add_up(tuned: list[tuple[int, float, bool]], served: list[float]) -> None:
    jobs = [
        from_document(job(tokens, hours=hours, state="RUNNING" if running else "SUCCEEDED"))
        for tokens, hours, running in tuned
    ]
    bill = bill_of(jobs, [endpoint(hours) for hours in served], now=NOW)
    assert sum(bill.days.values()) == pytest.approx(bill.usd, abs=1e-3)
    body = json.loads(json.dumps(bill.to_json()))
    assert body["usd"] == bill.usd
    cells = [row.split(",")[5] for row in bill.to_csv().splitlines()[1:]]
    assert sum(float(cell) for cell in cells if cell) == pytest.approx(bill.usd, abs=1e-3)
