"""Plan and apply against a running emulator."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from runner.emulator.server import EmulatorServer
from runner.errors import ConfigurationError, DatasetError, StalePlanError
from runner.gcp import tuning_jobs, uploads
from runner.gcp.session import Session
from runner.jobs.manifests import applying, budget, looking, queueing
from runner.jobs.manifests.planning import Plan, make_plan
from runner.jobs.manifests.price_history import accuracies
from runner.jobs.manifests.records import Outcome, StateLedger
from tests.jobs.manifests.folder import MODEL, Manifests, jobs_of, names_of
from tests.own_tokenizers import place_tokenizer


def plan_of(session: Session, manifests: Manifests, **options: Any) -> Plan:
    return make_plan(session, [manifests.folder], **{"preflight": False, **options})


def applied(session: Session, manifests: Manifests, **options: Any) -> list[tuple[str, str]]:
    steps = applying.apply_plan(session, plan_of(session, manifests, **options))
    return [(step.name, step.what) for step in steps]


def actions(plan: Plan) -> dict[str, str]:
    found = {job.name: str(job.action) for job in plan.jobs}
    return found | {item.name: str(item.action) for item in plan.removed}


def wait_for(session: Session, *states: str) -> None:
    """Wait until every job is in one of some states."""
    deadline = time.monotonic() + 180
    while not all(job.state.removeprefix("JOB_STATE_") in states for job in jobs_of(session)):
        assert time.monotonic() < deadline, [job.state for job in jobs_of(session)]
        time.sleep(0.3)


def test_a_manifest_becomes_one_job_and_applying_again_changes_nothing(session: Session, manifests: Manifests) -> None:
    manifests.add("tone", labels="{team: support}", spec="maxCost: 5\nmode: PEFT_ADAPTER")
    plan = plan_of(session, manifests, preflight=True)
    assert actions(plan) == {"tone": "create"}
    assert plan.changes
    assert plan.findings == []
    assert plan.jobs[0].data["rows"] == {"before": None, "after": 12}
    assert plan.cost["high"]
    assert plan.cost["unknown"] == 0
    steps = applying.apply_plan(session, plan)
    (job,) = jobs_of(session)
    assert [(step.name, step.what, step.job) for step in steps] == [("tone", "created", job.name)]
    assert (job.base_model, job.mode, job.epochs, job.labels["team"]) == (MODEL, "PEFT_ADAPTER", 1, "support")
    assert job.display_name == "tone"
    assert job.output_uri.startswith(f"gs://{session.environment.outputs_bucket}/tuned/tone-")
    again = plan_of(session, manifests)
    assert actions(again) == {"tone": "keep"}
    assert not again.changes
    assert again.jobs[0].drift == []
    assert applying.apply_plan(session, again) == []
    assert len(jobs_of(session)) == 1


def test_what_counts_as_a_change(untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone", spec="maxCost: 5")
    assert applied(untrained, manifests, quota=9) == [("tone", "created")]
    manifests.add("tone", labels="{team: b}", spec="maxCost: 6\npriority: 3\nretry: {attempts: 1}\ndescription: x")
    assert actions(plan_of(untrained, manifests)) == {"tone": "keep"}
    manifests.add("tone", hyper="{epochs: 2, learningRate: 3e-5}")
    plan = plan_of(untrained, manifests)
    (job,) = plan.jobs
    assert job.action == "change"
    assert [item.to_json() for item in job.differences] == [
        {"path": "epochs", "before": 1, "after": 2},
        {"path": "learningRate", "before": 0.0002, "after": 3e-5},
    ]
    assert len(job.superseded) == 1
    manifests.add("tone")
    with (manifests.folder / "train.jsonl").open("a") as file:
        file.write('{"prompt": "One more?", "completion": "Yes."}\n')
    (job,) = plan_of(untrained, manifests).jobs
    assert [item.path for item in job.differences] == ["data.train"]
    assert job.data["rows"] == {"before": 12, "after": 13}


def test_going_back_adopts_the_job_that_exists(untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone")
    applied(untrained, manifests, quota=9)
    manifests.add("tone", hyper="{epochs: 2}")
    assert applied(untrained, manifests, quota=9) == [("tone", "created")]
    first, second = jobs_of(untrained)
    manifests.add("tone")
    plan = plan_of(untrained, manifests, prune=True, quota=9)
    assert [(job.action, job.job.id if job.job else "") for job in plan.jobs] == [("adopt", first.id)]
    assert [(item.action, item.job.id if item.job else "") for item in plan.removed] == [("cancel", second.id)]
    assert [step.what for step in applying.apply_plan(untrained, plan)] == ["adopted", "cancelled"]
    assert actions(plan_of(untrained, manifests)) == {"tone": "keep"}
    assert len(jobs_of(untrained)) == 2


def test_a_lost_record_is_made_again_from_the_labels(untrained: Session, manifests: Manifests) -> None:
    from runner.gcp import records

    manifests.add("tone")
    applied(untrained, manifests, quota=9)
    ledger = StateLedger(untrained)
    entry = ledger.load().entries["tone"]
    assert records.delete_record(untrained, ledger.bucket, ledger.object_name("tone"), generation=entry.generation)
    assert actions(plan_of(untrained, manifests)) == {"tone": "adopt"}
    assert applied(untrained, manifests, quota=9) == [("tone", "adopted")]
    assert names_of(untrained) == ["tone"]
    assert ledger.load().entries["tone"].record.run.job == entry.record.run.job


def test_what_has_no_manifest_is_left_unless_pruned(untrained: Session, manifests: Manifests, tmp_path: Path) -> None:
    manifests.add("stays")
    gone = manifests.add("goes")
    never = manifests.add("queued")
    assert sorted(applied(untrained, manifests, quota=2)) == [
        ("goes", "created"),
        ("queued", "created"),
        ("stays", "waiting"),
    ]
    gone.unlink()
    never.unlink()
    (manifests.folder / "stays.yaml").rename(manifests.folder / "moved.yaml")
    plan = plan_of(untrained, manifests, quota=2)
    assert actions(plan) == {"stays": "wait", "goes": "orphan", "queued": "orphan"}
    assert not plan.changes
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    other = Manifests(elsewhere)
    (elsewhere / "train.jsonl").write_bytes((manifests.folder / "train.jsonl").read_bytes())
    other.add("other")
    assert actions(plan_of(untrained, other, prune=True)) == {"other": "create"}
    steps = applying.apply_plan(untrained, plan_of(untrained, manifests, quota=2, prune=True))
    assert {(step.name, step.what) for step in steps} >= {("goes", "cancelled"), ("queued", "cancelled")}


def test_a_queued_job_without_a_manifest_is_withdrawn(untrained: Session, manifests: Manifests) -> None:
    path = manifests.add("late")
    manifests.add("stays")
    applied(untrained, manifests, quota=0)
    path.unlink()
    steps = applied(untrained, manifests, quota=0, prune=True)
    assert ("late", "withdrawn") in steps
    assert applied(untrained, manifests, quota=9) == [("stays", "created")]
    manifests.add("late")
    assert applied(untrained, manifests, quota=9) == [("late", "created")]


def test_a_saved_plan_is_refused_once_anything_has_moved(
    untrained: Session, manifests: Manifests, tmp_path: Path
) -> None:
    manifests.add("tone")
    saved = tmp_path / "plan.json"
    saved.write_text(json.dumps(plan_of(untrained, manifests).to_json()))
    body = applying.read_plan(saved)
    applying.check_unmoved(body, plan_of(untrained, manifests))
    manifests.add("tone", hyper="{epochs: 2}")
    manifests.add("more")
    with pytest.raises(StalePlanError) as caught:
        applying.check_unmoved(body, plan_of(untrained, manifests))
    assert [change.split(":")[0] for change in caught.value.changes] == ["tone", "more"]
    (manifests.folder / "more.yaml").unlink()
    manifests.add("tone")
    applied(untrained, manifests)
    with pytest.raises(StalePlanError, match="action was create"):
        applying.check_unmoved(body, plan_of(untrained, manifests))
    saved.write_text("[]")
    with pytest.raises(ConfigurationError, match="is not a plan"):
        applying.read_plan(saved)


def test_a_plan_that_another_runner_overtook(untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone")
    mine = plan_of(untrained, manifests, quota=9)
    assert applied(untrained, manifests, quota=9) == [("tone", "created")]
    assert applying.apply_plan(untrained, mine) == []  # the very same job
    manifests.add("tone", hyper="{epochs: 2}")
    mine = plan_of(untrained, manifests, quota=9)
    manifests.add("tone", hyper="{epochs: 3}")
    applied(untrained, manifests, quota=9)
    with pytest.raises(StalePlanError, match="another runner"):
        applying.apply_plan(untrained, mine)
    assert len(jobs_of(untrained)) == 2


def test_a_file_that_changes_after_the_plan(untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone")
    plan = plan_of(untrained, manifests, quota=9)
    (manifests.folder / "train.jsonl").write_text('{"prompt": "Other?", "completion": "Other."}\n' * 3)
    with pytest.raises(ConfigurationError, match="has changed since it was planned"):
        applying.apply_plan(untrained, plan)
    assert jobs_of(untrained) == []


def test_an_object_that_changes_while_its_job_waits(untrained: Session, manifests: Manifests) -> None:
    uri = f"gs://{untrained.environment.datasets_bucket}/remote.jsonl"
    uploads.upload_bytes(untrained, (manifests.folder / "train.jsonl").read_bytes(), uri)
    manifests.add("tone", data=f"{{train: '{uri}'}}")
    assert applied(untrained, manifests, quota=0) == [("tone", "waiting")]
    uploads.upload_bytes(untrained, b'{"prompt": "Other?", "completion": "Other."}\n', uri, replace=True)
    (step,) = queueing.advance(untrained, limit=9)
    assert step.what == "refused"
    assert "another content" in step.message
    assert actions(plan_of(untrained, manifests)) == {"tone": "change"}
    assert applied(untrained, manifests, quota=9) == [("tone", "created")]


def test_bad_data_stops_the_plan(untrained: Session, manifests: Manifests) -> None:
    (manifests.folder / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": "a", "completion": "b"}\nnot json\n')
    manifests.add("tone", data="{train: bad.jsonl}")
    manifests.add("fine")
    with pytest.raises(DatasetError) as caught:
        plan_of(untrained, manifests)
    assert "tone.yaml:7: spec.data: bad.jsonl:1" in caught.value.message
    assert "bad.jsonl:3" in caught.value.message
    manifests.add("tone", data="{train: 'gs://no-such-bucket/x.jsonl'}")
    with pytest.raises(ConfigurationError, match=r"tone.yaml:7: spec.data.train: gs://no-such-bucket/x.jsonl does not"):
        plan_of(untrained, manifests)


def test_limits_of_jobs_and_sweeps(untrained: Session, manifests: Manifests) -> None:
    manifests.add("cheap", spec="maxCost: 5")
    manifests.add("dear", spec="maxCost: 0.000001")
    manifests.add("free")
    manifests.add("sweep", spec="sweep: {maxCost: 0.0001, grid: {epochs: [1, 2, 3]}}", hyper="{}")
    unpriced = manifests.add("unpriced", spec="maxCost: 5")
    unpriced.write_text(unpriced.read_text().replace(MODEL, "qwen/qwen3-5@qwen3.5-9b"))
    plan = plan_of(untrained, manifests)
    refused = budget.refusals(plan)
    assert [line.split(":")[0] for line in refused] == ["dear", "unpriced", "sweep"]
    assert [line.split(":")[0] for line in budget.refusals(plan, accept_unknown_cost=True)] == ["dear", "sweep"]
    assert [job.name for job in budget.without_limit(plan)] == ["free"]


def test_the_queue_goes_by_priority_then_fairness_then_waiting_time(untrained: Session, manifests: Manifests) -> None:
    for number in range(4):
        manifests.add(f"a{number}", labels="{team: a}")
    for number in range(2):
        manifests.add(f"b{number}", labels="{team: b}")
    manifests.add("urgent", labels="{team: a}", spec="priority: 5")
    applied(untrained, manifests, quota=0)
    view = looking.look(untrained, StateLedger(untrained))
    assert queueing.ordered(view, view.entries) == ["urgent", "a0", "a1", "a2", "a3", "b0", "b1"]
    assert queueing.ordered(view, view.entries, "team") == ["urgent", "b0", "a0", "b1", "a1", "a2", "a3"]
    looks = [("urgent", "b0"), (), ("a0", "b1"), ("a1", "a2", "a3")]
    for limit, created in zip((2, 2, 4, 7), looks, strict=True):
        queueing.advance(untrained, limit=limit, fair_by="team")
        before = sum(map(len, looks[: looks.index(created)]))
        # Each team has one job at the third look: for how long is measured, and decides which of the two goes first.
        assert sorted(names_of(untrained)[before:]) == sorted(created)


def test_jobs_in_turn_their_bill_and_what_continues_them(session: Session, manifests: Manifests) -> None:
    manifests.add("base")
    manifests.add("next", spec="from: base\nmode: PEFT_ADAPTER")
    assert applied(session, manifests) == [("base", "created"), ("next", "blocked")]
    wait_for(session, "SUCCEEDED")
    steps = [(step.name, step.what) for step in queueing.advance(session, limit=1)]
    assert steps == [("base", "ended"), ("next", "created")]
    base, following = jobs_of(session)
    assert following.custom_base_model == base.final_checkpoint_uri
    records = {name: entry.record for name, entry in StateLedger(session).load().entries.items()}
    outcome = records["base"].run.outcome
    assert isinstance(outcome, Outcome)
    assert outcome.billed_tokens == int(base.data_stats["totalBillableTokenCount"])
    assert outcome.billed_usd == pytest.approx(outcome.billed_tokens * 0.67 / 1e6)
    # Its tokens are a stand-in's: no estimate learns from them.
    assert outcome.counted_by_stand_in
    assert accuracies(records.values()) == {}
    assert plan_of(session, manifests).accuracies == []


def test_estimates_learn_from_what_the_models_own_tokenizer_counted(
    session: Session,
    manifests: Manifests,
    emulator: EmulatorServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub-home" / "hub"))
    place_tokenizer(tmp_path / "hub-home", emulator.settings.model_cache, MODEL)
    manifests.add("base")
    assert applied(session, manifests) == [("base", "created")]
    wait_for(session, "SUCCEEDED")
    assert [step.what for step in queueing.advance(session, limit=1)] == ["ended"]
    records = {name: entry.record for name, entry in StateLedger(session).load().entries.items()}
    outcome = records["base"].run.outcome
    assert isinstance(outcome, Outcome)
    assert not outcome.counted_by_stand_in
    assert outcome.billed_tokens is not None
    (accuracy,) = accuracies(records.values()).values()
    assert accuracy.worst == pytest.approx(outcome.billed_tokens / records["base"].run.price.tokens)
    manifests.add("third")
    plan = plan_of(session, manifests)
    assert [item.to_json()["jobs"] for item in plan.accuracies] == [1]
    (third,) = plan.billable
    expected, high = third.price.expected, third.price.high
    assert expected is not None
    assert high is not None
    # The upper end of the range covers the worst estimate so far.
    assert high >= expected * accuracy.worst - 1e-12


def test_a_failed_job_is_repeated_as_its_manifest_allows(session: Session, manifests: Manifests) -> None:
    uri = f"gs://{session.environment.outputs_bucket}/no/weights"
    manifests.add("tone", spec=f"customBaseModel: {uri}\nretry: {{attempts: 1, on: any}}")
    assert applied(session, manifests) == [("tone", "created")]
    wait_for(session, "FAILED")
    assert applied(session, manifests)[-1] == ("tone", "created")
    wait_for(session, "FAILED")
    first, second = jobs_of(session)
    assert first.output_uri != second.output_uri
    assert second.labels["runner-attempt"] == "2"
    plan = plan_of(session, manifests)
    assert actions(plan) == {"tone": "failed"}
    assert not plan.changes
    manifests.add("tone", spec=f"customBaseModel: {uri}\nretry: {{attempts: 1, on: platform}}")
    text = (manifests.folder / "tone.yaml").read_text().replace("name: tone", "name: tone, revision: 2")
    (manifests.folder / "tone.yaml").write_text(text)
    plan = plan_of(session, manifests)
    assert [(job.action, job.reason) for job in plan.jobs] == [("change", "revision changed")]


def test_a_cancelled_job_is_not_repeated_by_itself(untrained: Session, manifests: Manifests) -> None:
    manifests.add("tone", spec="retry: {attempts: 3, on: any}")
    applied(untrained, manifests, quota=9)
    tuning_jobs.cancel(untrained, jobs_of(untrained)[0].name)
    wait_for(untrained, "CANCELLED")
    assert actions(plan_of(untrained, manifests)) == {"tone": "failed"}
    assert applied(untrained, manifests, quota=9) == [("tone", "ended")]
    assert len(jobs_of(untrained)) == 1


def test_jobs_of_other_locations_take_slots_of_the_one_quota(untrained: Session, manifests: Manifests) -> None:
    manifests.add("here", spec="maxCost: 5")
    bucket = untrained.environment.datasets_bucket
    uploads.upload_file(untrained, manifests.folder / "train.jsonl", f"gs://{bucket}/train.jsonl")
    body = {
        "baseModel": MODEL,
        "supervisedTuningSpec": {
            "trainingDatasetUri": f"gs://{bucket}/train.jsonl",
            "tuningMode": "TUNING_MODE_PEFT_ADAPTER",
        },
        "outputUri": f"gs://{untrained.environment.outputs_bucket}/elsewhere",
    }
    parent = f"/v1beta1/projects/{untrained.environment.project}/locations/global"
    elsewhere = untrained.http.post(f"{parent}/tuningJobs", json=body).raise_for_status().json()["name"]

    plan = plan_of(untrained, manifests, quota=1)
    assert (plan.active, plan.elsewhere) == (1, 1)
    assert applied(untrained, manifests, quota=1) == [("here", "waiting")]
    untrained.http.post(f"/v1beta1/{elsewhere}:cancel", json={}).raise_for_status()
    while untrained.http.get(f"/v1beta1/{elsewhere}").json()["state"] != "JOB_STATE_CANCELLED":
        time.sleep(0.02)
    assert applied(untrained, manifests, quota=1) == [("here", "created")]
