"""Whatever stands in a record, in a run manifest or in the budget's document: a clear error, and no second job."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.gcp import records, uploads
from runner.gcp.session import Session
from runner.jobs.manifests import allowance
from runner.jobs.manifests.records import StateLedger
from runner.jobs.outputs.run_manifest import manifest_uri
from tests.cli.invocation import CommandLine, Outcome
from tests.jobs.manifests.folder import Manifests, jobs_of

HOSTILE: tuple[Any, ...] = (
    None, True, -1, 10**30, 1e308, "", "x", "\u202e\n", "1", [], [1], ["x"], [[]], {}, {"a": 1},
)  # fmt: skip
GONE = object()
EXPECTED = (0, 1, 2, 4, 8)
"""Exit codes that documents name; 70 would be a bug."""


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something stands in a document."""
    if at:
        yield at
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*at, key))


def changed(body: dict[str, Any], at: tuple[Any, ...], value: Any) -> dict[str, Any]:
    body = copy.deepcopy(body)
    here: Any = body
    for key in at[:-1]:
        here = here[key]
    if value is GONE:
        del here[at[-1]]
    else:
        here[at[-1]] = value
    return body


def variants(body: dict[str, Any], step: int = 1) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield a body with one value changed, each place with every value; with a `step`, with some."""
    every = itertools.product(places(body), (*HOSTILE, GONE))
    for at, value in itertools.islice(every, 0, None, step):
        yield f"{'.'.join(map(str, at))} = {value!s:.20}", changed(body, at, value)


def write(session: Session, name: str, body: dict[str, Any]) -> None:
    bucket = session.environment.contract_bucket
    found = records.read_record(session, bucket, name)
    assert records.write_record(session, bucket, name, body, generation=found.generation if found else 0)


def expected(outcome: Outcome, what: str) -> None:
    assert outcome.code in EXPECTED, (what, outcome.err[-500:])
    assert "Traceback" not in outcome.err, what


@pytest.fixture
def whole(untrained: Session, manifests: Manifests, idle: CommandLine) -> dict[str, Any]:
    """The body of a record in which everything is said that a record may say; its job exists."""
    sections = "deploy: {maxCostPerHour: 5}\nevaluation: {maximum: 1.0}\nretry: {attempts: 1, on: any}\npriority: 1"
    manifests.add("tone", labels="{team: a}", spec=f"maxCost: 5\n{sections}")
    assert idle("apply", "-f", str(manifests.folder), "--quota", "9").code == 0
    ledger = StateLedger(untrained)
    stored = records.read_record(untrained, ledger.bucket, ledger.object_name("tone"))
    assert stored is not None
    body: dict[str, Any] = json.loads(json.dumps(stored.body))
    earlier = {"identity": "a", "job": body["run"]["job"], "attempt": 1, "billedTokens": 5, "billedUsd": 0.5}
    body |= {"spentUsd": 0.5, "history": [{**earlier, "model": "m", "mode": "FULL", "expectedTokens": 5}]}
    body["run"] |= {
        "owner": "somebody",
        "after": "",
        "problem": "none",
        "replaceOutput": False,
        "git": {"commit": "0", "dirty": False},
        "outcome": {"state": "JOB_STATE_FAILED", "code": 3, "message": "m", "ended": "", "billedTokens": 1},
        "deployment": {"phase": "deployed", "owner": "x", "endpoint": "1", "usdPerHour": 1.0},
    }
    return body


def test_every_field_of_a_record(
    whole: dict[str, Any], idle: CommandLine, untrained: Session, manifests: Manifests
) -> None:
    """What is read as a record is sound: then no use of it can fail by its types."""
    ledger = StateLedger(untrained)
    name = ledger.object_name("tone")
    write(untrained, name, whole)
    assert ledger.read("tone") is not None
    commands = (
        ("plan", "-f", str(manifests.folder), "--no-preflight"),
        ("queue", "ls", "--all"),
        ("queue", "run", "--once", "--quota", "0", "--budget", "5"),
        ("repair", "--dry-run"),
    )
    for number, (what, body) in enumerate(variants(whole, 5)):
        write(untrained, name, body)
        expected(idle(*commands[number % len(commands)], "--json"), what)
    assert len(jobs_of(untrained)) == 1


@pytest.mark.parametrize(
    "said",
    [
        {"places": ["x"]},
        {"places": [""]},
        {"places": ["projects/a/locations/b/c"]},
        {"fields": {}},
        {"fields": {"base_model": "m"}},
        {"price": {"high": -5.0}},
        {"price": {"expected": "NaN"}},
        {"attempt": "1"},
        {"attempt": 0},
        {"data": {"train": {"uri": "x", "digest": "sha256:0"}}},
        {"outcome": {"state": "JOB_STATE_FAILED", "billedUsd": -1}},
    ],
)
def test_what_no_version_has_written_is_damage(
    said: dict[str, Any], whole: dict[str, Any], untrained: Session, idle: CommandLine, manifests: Manifests
) -> None:
    ledger = StateLedger(untrained)
    name = ledger.object_name("tone")
    write(untrained, name, {**whole, "run": {**whole["run"], **said}})
    commands = (("plan", "-f", str(manifests.folder)), ("queue", "ls"), ("queue", "run", "--once", "--quota", "9"))
    for command in commands:
        outcome = idle(*command, "--json")
        assert outcome.code == 4, (command, outcome.err)
        assert "tone.json is damaged" in outcome.error["message"]
        assert "`runner repair`" in outcome.error["hint"]
    assert idle("repair", "--yes").code == 0
    assert idle("apply", "-f", str(manifests.folder), "--quota", "9").code == 0
    assert len(jobs_of(untrained)) == 1, "its job was found again"


def test_the_record_of_another_name_is_not_written_over(
    whole: dict[str, Any], untrained: Session, idle: CommandLine, manifests: Manifests
) -> None:
    ledger = StateLedger(untrained)
    write(untrained, ledger.object_name("copy"), whole)
    manifests.add("copy", spec="maxCost: 5")
    outcome = idle("apply", "-f", str(manifests.folder), "--quota", "9", "--json")
    assert outcome.code == 4, outcome.err
    assert "copy.json is damaged: it is the record of 'tone'" in outcome.error["message"]
    assert len(jobs_of(untrained)) == 1
    assert idle("repair", "--yes").code == 0
    assert idle("apply", "-f", str(manifests.folder), "--quota", "9").code == 0
    assert sorted(job.display_name for job in jobs_of(untrained)) == ["copy", "tone"]


def test_every_field_of_a_budgets_document(idle: CommandLine, untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone", spec="maxCost: 5")
    assert idle("apply", "-f", str(manifests.folder), "--quota", "0").code == 0
    name = f"{allowance.NAME}{untrained.environment.location}.json"
    run = ("queue", "run", "--once", "--quota", "0", "--budget", "5", "--json")
    for what, body in variants({"held": {"tone": [1, 2.0]}, "writer": "w"}, 2):
        write(untrained, name, body)
        expected(idle(*run), what)
    write(untrained, name, {"held": {"tone": [1, -1e9]}})
    refused = idle(*run)
    assert refused.code == 4, "money that nobody has would be spent"
    assert "is damaged" in refused.error["message"]
    assert [name in item["resource"] for item in idle("repair", "--yes", "--json").document] == [True]
    assert idle(*run).code == 0


def test_every_field_of_a_run_manifest(untrained: Session, manifests: Manifests, idle: CommandLine) -> None:
    """It is the claim on the folder: whatever stands in it, nobody creates a second job in it."""
    output = f"gs://{untrained.environment.outputs_bucket}/mine"
    manifests.add("tone", spec=f"maxCost: 5\noutput: {output}")
    command = ("apply", "-f", str(manifests.folder), "--quota", "9", "--json")
    assert idle(*command).code == 0
    [job] = jobs_of(untrained)
    ledger = StateLedger(untrained)
    bucket, _, name = manifest_uri(output).removeprefix("gs://").partition("/")
    stored = records.read_record(untrained, bucket, name)
    assert stored is not None
    body: dict[str, Any] = json.loads(json.dumps(stored.body))
    entry = ledger.read("tone")
    assert entry is not None
    waiting = entry.record.changed(phase="queued", job="", places=())
    for number, (what, hostile) in enumerate(variants(body, 8)):
        uploads.upload_bytes(untrained, json.dumps(hostile).encode(), manifest_uri(output), replace=True)
        if number % 3 == 0:
            expected(idle("reproduce", job.id, "--json"), what)
        elif number % 3 == 1:
            expected(idle("jobs", "compare", job.id, job.id, "--json"), what)
        else:
            record = ledger.read("tone")
            assert record is not None
            assert ledger.write(waiting, record.generation)
            expected(idle("queue", "run", "--once", "--quota", "9", "--json"), what)
    assert len(jobs_of(untrained)) == 1


def test_every_field_of_a_saved_plan(
    idle: CommandLine, untrained: Session, manifests: Manifests, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    manifests.add("tone", spec="maxCost: 5")
    assert idle("plan", "-f", "jobs", "--out", "plan.json", "--no-preflight", "--quota", "0").code == 2
    body = json.loads(Path("plan.json").read_text())
    compared = {key: body[key] for key in ("version", "project", "location", "paths", "decisions")}
    for what, hostile in variants({**compared, "decisions": [*compared["decisions"], {"name": "x", "high": 1}]}, 3):
        Path("hostile.json").write_text(json.dumps(hostile))
        outcome = idle("apply", "hostile.json", "--quota", "0", "--json")
        assert outcome.code in (1, 2, 10), (what, outcome.err[-500:])
    assert jobs_of(untrained) == []
    assert StateLedger(untrained).load().entries == {}


def test_records_of_tomorrow(untrained: Session, whole: dict[str, Any], idle: CommandLine) -> None:
    for version, code in ((2, 2), ("2", 4), (1.5, 4), (True, 4), (0, 4)):
        write(untrained, StateLedger(untrained).object_name("tone"), {**whole, "version": version})
        assert idle("queue", "ls", "--json").code == code, version
