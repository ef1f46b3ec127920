"""A record that somebody has damaged is named with the command that mends it; nothing is sent, nothing crashes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from runner.errors import GoogleApiError
from runner.gcp import records, uploads
from runner.gcp.session import Session
from runner.jobs.manifests.applying import apply_plan
from runner.jobs.manifests.planning import make_plan
from runner.jobs.manifests.records import StateLedger
from tests.jobs.manifests.folder import Manifests, names_of

DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "unknown field of the job": lambda body: body["run"]["fields"].update(color="red"),
    "wrong type of a field": lambda body: body["run"]["fields"].update(epochs="three"),
    "no fields object": lambda body: body["run"].update(fields=[1]),
    "unknown key of deploy": lambda body: body["run"].update(deploy={"max_cost_per_hour": 1.0, "color": "red"}),
    "evaluation of nothing": lambda body: body["run"].update(evaluation={"metric": "beauty"}),
    "empty job": lambda body: body["run"].update(job=""),
    "malformed job": lambda body: body["run"].update(job="tuningJobs"),
    "unknown phase": lambda body: body["run"].update(phase="dancing"),
    "no run": lambda body: body.pop("run"),
    "version of another kind": lambda body: body.update(version=[1]),
}


def _stored(session: Session, name: str) -> records.StoredRecord:
    ledger = StateLedger(session)
    found = records.read_record(session, ledger.bucket, ledger.object_name(name))
    assert found is not None
    return found


@pytest.fixture
def applied(untrained: Session, manifests: Manifests) -> Session:
    manifests.add("tone")
    (step,) = apply_plan(untrained, make_plan(untrained, [manifests.folder], quota=9, preflight=False))
    assert step.what == "created"
    return untrained


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_record_is_named(damage: str, applied: Session, manifests: Manifests) -> None:
    there = _stored(applied, "tone")
    body = json.loads(json.dumps(there.body))
    DAMAGES[damage](body)
    bucket = applied.environment.contract_bucket
    assert records.write_record(applied, bucket, there.name, body, generation=there.generation)
    with pytest.raises(GoogleApiError, match=r"tone\.json is damaged") as caught:
        make_plan(applied, [manifests.folder], quota=9, preflight=False)
    assert "gcloud storage" in str(caught.value.hint)
    assert names_of(applied) == ["tone"]


def test_a_deep_record_is_named(applied: Session, manifests: Manifests) -> None:
    there = _stored(applied, "tone")
    uri = f"gs://{applied.environment.contract_bucket}/{there.name}"
    content = b'{"name": "tone", "run": ' + b"[" * 100_000
    uploads.upload_bytes(applied, content, uri, replace=True, content_type="application/json")
    with pytest.raises(GoogleApiError, match=r"tone\.json"):
        make_plan(applied, [manifests.folder], quota=9, preflight=False)
    assert names_of(applied) == ["tone"]


def test_a_copy_of_a_record_is_nobodys(applied: Session, manifests: Manifests) -> None:
    there = _stored(applied, "tone")
    bucket = applied.environment.contract_bucket
    copy = there.name.replace("tone.json", "tone-copy.json")
    assert records.write_record(applied, bucket, copy, {**there.body}, generation=0)
    manifests.add("other")
    plan = make_plan(applied, [manifests.folder], quota=9, preflight=False)
    assert {job.name: job.action for job in plan.jobs} == {"other": "create", "tone": "keep"}
    assert [step.what for step in apply_plan(applied, plan)] == ["created"]
    assert sorted(names_of(applied)) == ["other", "tone"]


def test_two_manifests_with_one_output_are_a_mistake(untrained: Session, manifests: Manifests) -> None:
    output = f"output: gs://{untrained.environment.outputs_bucket}/one"
    manifests.add("one", spec=output)
    manifests.add("two", spec=output + "/")
    with pytest.raises(Exception, match=r"two\.yaml.*spec\.output.*output folder of 'one' too"):
        make_plan(untrained, [manifests.folder], quota=9, preflight=False)


def test_a_changed_manifest_does_not_overwrite_what_it_has_made(untrained: Session, manifests: Manifests) -> None:
    output = f"output: gs://{untrained.environment.outputs_bucket}/one"
    manifests.add("one", spec=output)
    apply_plan(untrained, make_plan(untrained, [manifests.folder], quota=9, preflight=False))
    manifests.add("one", spec=output, hyper="{epochs: 2}")
    plan = make_plan(untrained, [manifests.folder], quota=9)
    assert [finding.code for finding in plan.findings] == ["output_taken"]
    (step,) = apply_plan(untrained, plan)
    assert step.what == "refused"
    assert "has not ended" in step.message
    assert names_of(untrained) == ["one"]
