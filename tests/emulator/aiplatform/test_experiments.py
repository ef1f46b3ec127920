"""A job's experiment, read as Google's SDK reads it: the curves are those that the job measured."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.gcp import events, tuning_jobs
from runner.gcp.curves import Point
from runner.gcp.session import Session
from runner.jobs.following.results import Measurement, of_curves, results_of
from tests.emulator.aiplatform.vertex import Vertex
from tests.projects import environment_of

pytestmark = pytest.mark.training


def _measured(vertex: Vertex, name: str) -> list[Measurement]:
    with Session(environment_of(vertex.project)) as session:
        return results_of(session, tuning_jobs.get(session, name)).measurements


def _run(vertex: Vertex, job: dict[str, Any]) -> str:
    """Return the name of the Tensorboard run of a job."""
    board = vertex.get(job["experiment"])["metadata"]["backing_tensorboard_resource"]
    experiment = f"{board}/experiments/{job['experiment'].rpartition('/')[2]}"
    (run,) = vertex.get(f"{experiment}/runs")["tensorboardRuns"]
    return str(run["name"])


def test_googles_sdk_reads_the_curves_of_a_job(tuned: tuple[Vertex, str]) -> None:
    """`runner jobs metrics` shows the same numbers."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    vertex, name = tuned
    job = vertex.get(name)
    aiplatform.init(
        project=vertex.project.project,
        location=vertex.project.location,
        api_endpoint=vertex.project.url,
        api_transport="rest",
        credentials=AnonymousCredentials(),
    )
    curves = {
        key: [(point.step, point.scalar.value) for point in data.values]
        for key, data in aiplatform.TensorboardRun(_run(vertex, job)).read_time_series_data().items()
    }
    measured = _measured(vertex, name)
    steps = [item for item in measured if item.kind == "step"]
    evaluations = [item for item in measured if item.kind == "evaluation"]
    assert len(steps) == 6
    assert len(evaluations) >= 2
    assert curves == {
        "train/loss": [(item.step, item.loss) for item in steps],
        "train/learning_rate": [(item.step, item.learning_rate) for item in steps],
        "train/tokens": [(item.step, item.tokens) for item in steps],
        "train/epoch": [(item.step, item.epoch) for item in steps],
        "eval/loss": [(item.step, item.loss) for item in evaluations],
    }
    experiment = aiplatform.Experiment(job["experiment"])
    assert experiment.name in [item.name for item in aiplatform.Experiment.list()]
    (row,) = experiment.get_data_frame().to_dict("records")
    assert (row["experiment_name"], row["state"], row["run_type"]) == (
        experiment.name,
        "COMPLETE",
        "system.ExperimentRun",
    )
    assert (row["param.epochCount"], row["param.batchSize"]) == (2, 8)
    assert row["time_series_metric.train/loss"] == steps[-1].loss
    (run,) = aiplatform.ExperimentRun.list(experiment=experiment)
    assert list(run.get_time_series_data_frame()["train/loss"].dropna()) == [item.loss for item in steps]
    assert [item.schema_title for item in run.get_artifacts()] == ["google.VertexTensorboardRun"]


def test_metrics_are_read_from_the_experiment_where_there_is_nothing_else(tuned: tuple[Vertex, str]) -> None:
    """As on the service, which has neither events nor lines of metrics."""
    vertex, name = tuned
    with Session(environment_of(vertex.project)) as session, pytest.MonkeyPatch.context() as patch:
        job = tuning_jobs.get(session, name)
        there = results_of(session, job).measurements
        patch.setattr(events, "job_events", lambda *_: [])
        found = results_of(session, dataclasses.replace(job, raw={"experiment": job.raw["experiment"]}))
        assert found.source == job.raw["experiment"]
        assert [_row(item) for item in found.measurements] == [_row(item) for item in there]
        gone = f"{job.raw['experiment']}0"
        assert results_of(session, dataclasses.replace(job, raw={"experiment": gone})).measurements == []


def _row(item: Measurement) -> dict[str, Any]:
    return {**item.to_json(), "epoch": item.epoch if item.kind == "step" else None}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@example({"loss": [(1, 1.0)], "LOSS": [(2, 2.0)]})
@given(st.dictionaries(st.text(max_size=12), st.lists(st.tuples(st.integers(0, 9), st.none() | st.floats()))))
def test_any_curves_are_told(found: dict[str, list[tuple[int, float | None]]]) -> None:
    curves = {name: [Point(step=step, value=value, time="") for step, value in rows] for name, rows in found.items()}
    known = {"train_loss", "loss", "eval_loss", "val_loss", "validation_loss", "train_total_loss", "eval_total_loss"}
    losses = [rows for name, rows in found.items() if re.sub(r"[^a-z0-9]+", "_", name.lower()) in known]
    assert len(of_curves(curves)) == sum(map(len, losses))


def test_points_are_thinned_filtered_and_paged(tuned: tuple[Vertex, str]) -> None:
    vertex, name = tuned
    run = _run(vertex, vertex.get(name))
    (loss,) = vertex.get(f"{run}/timeSeries", filter='display_name="train/loss"')["tensorboardTimeSeries"]
    assert loss["metadata"]["maxStep"] == "6"

    def steps(**params: Any) -> list[str]:
        values = vertex.get(f"{loss['name']}:read", **params)["timeSeriesData"]["values"]
        return [point["step"] for point in values]

    assert steps() == steps(maxDataPoints=-1) == ["1", "2", "3", "4", "5", "6"]
    assert steps(maxDataPoints=3) == ["1", "3", "6"]
    assert steps(maxDataPoints=1) == ["6"]
    assert steps(filter="step >= 5") == ["5", "6"]
    exported: list[str] = []
    token = ""
    while token or not exported:
        path = f"{loss['name']}:exportTensorboardTimeSeries"
        page = vertex.post(path, {"pageSize": 4, "pageToken": token}).json()
        exported += [point["step"] for point in page["timeSeriesDataPoints"]]
        token = page.get("nextPageToken", "")
    assert exported == steps()
    board = run.partition("/experiments/")[0]
    answer = vertex.client.get(f"/v1/{board}:batchRead", params={"timeSeries": f"{run}/timeSeries/1"})
    assert answer.status_code == 404
    assert vertex.client.get(f"/v1/{board}:batchRead").status_code == 400
    assert vertex.client.get(f"/v1/{run}2/timeSeries").status_code == 404


def test_a_failed_job_keeps_its_experiment_and_both_can_be_deleted(vertex: Vertex) -> None:
    training = vertex.upload(vertex.project.datasets, "bad.jsonl", b"not json\n")
    job = vertex.wait(vertex.create_job(vertex.body(training)))
    assert job["state"] == "JOB_STATE_FAILED"
    run = _run(vertex, job)
    assert vertex.get(f"{run}/timeSeries") == {}
    metadata = job["experiment"].partition("/contexts/")[0]
    assert vertex.get(f"{metadata}/executions") == {}
    (inner,) = vertex.get(f"{metadata}/contexts", filter=f'parent_contexts:"{job["experiment"]}"')["contexts"]
    assert inner["metadata"]["_state"] == "FAILED"
    artifacts = vertex.get(f"{metadata}/artifacts", filter=f'in_context("{inner["name"]}")')["artifacts"]
    assert [item["metadata"]["resourceName"] for item in artifacts] == [run]
    board = run.partition("/experiments/")[0]
    assert vertex.get(board)["runCount"] == 1
    for name in (run.partition("/runs/")[0], inner["name"], job["experiment"]):
        vertex.finished(vertex.client.delete(f"/v1/{name}"))
        assert vertex.client.get(f"/v1/{name}").status_code == 404
    assert vertex.client.get(f"/v1/{run}").status_code == 404
    assert "runCount" not in vertex.get(board)
    again = vertex.get(job["name"])
    assert again["experiment"] == job["experiment"]
