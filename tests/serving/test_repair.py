"""Damaged state is found, refused by what needs it, and mended by `runner repair` without anything being lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runner.gcp import tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.manifests.looking import look
from runner.jobs.manifests.records import ASIDE, StateLedger
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting import submission
from runner.jobs.submitting.ledger import Ledger
from runner.serving import journal
from runner.serving.journal import DeploymentRecord
from tests.cli.invocation import CommandLine
from tests.jobs.conftest import idle, manifests, run, untrained
from tests.jobs.manifests.folder import MODEL, Manifests, jobs_of
from tests.projects import upload_dataset

__all__ = ["idle", "manifests", "run", "untrained"]

Damaging = Callable[[Path], object]


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


LEDGERS: dict[str, Damaging] = {
    "deep": lambda path: path.write_bytes(path.read_bytes() + b"[" * 100_000 + b"}\n"),
    "wrong types": lambda path: path.write_bytes(path.read_bytes() + b'{"kind":7,"owner":[]}\n'),
    "a number": lambda path: path.write_bytes(b'7,"crc32":1}\n' + path.read_bytes()),
    "a pipe": _fifo,
}


@pytest.mark.parametrize("damage", LEDGERS)
def test_a_damaged_ledger(damage: str, idle: CommandLine, untrained: Session, state_directory: Path) -> None:
    spec = TuningJobSpec(base_model=MODEL, training_dataset=upload_dataset(untrained))
    submission.submit(untrained, spec)
    LEDGERS[damage](state_directory / "submissions.jsonl")
    command = ["jobs", "submit", "--model", MODEL, "--train", spec.training_dataset, "--yes", "--json"]
    refused = idle(*command)
    assert refused.code == 2, refused.err
    assert "runner repair" in refused.error["hint"]
    assert idle("repair").code == 2, "unconfirmed"
    seen = idle("repair", "--dry-run", "--json")
    assert [item["resource"] for item in seen.document] == [str(state_directory / "submissions.jsonl")]
    mended = idle("repair", "--yes", "--json")
    assert mended.code == 0, mended.err
    assert (state_directory / "submissions.jsonl.damaged-1").exists()
    if damage != "a pipe":
        with Ledger.open("f") as ledger:
            assert [entry["kind"] for entry in ledger._entries()][-1] == "created", "what was sound is kept"
    again = idle(*command)
    assert again.code == 0, again.err
    assert len(jobs_of(untrained)) == 1
    assert idle("repair", "--dry-run", "--json").document == []


@pytest.mark.parametrize("changed", [{"traffic_before": "x"}, {"labels": [1]}, {"phase": 7}, {"id": None}, {"x": 1}])
def test_a_damaged_journal_of_a_deployment(
    changed: dict[str, object], idle: CommandLine, untrained: Session, state_directory: Path
) -> None:
    parent = untrained.environment.parent
    record = DeploymentRecord(id="d", parent=parent, endpoint="e", own_endpoint=True, model="m")
    journal.begin(record).release()
    path = state_directory / "deployments" / "d.jsonl"
    body = {name: value for name, value in json.loads(path.read_text()).items() if name != "crc32"}
    path.write_text(json.dumps({**body, **changed}) + "\n")
    assert idle("leaks", "--json").code == 0
    assert [item["resource"] for item in idle("repair", "--yes", "--json").document] == [str(path)]
    assert not path.exists()
    assert path.with_name("d.jsonl.damaged-1").exists()


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"name": "tone", "run": {"color": 1}}', b"[" * 100_000])
def test_a_damaged_record(content: bytes, idle: CommandLine, untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone", spec="maxCost: 5")
    command = ["apply", "-f", str(manifests.folder), "--quota", "9", "--json"]
    assert idle(*command).code == 0
    records = StateLedger(untrained)
    uploads.upload_bytes(untrained, content, f"gs://{records.bucket}/{records.object_name('tone')}", replace=True)
    refused = idle(*command)
    assert refused.code == 4, refused.err
    assert "runner repair" in refused.error["hint"]
    mended = idle("repair", "--yes", "--json")
    assert mended.code == 0, mended.err
    assert ASIDE in mended.document[0]["outcome"]
    again = idle(*command)
    assert again.code == 0, again.err
    [job] = jobs_of(untrained)
    entry = StateLedger(untrained).read("tone")
    assert entry is not None
    assert entry.record.run.job == job.name, "its job was found again"


def test_a_doubled_job_is_reported_until_one_is_chosen(
    idle: CommandLine, untrained: Session, manifests: Manifests
) -> None:
    manifests.add("tone", spec="maxCost: 5")
    command = ["apply", "-f", str(manifests.folder), "--quota", "9", "--json"]
    assert idle(*command).code == 0
    [job] = jobs_of(untrained)
    records = StateLedger(untrained)
    entry = records.read("tone")
    assert entry is not None
    body = {key: job.raw[key] for key in ("baseModel", "supervisedTuningSpec", "labels")}
    parent = f"/v1beta1/{untrained.environment.parent}/tuningJobs"
    body["outputUri"] = f"{job.output_uri}-other"
    other = untrained.http.post(parent, json=body).raise_for_status().json()["name"]
    records.write(entry.record.changed(phase="queued", job=""), entry.generation)

    doubled = idle(*command)
    assert doubled.code == 8, doubled.err
    assert "runner repair" in doubled.err
    assert idle("queue", "run", "--once", "--json").code == 8
    [damage] = idle("repair", "--dry-run", "--json").document
    assert damage["remedy"].startswith(f"choose {job.id} over")
    assert f"runner jobs cancel {other.rsplit('/', 1)[-1]}" in damage["remedy"]
    assert idle("repair", "--yes", "--json").code == 0
    assert len(jobs_of(untrained)) == 2, "nothing is cancelled unasked"
    again = idle(*command)
    assert again.code == 0, again.err
    assert look(untrained, records).entries["tone"].record.run.job == job.name


def test_a_double_that_has_ended_is_none(idle: CommandLine, untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone", spec="maxCost: 5")
    command = ["apply", "-f", str(manifests.folder), "--quota", "9", "--json"]
    assert idle(*command).code == 0
    [job] = jobs_of(untrained)
    body = {key: job.raw[key] for key in ("baseModel", "supervisedTuningSpec", "labels")}
    body["outputUri"] = f"{job.output_uri}-other"
    parent = f"/v1beta1/{untrained.environment.parent}/tuningJobs"
    other = untrained.http.post(parent, json=body).raise_for_status().json()["name"]
    tuning_jobs.cancel(untrained, other)
    while not tuning_jobs.get(untrained, other).ended:
        pass
    records = StateLedger(untrained)
    entry = records.read("tone")
    assert entry is not None
    records.write(entry.record.changed(phase="queued", job=""), entry.generation)
    again = idle(*command)
    assert again.code == 0, again.err
    assert look(untrained, records).entries["tone"].record.run.job == job.name
