"""Forecast, price so far, chart, classification: the arithmetic, on made-up documents."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from runner.gcp.events import JobEvent
from runner.gcp.tuning_jobs import TuningJob, from_document
from runner.jobs.following.chart import chart
from runner.jobs.following.explaining import classify, error_text
from runner.jobs.following.progress import JobProgress, billed, fraction_of
from runner.jobs.following.watching import JobUpdate
from runner.jobs.manifests.queueing import next_attempt
from runner.jobs.manifests.records import Outcome, Record, Run
from runner.status_codes import NAMES


def job_of(**fields: Any) -> TuningJob:
    return from_document(
        {
            "name": "projects/1/locations/us-central1/tuningJobs/2",
            "state": "JOB_STATE_RUNNING",
            "baseModel": "meta/llama3_1@llama-3.1-8b-instruct",
            "supervisedTuningSpec": {"tuningMode": "TUNING_MODE_PEFT_ADAPTER", "hyperParameters": {"epochCount": "3"}},
            "createTime": "2026-01-01T00:00:00Z",
            **fields,
        }
    )


def step(number: int, second: float, total: int = 100) -> JobEvent:
    time = f"2026-01-01T00:{int(second) // 60:02d}:{second % 60:06.3f}Z"
    return JobEvent(number=number, time=time, kind="step", data={"step": number, "total_steps": total, "loss": 1.0})


def observed(events: list[JobEvent], **fields: Any) -> JobProgress:
    progress = JobProgress()
    progress.observe(JobUpdate(job=job_of(**fields), state_changed=True, events=tuple(events)))
    return progress


def test_even_steps_give_an_exact_forecast() -> None:
    remaining = observed([step(number, number * 2.0) for number in range(1, 21)]).remaining
    assert remaining is not None
    assert remaining.expected == pytest.approx(160)
    assert remaining.low == pytest.approx(160, abs=0.01)
    assert remaining.high == pytest.approx(160, abs=0.01)


def test_uneven_steps_widen_the_band() -> None:
    moments = [0.0]
    for number in range(1, 21):
        moments.append(moments[-1] + (1.0 if number % 2 else 3.0))
    remaining = observed([step(number, second) for number, second in enumerate(moments[1:], 1)]).remaining
    assert remaining is not None
    assert remaining.low < remaining.expected - 10
    assert remaining.high > remaining.expected + 10


def test_too_few_steps_give_none_and_neither_does_the_end() -> None:
    assert observed([step(1, 1), step(2, 2)]).remaining is None
    done = observed([step(number, number) for number in range(1, 9)], state="JOB_STATE_SUCCEEDED")
    assert done.remaining is None
    assert done.fraction == 1.0


def test_a_service_that_tells_only_counts() -> None:
    progress = JobProgress()
    for steps in ("10", "20", "30", "40"):
        document = {
            "tuningJobMetadata": {"completedStepCount": steps, "completedEpochCount": "0"},
            "tuningDataStats": {"supervisedTuningDataStats": {"tuningStepCount": "100"}},
        }
        progress.observe(JobUpdate(job=job_of(**document), state_changed=False))
    assert (progress.step, progress.total, progress.fraction) == (40, 100, 0.4)
    assert progress.remaining is not None


def test_the_price_so_far_is_that_of_the_part_that_is_trained() -> None:
    stats = {"supervisedTuningDataStats": {"totalBillableTokenCount": "1000000", "tuningStepCount": "100"}}
    job = job_of(tuningDataStats=stats, tuningJobMetadata={"completedStepCount": "25"})
    assert fraction_of(job) == 0.25
    used = billed(job)
    assert used is not None
    assert (used.tokens, used.total_tokens) == (750_000, 3_000_000)
    assert used.usd == pytest.approx(0.75 * 0.67)
    assert billed(job_of()) is None
    unknown = billed(job_of(tuningDataStats=stats, baseModel="nobody/nothing@at-all"))
    assert unknown is not None
    assert unknown.usd is None


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        (3, "Invalid open source publisher model resource name", "configuration"),
        (3, "The output_uri field is required for this model.", "configuration"),
        (3, "The validation dataset is 40.00% of the training dataset's size; at most 25% is allowed.", "data"),
        (5, "The file gs://b/x of training_dataset_uri cannot be read: No such object: b/x", "data"),
        (3, "The folder gs://b/w (custom_base_model) does not contain a config.json file.", "configuration"),
        (9, "Cloud KMS key is in location global", "configuration"),
        (7, "a@b.iam does not have storage.objects.get access to the Google Cloud Storage bucket b.", "permission"),
        (7, "Vertex AI API has not been used in project 1 before or it is disabled.", "permission"),
        (8, "Quota exceeded for aiplatform.googleapis.com/x", "quota"),
        (8, "The job could not be run because of high demand in this region", "capacity"),
        (13, "Internal error while reading the dataset", "platform"),
        (14, "The service is currently unavailable.", "platform"),
        (None, "", "platform"),
        (1, "The tuning job was cancelled.", "cancelled"),
    ],
)
def test_the_class_of_a_failure(code: int | None, message: str, cause: str) -> None:
    error = {"code": code, "message": message} if code is not None else {}
    assert classify(job_of(state="JOB_STATE_FAILED", error=error)) == cause


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ({"code": 8, "message": "No more."}, "No more. (RESOURCE_EXHAUSTED, code 8)"),
        ({"message": "No more."}, "No more."),
        ({"code": 8}, "(nothing) (RESOURCE_EXHAUSTED, code 8)"),
        ({}, ""),
    ],
)
def test_an_error_is_told_as_far_as_it_is_known(error: dict[str, Any], said: str) -> None:
    assert error_text(job_of(state="JOB_STATE_FAILED", error=error)) == said


@pytest.mark.parametrize("code", range(len(NAMES)))
def test_the_queue_tries_again_after_failures_that_are_not_the_jobs_own(code: int) -> None:
    job = job_of(state="JOB_STATE_FAILED", error={"code": code, "message": ""})
    run = Run(identity="i", phase="submitted", job=job.name, retries=1, outcome=Outcome(state=job.state, code=code))
    again = next_attempt(Record(name="tone", run=run), datetime.datetime.now(datetime.UTC))
    theirs = classify(job) in {"platform", "quota", "capacity"}
    # OK is no failure; ALREADY_EXISTS is none that passes.
    assert (again is not None) == (theirs and NAMES[code] not in {"OK", "ALREADY_EXISTS"})


def test_what_has_not_failed_has_no_class() -> None:
    assert classify(job_of()) is None
    assert classify(job_of(state="JOB_STATE_SUCCEEDED")) is None
    assert classify(job_of(tuningJobState="TUNING_JOB_STATE_WAITING_FOR_CAPACITY")) == "capacity"


def test_a_chart_falls_from_the_left_to_the_right() -> None:
    lines = chart([(float(x), 10.0 - x) for x in range(11)], width=40, height=6, braille=False)
    plot = [line.partition("|")[2] for line in lines[:-1]]
    assert [row.index("*") for row in plot] == sorted(row.index("*") for row in plot)
    assert lines[0].startswith(" 10|*")
    assert lines[5].lstrip().startswith("0|")
    assert all(len(line) <= 40 for line in lines)


@pytest.mark.parametrize("points", [[(1.0, 2.0)], [(1.0, 2.0), (1.0, 2.0)], [(0.0, 1.0), (1.0, float("nan"))]])
def test_a_chart_of_next_to_nothing(points: list[tuple[float, float]]) -> None:
    assert len(chart(points, width=30, height=4)) == 5
    assert chart([]) == []
    assert chart([(1.0, float("inf"))]) == []
