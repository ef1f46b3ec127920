"""Decide what to do about each job, by comparing its manifest, its record and the existing jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.checkouts import Origin, origin_of
from runner.jobs.manifests import identity
from runner.jobs.manifests.differences import Difference, against_last_run, against_live
from runner.jobs.manifests.looking import View
from runner.jobs.manifests.queueing import next_attempt, outcome_of
from runner.jobs.manifests.reading import ManifestJob
from runner.jobs.manifests.records import Entry, Price, Run
from runner.jobs.outputs import ownership
from runner.wording import state_words

Action = Literal["create", "change", "retry", "adopt", "keep", "wait", "failed", "lost"]
BILLING = frozenset({"create", "change", "retry"})
"""Actions that create a job."""
_GOOD = frozenset({"JOB_STATE_SUCCEEDED", "JOB_STATE_PARTIALLY_SUCCEEDED"})


@dataclass(slots=True, kw_only=True)
class PlannedJob:
    """One job of the manifests, and what applying would do with it."""

    name: str
    action: Action
    reason: str
    source: ManifestJob = field(repr=False)
    run: Run
    """The run, as it would be queued."""
    entry: Entry | None
    """The record that was read."""
    job: TuningJob | None = None
    """The running job with this identity, or the job of the last run."""
    differences: list[Difference] = field(default_factory=list)
    """Differences from the last run."""
    drift: list[Difference] = field(default_factory=list)
    """Differences between the running job and the specification."""
    data: dict[str, Any] = field(default_factory=dict)
    price: Price = field(default_factory=Price)
    warnings: list[str] = field(default_factory=list)
    superseded: list[TuningJob] = field(default_factory=list)
    """Jobs of earlier runs of this name that are still running."""

    @property
    def last(self) -> Run | None:
        """Return the last run, None if there was none."""
        return self.entry.record.run if self.entry else None

    @property
    def stranger(self) -> str:
        """Return the manifest of the last run if it is in another repository, otherwise ""."""
        last, here = self.last, self.run.repository
        if last is None or not here or last.repository in ("", here):
            return ""
        return f"{last.file} in {last.repository}"

    @property
    def generation(self) -> int:
        """Return the generation of the record that was read; 0 if there is none."""
        return self.entry.generation if self.entry else 0

    @property
    def bills(self) -> bool:
        """Return whether this decision creates a job."""
        return self.action in BILLING

    @property
    def worst(self) -> float | None:
        """Return the maximum price, including every repetition that the manifest allows; None for an unknown price."""
        attempts = max(0, self.run.retries - self.run.attempt + 1) + 1
        return None if self.price.high is None else self.price.high * attempts

    @property
    def acts(self) -> bool:
        """Return whether applying changes anything."""
        return self.bills or self.action == "adopt"

    def decision(self) -> dict[str, Any]:
        """Return the values that are compared with a saved plan."""
        return {
            "name": self.name,
            "action": self.action,
            "identity": self.run.identity,
            "attempt": self.run.attempt,
            "generation": self.generation,
            "high": self.price.high if self.bills else None,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        price = self.price
        body: dict[str, Any] = {
            "name": self.name,
            "action": self.action,
            "reason": self.reason,
            "file": self.source.file,
            "line": self.source.tree.line,
            "sweep": self.source.sweep,
            "identity": self.run.identity,
            "attempt": self.run.attempt,
            "model": self.run.fields.get("base_model"),
            "mode": self.run.fields.get("mode"),
            "differences": [item.to_json() for item in self.differences],
            "drift": [item.to_json() for item in self.drift],
            "data": self.data,
            "usd": {"low": price.low, "expected": price.expected, "high": price.high},
            "billedTokens": price.tokens * price.epochs or None,
            "maxCost": self.source.max_cost,
            "job": None if self.job is None else {"id": self.job.id, "state": self.job.state},
            "superseded": [job.id for job in self.superseded],
            "warnings": self.warnings,
        }
        return {key: value for key, value in body.items() if value not in (None, [], {})}


@dataclass(slots=True, kw_only=True)
class Removed:
    """A running or waiting job that no manifest requests any longer."""

    name: str
    action: Literal["cancel", "orphan"]
    reason: str
    job: TuningJob | None = None
    entry: Entry | None = None

    def decision(self) -> dict[str, Any]:
        """Return the values that are compared with a saved plan."""
        return {"name": self.name, "action": self.action, "job": self.job.id if self.job else None}

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        job = None if self.job is None else {"id": self.job.id, "state": self.job.state}
        body = {"name": self.name, "action": self.action, "reason": self.reason, "job": job}
        return {key: value for key, value in body.items() if value is not None}


def decide(source: ManifestJob, run: Run, view: View) -> PlannedJob:
    """Return the decision for one job, without its price."""
    entry = view.entries.get(source.name)
    same = view.by_identity.get((source.name, run.identity), [])
    superseded = [
        job
        for (name, other), jobs in view.by_identity.items()
        if name == source.name and other != run.identity
        for job in jobs
        if _goes_on(job)
    ]
    planned = PlannedJob(
        name=source.name,
        action="create",
        reason="new",
        source=source,
        run=run,
        entry=entry,
        superseded=superseded,
    )
    if entry is None or entry.record.run.identity != run.identity:
        _other_identity(planned, entry, same, view)
    else:
        _same_identity(planned, entry, same, view)
    if planned.stranger:
        planned.superseded = []  # the job of a manifest that was not removed
        planned.warnings.append(f"{planned.stranger} has this name too: its job is this one, and each run replaces it")
    if planned.job is not None and planned.last is not None and planned.last.job == planned.job.name:
        planned.drift = against_live(planned.last, planned.job)
    return planned


def removed(view: View, planned: list[PlannedJob], paths: list[Path], *, prune: bool) -> list[Removed]:
    """Return running or waiting jobs without a manifest: of files below `paths`, and earlier runs of jobs."""
    action: Literal["cancel", "orphan"] = "cancel" if prune else "orphan"
    names = {job.name for job in planned}
    found = [
        Removed(name=job.name, action=action, reason="superseded: its manifest has changed", job=old)
        for job in planned
        for old in job.superseded
    ]
    places = [origin_of(path) for path in paths]
    for name, entry in sorted(view.entries.items()):
        run = entry.record.run
        if name in names or not any(place.holds(Origin(run.repository, run.file)) for place in places):
            continue
        job = view.by_name.get(run.job) or next(iter(view.found(entry.record)), None)
        alive = job is not None and _goes_on(job)
        if alive or (job is None and run.phase in ("queued", "claimed")):
            found.append(
                Removed(name=name, action=action, reason=f"{run.file} no longer asks for it", job=job, entry=entry)
            )
    return found


def _other_identity(planned: PlannedJob, entry: Entry | None, same: list[TuningJob], view: View) -> None:
    last = planned.last
    planned.differences = against_last_run(last, planned.run.inputs) if last else []
    alive = next((job for job in same if job.alive), None)
    if entry is not None and entry.record.run.phase == "claimed" and not view.found(entry.record):
        age = view.claim_age(entry)
        if age < ownership.LEASE_SECONDS:
            planned.action = "wait"
            planned.reason = f"its earlier form is being submitted; plan again in {ownership.LEASE_SECONDS - age:.0f} s"
            return
    if alive is not None:
        planned.action, planned.job = "adopt", alive
        planned.reason = f"job {alive.id} is exactly this, {_state(alive)}"
        planned.run = planned.run.model_copy(update={"attempt": identity.attempt_of(alive)})
        return
    if same:
        planned.run = planned.run.model_copy(update={"attempt": identity.attempt_of(same[0]) + 1})
    if last is not None:
        planned.action = "change"
        what = ", ".join(item.path for item in planned.differences[:4])
        more = len(planned.differences) - 4
        planned.reason = f"{what} changed" + (f", and {more} more" if more > 0 else "")


def _same_identity(planned: PlannedJob, entry: Entry, same: list[TuningJob], view: View) -> None:
    run = entry.record.run
    found = view.found(entry.record)
    planned.run = planned.run.model_copy(update={"attempt": run.attempt})
    job = view.by_name.get(run.job) or (found[0] if found else None)
    planned.job = job
    if job is None:
        _without_job(planned, run)
    elif job.alive:
        planned.action, planned.reason = "keep", f"job {job.id} {_state(job)}"
    else:
        outcome = run.outcome or outcome_of(job, run)
        # The current manifest counts, not the one from the time when the job was queued.
        rules = {"retries": planned.run.retries, "retry_on": planned.run.retry_on, "outcome": outcome}
        again = next_attempt(entry.record.changed(**rules), view.now)
        message = f": {job.error_message.rstrip('.')}" if job.error_message else ""
        if again is not None:
            planned.action, planned.run = "retry", planned.run.model_copy(update={"attempt": again.run.attempt})
            planned.reason = f"attempt {run.attempt} {_state(job)}{message}"
        else:
            planned.action = "failed"
            why = f"`runner jobs why {job.id}`"
            planned.reason = f"job {job.id} {_state(job)}{message}; {why}; raise metadata.revision to run it again"


def _without_job(planned: PlannedJob, run: Run) -> None:
    if run.phase == "refused":
        planned.action, planned.reason = "retry", f"the service refused it, unbilled: {run.problem}"
    elif run.phase == "withdrawn":
        planned.action, planned.reason = "create", "it was withdrawn before it was submitted"
    elif run.phase == "claimed":
        planned.action, planned.reason = "wait", "it is being submitted"
    elif run.phase == "queued":
        planned.action, planned.reason = "wait", f"queued since {run.queued[:19]}Z"
    else:
        planned.action = "lost"
        planned.reason = (
            f"job {run.job.rsplit('/', 1)[-1]} is no longer listed; raise metadata.revision to run it again"
        )
        if run.outcome is not None and run.outcome.state in _GOOD:
            planned.reason = (
                f"job {run.job.rsplit('/', 1)[-1]} {state_words(run.outcome.state)}, and is no longer listed"
            )


def _goes_on(job: TuningJob) -> bool:
    """Return whether a job is running and nobody has requested its end."""
    return not job.ended and job.state != "JOB_STATE_CANCELLING"


def _state(job: TuningJob) -> str:
    text = state_words(job.state)
    return (
        f"is {text}"
        if not job.ended
        else {"failed": "has failed", "cancelled": "was cancelled"}.get(text, f"has {text}")
    )
