"""The bill adds up, whatever is on it."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.catalog.models import MachineChoice
from runner.errors import ConfigurationError
from runner.gcp.endpoints import DeployedModel, Endpoint
from runner.gcp.storage import ObjectInfo
from runner.gcp.tuning_jobs import from_document
from runner.prices import amount
from runner.serving import billed, lives
from runner.serving.billing import bill_of

patiently = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

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


@patiently
@given(st.floats(-1e9, 1e9))
def test_every_amount_can_be_shown(usd: float) -> None:
    assert amount(usd).removeprefix("-").startswith("$")


@pytest.mark.parametrize("usd", [0.9996, 0.09996, 0.009996, 0.0009996])
def test_amounts_have_two_digits_however_they_round(usd: float) -> None:
    assert amount(usd) in {"$1.00", "$0.10", "$0.010", "$0.0010"}


@pytest.mark.parametrize(
    "name", ["=HYPERLINK(1)", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\x1b]0;x\x07", "\u202egnp", "a,b\n=1"]
)
def test_names_are_only_text_in_a_spreadsheet_and_on_a_terminal(name: str) -> None:
    named = from_document({**job(1000), "tunedModelDisplayName": name})
    text = bill_of([named], [], now=NOW).to_csv()
    [row] = csv.DictReader(io.StringIO(text))
    assert row["name"].startswith("'") == name.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert not re.search("[\x00-\x09\x0b-\x1f\u202a-\u202e]", text)


def test_what_was_made_in_this_second_has_cost_nothing() -> None:
    life = lives._life(endpoint(-0.0001), {}, {"7": NOW + 0.4}, {}, NOW)
    assert (life.age, life.quiet, life.usd) == (0.0, 0.0, 0.0)


def objects(written: list[tuple[float, int]], storage_class: str = "STANDARD") -> list[ObjectInfo]:
    return [
        ObjectInfo(
            uri=f"gs://b/{number}",
            size=size,
            crc32c="",
            generation=1,
            storage_class=storage_class,
            created=when(hours),
        )
        for number, (hours, size) in enumerate(written)
    ]


def test_what_is_stored_costs_from_when_it_was_written() -> None:
    bill = bill_of([], [], now=NOW, buckets=[("b", objects([(48, 2**40), (24 * 90, 2**30)]))])
    [line] = bill.lines
    month = (28 * 24 + 12) / 730  # since the first of November
    assert line.usd == pytest.approx(0.020 * (1024 * 48 / 730 + month), abs=1e-3)
    assert (line.kind, line.unit, line.quantity) == ("storage", "GiB", 1025)
    assert bill.days["2026-11-28"] == pytest.approx(0.020 * 1025 * 24 / 730, abs=1e-3)
    assert bill.days["2026-11-29"] == pytest.approx(0.020 * 1025 * 12 / 730, abs=1e-3)
    odd = bill_of([], [], now=NOW, buckets=[("b", objects([(1, 5)], "RAPID")), ("empty", [])])
    assert [(item.usd, item.usd_per_hour) for item in odd.lines] == [(None, None)]


@patiently
@given(
    tuned=st.lists(st.tuples(st.integers(1, 10**9), st.floats(1, 900), st.booleans()), max_size=6),
    served=st.lists(st.floats(0.01, 900), max_size=4),
    written=st.lists(st.tuples(st.floats(0, 1500), st.integers(0, 2**44)), max_size=8),
)
def test_lines_kinds_days_and_forms_are_one_sum(
    tuned: list[tuple[int, float, bool]], served: list[float], written: list[tuple[float, int]]
) -> None:
    jobs = [
        from_document(job(tokens, hours=hours, state="RUNNING" if running else "SUCCEEDED"))
        for tokens, hours, running in tuned
    ]
    bill = bill_of(jobs, [endpoint(hours) for hours in served], now=NOW, buckets=[("b", objects(written))])
    body = json.loads(json.dumps(bill.to_json()))
    cells = [row["usd"] for row in csv.DictReader(io.StringIO(bill.to_csv()))]
    sums = [
        math.fsum(bill.days.values()),
        math.fsum(bill.kinds.values()),
        math.fsum(line["usd"] or 0 for line in body["lines"]),
        math.fsum(float(cell) for cell in cells if cell),
        body["usd"],
    ]
    assert [round(found, 4) for found in sums] == [bill.usd] * len(sums)
    for line in bill.lines:
        assert round(math.fsum(line.by_day.values()), 4) == (line.usd or 0.0)


def row(day: str, service: str, sku: str, cost: float | str) -> dict[str, object]:
    return {"day": day, "service": service, "sku": sku, "cost": cost, "currency": "USD"}


ROWS = [
    row("2026-11-03", "Vertex AI", "Llama 3.1 8B Tuning tokens", "1.25"),
    row("2026-11-03", "Vertex AI", "Online prediction g2-standard-12", 2.5),
    row("2026-11-04", "Cloud Storage", "Standard Storage", 0.01),
    row("2026-11-04", "Compute Engine", "N2 core", 9),
    row("2026-10-31", "Cloud Storage", "Standard Storage", 99),
]


@pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
def test_googles_bill_is_read_in_every_form(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"billed.{form}"
    if form == "csv":
        with path.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
    else:
        path.write_text(json.dumps(ROWS) if form == "json" else "\n".join(map(json.dumps, ROWS)))
    found = billed.read(path, since="2026-11-01", until="2026-11-29")
    assert found.kinds == {"tuning": 1.25, "serving": 2.5, "storage": 0.01, "other": 9}
    assert found.days == {"2026-11-03": 3.75, "2026-11-04": 0.01}
    assert found.usd == 3.76


def test_mistakes_of_googles_bill_are_all_named(tmp_path: Path) -> None:
    path = tmp_path / "billed.json"
    changes: list[dict[str, object]] = [{"currency": "EUR"}, {"cost": "x"}, {"day": "1.11."}, {"sku": None}]
    path.write_text(json.dumps([*ROWS, *({**ROWS[0], **change} for change in changes), 7]))
    with pytest.raises(ConfigurationError) as caught:
        billed.read(path, since="2026-11-01", until="2026-11-29")
    assert len(caught.value.problems) == 5
    for name in ("absent.json", "torn.json", "odd.csv"):
        other = tmp_path / name
        if name != "absent.json":
            other.write_bytes(b"[{" if name == "torn.json" else b"\xff\xfe\x00")
        with pytest.raises(ConfigurationError):
            billed.read(other, since="2026-11-01", until="2026-11-29")
