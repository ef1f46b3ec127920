"""Explain a job's state: the cause of a failure, the evidence, and the next command.

The service returns a code and a text. The rules in this module interpret them, and combine the result with the current
state: the grants, the objects, and the jobs that use the quota.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from runner.catalog import load_catalog
from runner.errors import RunnerError
from runner.gcp import events, fleet, tuning_jobs
from runner.gcp.events import JobEvent
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import Billed, billed, fraction_by
from runner.status_codes import NO_CAPACITY, SERVICE_FAILURES, name_of
from runner.wording import counted

Cause = Literal["data", "configuration", "permission", "quota", "capacity", "platform", "cancelled"]

QUOTA = "Global concurrent managed OSS model fine-tuning jobs per project"
"""The quota's name in the console (specification); its id is GlobalConcurrentManagedOssModelTuningJobs."""

_STALL_SECONDS = 600.0
"""Time without progress after which a running job counts as stuck; longer than a step and a checkpoint take."""

_RULES: tuple[tuple[Cause, re.Pattern[str]], ...] = (
    (
        "permission",
        re.compile(
            r"does not have \S+ access|permission\b.*\bdenied|service account .* does not exist|"
            r"has not been used in project|api .* disabled",
            re.I | re.S,
        ),
    ),
    ("capacity", re.compile(r"high demand|capacity|stockout|pool exhausted|insufficient .*resources", re.I)),
    ("quota", re.compile(r"\bquotas?\b", re.I)),
    (
        "configuration",
        re.compile(
            r"custom_base_model|output_uri|kms|encryption|hyper-?parameters?|learning.?rate|"
            r"adapter.?size|batch.?size|epoch.?count|tuning.?mode",
            re.I,
        ),
    ),
    ("data", re.compile(r"dataset|training (?:file|data)|validation|\bexamples?\b|jsonl|\brows?\b|\bline \d", re.I)),
)
_SUMMARIES: dict[Cause, str] = {
    "data": "the training data cannot be used as it is",
    "configuration": "the service does not take this configuration",
    "permission": "an account lacks a permission that the job needs",
    "quota": "the project's quota of concurrent tuning jobs is used up",
    "capacity": "the service has no machine free in this location; nothing is charged for that",
    "platform": "the service failed; nothing in the job explains it",
    "cancelled": "somebody cancelled the job",
}
_DENIED = re.compile(
    r"(?P<principal>[^\s:]+@[^\s:]+) does not have (?P<permission>storage\.\S+) access to the Google Cloud Storage "
    r"bucket (?P<bucket>[a-z0-9][a-z0-9._-]*[a-z0-9])"
)
_WAITING: dict[str, Cause] = {
    "TUNING_JOB_STATE_WAITING_FOR_QUOTA": "quota",
    "TUNING_JOB_STATE_WAITING_FOR_CAPACITY": "capacity",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedExample:
    """An example that the service dropped."""

    index: int
    """Position among the examples of the training file, from 1."""
    reason: str


@dataclass(slots=True, kw_only=True)
class Explanation:
    """The explanation of a job's state."""

    job: TuningJob
    cause: Cause | None
    """None if nothing is wrong."""
    summary: str
    evidence: list[str] = field(default_factory=list)
    next_steps: list[str] = field(default_factory=list)
    """The next commands or other actions."""
    dropped: list[DroppedExample] = field(default_factory=list)
    """The sample of dropped examples that the service reports."""
    dropped_total: int = 0
    billed: Billed | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "id": self.job.id,
            "state": self.job.state,
            "cause": self.cause,
            "summary": self.summary,
            "evidence": self.evidence,
            "next": self.next_steps,
            "droppedTotal": self.dropped_total,
            "dropped": [{"index": item.index, "reason": item.reason} for item in self.dropped],
            "billed": self.billed.to_json() if self.billed else None,
        }


def classify(job: TuningJob) -> Cause | None:
    """Return the cause of a job's failure, from its own document; None if the job has not failed."""
    if job.state == "JOB_STATE_CANCELLED" or job.state == "JOB_STATE_CANCELLING":
        return "cancelled"
    if job.alive:
        return _WAITING.get(job.detail_state)
    if job.error_code in (1,):
        return "cancelled"
    for cause, pattern in _RULES:
        if cause in ("configuration", "data") and job.error_code in SERVICE_FAILURES:
            break
        if pattern.search(job.error_message):
            return cause
    if job.error_code in (7, 16):
        return "permission"
    if job.error_code == NO_CAPACITY:
        return "quota"
    if job.error_code in (3, 9, 11, 12):
        return "configuration"
    if job.error_code == 5:
        return "data"
    return "platform"


def error_text(job: TuningJob) -> str:
    """Return the message and code of a failed job; "" for each that the service does not return."""
    code = f"({name_of(job.error_code)}, code {job.error_code})" if job.error_code else ""
    return " ".join(filter(None, (job.error_message or (code and "(nothing)"), code)))


def explain(session: Session, name: str) -> Explanation:
    """Return the explanation of a job's state. Changes nothing.

    Raises:
        NotFoundError: the job does not exist.
    """
    job = tuning_jobs.get(session, name)
    story = events.job_events(session, job.name)
    cause = classify(job)
    found = Explanation(job=job, cause=cause, summary=_summary(job, cause))
    _tell_error(found)
    now = datetime.datetime.fromtimestamp(session.now(), datetime.UTC)
    _tell_stall(found, story, now)
    _tell_times(found, story, now)
    _tell_dropped(found)
    found.billed = billed(job, fraction_by(job, story))
    if cause == "permission":
        _tell_grants(session, found)
    elif cause == "quota":
        _tell_quota(session, found)
    elif cause == "capacity":
        _tell_capacity(session, found)
    _tell_next(found)
    return found


def dropped_examples(job: TuningJob) -> tuple[list[DroppedExample], int]:
    """Return the dropped examples that the service reports, and their total number."""
    stats = job.data_stats
    indices = [int(index) for index in stats.get("truncatedExampleIndices") or []]
    reasons = [str(reason) for reason in stats.get("droppedExampleReasons") or []]
    reasons += [""] * (len(indices) - len(reasons))
    named = [DroppedExample(index=index, reason=reason) for index, reason in zip(indices, reasons, strict=False)]
    return named, int(stats.get("totalTruncatedExampleCount") or len(named))


def _summary(job: TuningJob, cause: Cause | None) -> str:
    if cause == "quota" and not job.ended:
        return "the job waits for the project's quota of concurrent tuning jobs; it is not stuck"
    if cause == "capacity" and not job.ended:
        return "the job waits for a machine; it is not stuck, and waiting is not charged"
    if cause is not None:
        return _SUMMARIES[cause]
    dropped = dropped_examples(job)[1]
    if dropped:
        count = job.data_stats.get("tuningDatasetExampleCount", "?")
        return f"examples left out of the training: {dropped} of {count}"
    if job.succeeded:
        return "nothing is wrong: the job succeeded"
    return "nothing is wrong: the job is running"


def _tell_error(found: Explanation) -> None:
    job = found.job
    found.evidence.append(
        f"state: {(job.detail_state or job.state).replace('TUNING_JOB_STATE_', '').replace('JOB_STATE_', '')}"
    )
    if said := error_text(job):
        found.evidence.append(f"the service says: {said}")


def _tell_times(found: Explanation, story: list[JobEvent], now: datetime.datetime) -> None:
    job = found.job
    if job.create_time is not None:
        if job.start_time is not None:
            waited = (job.start_time - job.create_time).total_seconds()
            ran = ((job.end_time or max(now, job.start_time)) - job.start_time).total_seconds()
            found.evidence.append(f"waited {waited:.0f} s, then {'ran' if job.ended else 'has run'} {ran:.0f} s")
        else:
            waited = ((job.end_time or now) - job.create_time).total_seconds()
            found.evidence.append(f"has waited {max(0.0, waited):.0f} s and never started")
    steps = [event for event in story if event.kind == "step"]
    if steps:
        last = steps[-1].data
        found.evidence.append(f"last step: {last.get('step')} of {last.get('total_steps')}, at {steps[-1].time}")
    elif job.completed_steps:
        found.evidence.append(f"last step: {job.completed_steps}")
    elif job.start_time is not None and not job.succeeded:
        found.evidence.append("no step was trained")


def _tell_stall(found: Explanation, story: list[JobEvent], now: datetime.datetime) -> None:
    """Return when a running job last made progress, with a warning if that was long ago."""
    job = found.job
    if job.ended or job.start_time is None or found.cause is not None:
        return
    times = [datetime.datetime.fromisoformat(event.time) for event in story if event.time]
    quiet = (now - max([job.start_time, *times])).total_seconds()
    found.evidence.append(f"last sign of progress: {max(0.0, quiet):.0f} s ago")
    if quiet >= _STALL_SECONDS and times:
        found.summary = f"it runs, but has made no progress for {quiet:.0f} s; it may be stuck"
        found.next_steps.append(
            f"`runner jobs logs {job.id}` shows its last events; `runner jobs cancel {job.id}` ends it"
        )


def _tell_dropped(found: Explanation) -> None:
    found.dropped, found.dropped_total = dropped_examples(found.job)
    if found.dropped_total:
        found.evidence.append(f"dropped: {counted(found.dropped_total, 'example')}")


def _tell_grants(session: Session, found: Explanation) -> None:
    from runner.jobs.preflight.obstacles import preflight
    from runner.jobs.repeating.cloning import specification_of

    try:
        obstacles = [item for item in preflight(session, specification_of(session, found.job)) if item.fix]
    except RunnerError as error:
        found.evidence.append(f"the grants cannot be read: {error.message}")
        obstacles = []
    else:
        for item in obstacles:
            found.evidence.append(f"now: {item.message}")
        if not obstacles:
            found.evidence.append("now: the grants exist")
    found.next_steps += [item.fix for item in obstacles]
    denied = _DENIED.search(found.job.error_message)
    if denied and not obstacles:
        found.evidence.append(
            f"missing then: {denied['permission']} for {denied['principal']} on gs://{denied['bucket']}"
        )


def _tell_quota(session: Session, found: Explanation) -> None:
    running = tuning_jobs.list_jobs(session, filter='state="JOB_STATE_RUNNING"', limit=10)
    others = [job for job in running if job.id != found.job.id]
    found.evidence.append(f"quota: {QUOTA}; it counts the jobs of all locations")
    for job in others:
        found.evidence.append(
            f"running in {session.environment.location}: {job.id} ({job.display_name or job.base_model})"
        )
    for job in fleet.unended_elsewhere(session)[:10]:
        found.evidence.append(f"running elsewhere: {job.name} ({job.display_name or job.base_model})")
    if others:
        found.next_steps.append(f"`runner jobs wait {' '.join(job.id for job in others)}`")
    found.next_steps.append(f"request more: console, IAM & Admin, Quotas, {QUOTA!r}")


def _tell_capacity(session: Session, found: Explanation) -> None:
    here = session.environment.location
    others = [item.id for item in load_catalog().locations if item.id != here]
    found.evidence.append(f"location: {here}; open models are tuned in {', '.join(others)} too")
    if found.job.ended:
        found.next_steps.append(f"`runner jobs clone {found.job.id}` tries again in this location")
        found.next_steps += [f"`runner jobs clone {found.job.id} --to {others[0]}` with buckets there"]


def _tell_next(found: Explanation) -> None:
    job = found.job
    again = f"`runner jobs clone {job.id}`"
    steps = found.next_steps
    if found.cause == "data":
        steps.append(f"correct the file, then `runner jobs clone {job.id} --set training_dataset=FILE`")
    elif found.cause == "configuration":
        steps.append(f"`runner jobs clone {job.id} --set NAME=VALUE`; `runner models ls` lists what each model takes")
    elif found.cause == "permission" or (found.cause == "quota" and job.ended):
        steps.append(again)
    elif found.cause == "platform":
        steps += [again, f"if it fails again, tell Google: {job.name}, {job.end_time or job.create_time}"]
    elif found.cause == "cancelled":
        steps.append(again)
    elif found.cause is None and found.dropped_total:
        steps.append("shorten, split or correct them, and tune again")
    elif job.succeeded:
        steps.append(f"`runner checkpoints ls {job.id}`")
    elif not job.ended:
        steps.append(f"`runner jobs watch {job.id}`")
