"""Plan and apply against a running emulator."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.errors import ConfigurationError, DatasetError, StalePlanError
from runner.gcp import storage, tuning_jobs
from runner.gcp.session import Session
from runner.jobs import applying, queueing
from runner.jobs.planning import Plan, make_plan
from runner.jobs.state_ledger import StateLedger
from tests.jobs.manifests import MODEL, Manifests, jobs_of, names_of


def plan_of(session: Session, manifests: Manifests, **options: object) -> Plan:
    return make_plan(session, [manifests.folder], **options)  # type: ignore[arg-type]


def actions(plan: Plan) -> dict[str, str]:
    found = {job.name: str(job.action) for job in plan.jobs}
    return found | {item.name: str(item.action) for item in plan.removed}


def test_a_manifest_becomes_one_job_and_applying_again_changes_nothing(session: Session, manifests: Manifests) -> None:
    manifests.add("tone", labels="{team: support}", spec="maxCost: 5\nmode: PEFT_ADAPTER")
    plan = plan_of(session, manifests)
    assert actions(plan) == {"tone": "create"}
    assert plan.changes
    assert plan.findings == []
    assert plan.jobs[0].data["rows"] == {"before": None, "after": 12}
    assert plan.cost["high"] and plan.cost["unknown"] == 0
    steps = applying.apply_plan(session, plan)
    (job,) = jobs_of(session)
    assert [(step.name, step.what, step.job) for step in steps] == [("tone", "created", job.name)]
    assert (job.base_model, job.mode, job.epochs, job.labels["team"]) == (MODEL, "PEFT_ADAPTER", 1, "support")
    assert job.display_name == "tone"
    assert job.output_uri.startswith(f"gs://{session.environment.outputs_bucket}/tuned/tone-")
    again = plan_of(session, manifests)
    assert actions(again) == {"tone": "keep"}
    assert not again.changes
    assert applying.apply_plan(session, again) == []
    assert len(jobs_of(session)) == 1
