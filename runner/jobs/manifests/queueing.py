"""Submit what is queued as slots of the quota come free, in one order, whoever asks and however often."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from runner.gcp import fleet
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.manifests import identity
from runner.jobs.manifests.claiming import Step, submit
from runner.jobs.manifests.records import Entry, Outcome, Record, Run, StateLedger
from runner.jobs.outputs import ownership

_PLATFORM_CODES = frozenset({4, 8, 10, 13, 14})
"""google.rpc.Code of failures that are not the job's own: DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, ABORTED, INTERNAL,
UNAVAILABLE."""


@dataclass(slots=True)
class View:
    """Records and jobs as they were read, the records first: what a record says was sent is in the list of jobs."""

    entries: dict[str, Entry]
    now: datetime.datetime
    jobs: list[TuningJob]
    elsewhere: int = 0
    """Jobs of other locations that have not ended; they take slots of the same quota."""
    by_name: dict[str, TuningJob] = field(default_factory=dict)
    by_identity: dict[tuple[str, str], list[TuningJob]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_name = {job.name: job for job in self.jobs}
        self.by_identity = identity.jobs_by_identity(self.jobs)

    def found(self, record: Record) -> list[TuningJob]:
        """Return the jobs of a record's present attempt, by their labels."""
        return identity.of_attempt(self.by_identity, record)

    def claim_age(self, entry: Entry) -> float:
        """Return seconds since a record was written, by the service's clock."""
        return (self.now - entry.updated).total_seconds()

    @property
    def timestamp(self) -> str:
        """Return the service's time as RFC 3339."""
        return self.now.isoformat().replace("+00:00", "Z")

    def active(self) -> int:
        """Return how many slots are taken: jobs that have not ended, and creates that are on their way."""
        running = sum(not job.ended for job in self.jobs)
        return (
            running
            + self.elsewhere
            + sum(
                entry.record.run.phase == "claimed"
                and not self.found(entry.record)
                and self.claim_age(entry) < ownership.LEASE_SECONDS
                for entry in self.entries.values()
            )
        )


def look(session: Session, ledger: StateLedger, *, everywhere: bool = False) -> View:
    """Read records, then jobs; with `everywhere` those of other locations are counted."""
    snapshot = ledger.load()
    with ThreadPoolExecutor(1) as pool:
        elsewhere = pool.submit(fleet.unended_elsewhere, session) if everywhere else None
        jobs = fleet.all_jobs(session)
        others = len(elsewhere.result()) if elsewhere else 0
    return View(dict(snapshot.entries), snapshot.now, jobs, others)


def advance(
    session: Session,
    *,
    limit: int,
    fair_by: str = "",
    only: Callable[[str], bool] | None = None,
    progress: Callable[[Step], None] | None = None,
) -> list[Step]:
    """Bring every record up to date and submit as many queued jobs as there are free slots.

    Args:
        session: where.
        limit: jobs of the project that may run at once.
        fair_by: label whose values share slots: the one with the fewest active jobs goes first.
        only: leaves other names alone.
        progress: called with each step as it happens.

    Raises:
        UnreachableError, GoogleApiError: records or jobs cannot be read, or the service is gone; nothing is lost.
    """
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if progress:
            progress(step)

    ledger = StateLedger(session)
    view = look(session, ledger, everywhere=True)
    wanted = [name for name in view.entries if only is None or only(name)]
    stuck = set()
    for name in wanted:
        for step in settle(ledger, view, name):
            stuck |= {name} if step.what in ("uncertain", "elsewhere") else set()
            tell(step)
    free = limit - view.active()
    for name in ordered(view, wanted, fair_by):
        if name in stuck:
            continue
        ready, weights, why = _cause(view, view.entries[name].record.run)
        if not ready:
            tell(Step(name=name, what="blocked", message=why))
        elif free <= 0:
            tell(Step(name=name, what="waiting", message=f"all {limit} slots are taken"))
        else:
            step = submit(session, ledger, view.entries[name], weights)
            tell(step)
            free -= step.what in ("created", "adopted", "uncertain", "elsewhere")
            if step.what == "waiting":
                free = 0  # the service says that the quota is used up, whatever was counted here
    return steps


def ordered(view: View, names: Iterable[str], fair_by: str = "") -> list[str]:
    """Return the queued jobs in the order in which they are submitted.

    Priority first; then, with `fair_by`, whose label value has the fewest active jobs; then who waited longest.
    """
    active = Counter(job.labels.get(fair_by, "") for job in view.jobs if not job.ended)
    waiting = {name: view.entries[name].record.run for name in names if _may_be_sent(view, view.entries[name])}
    order: list[str] = []
    while waiting:

        def rank(item: tuple[str, Run]) -> tuple[int, int, str, str]:
            name, run = item
            return -run.priority, active[run.labels.get(fair_by, "")] if fair_by else 0, run.queued, name

        name, run = min(waiting.items(), key=rank)
        order.append(name)
        active[run.labels.get(fair_by, "")] += 1
        del waiting[name]
    return order


def unfinished(view: View, blocked: Iterable[str] = ()) -> int:
    """Return how many jobs of records wait or run; those that wait for a job that has failed are not counted."""
    hopeless = set()
    for name in blocked:
        cause = view.entries.get(view.entries[name].record.run.after.partition("@")[0])
        job = view.by_name.get(cause.record.run.job) if cause else None
        waits = cause is not None and cause.record.run.phase in ("queued", "claimed")
        if not waits and (job is None or job.ended):
            hopeless.add(name)
    count = 0
    for name, entry in view.entries.items():
        run = entry.record.run
        job = view.by_name.get(run.job)
        alive = job is not None and not job.ended
        unsettled = job is not None and job.ended and run.phase == "submitted" and run.outcome is None
        count += alive or unsettled or (run.phase in ("queued", "claimed") and name not in hopeless)
    return count


def settle(ledger: StateLedger, view: View, name: str) -> list[Step]:
    """Bring one record up to date with the jobs that exist; another writer's change is left to that writer."""
    entry = view.entries[name]
    run = entry.record.run
    found = view.found(entry.record)
    if len(found) > 1:
        ids = ", ".join(job.id for job in found)
        mend = "cancel all but one, or choose one by `runner repair`"
        return [Step(name=name, what="uncertain", message=f"{len(found)} jobs carry its identity: {ids}; {mend}")]
    if run.phase in ("queued", "claimed", "refused") and found:
        changed = entry.record.changed(phase="submitted", job=found[0].name, owner="", problem="")
        if not _write(ledger, view, entry, changed):
            return [Step(name=name, what="elsewhere", message="another runner is at work on it")]
        return [Step(name=name, what="adopted", job=found[0].name), *settle(ledger, view, name)]
    if run.phase == "claimed" and view.claim_age(entry) < ownership.LEASE_SECONDS:
        seconds = ownership.LEASE_SECONDS - view.claim_age(entry)
        message = f"another runner is submitting it; if that one died, it is taken over in {seconds:.0f} s"
        return [Step(name=name, what="elsewhere", message=message)]
    job = view.by_name.get(run.job)
    if run.phase != "submitted" or run.outcome is not None or job is None or not job.ended:
        return []
    outcome = outcome_of(job, run)
    ended = entry.record.changed(outcome=outcome)
    again = next_attempt(ended, view.timestamp)
    if not _write(ledger, view, entry, again or ended):
        return []
    steps = [Step(name=name, what="ended", job=job.name, message=job.state)]
    if again is not None:
        steps.append(Step(name=name, what="requeued", message=f"attempt {again.run.attempt}: {outcome.message}"))
    return steps


def outcome_of(job: TuningJob, run: Run) -> Outcome:
    """Return how a job ended and what it was billed, as far as the service says."""
    text = job.data_stats.get("totalBillableTokenCount")
    tokens = int(text) if isinstance(text, int) or (isinstance(text, str) and text.isdigit()) else None
    price = run.price.usd_per_million_tokens
    return Outcome(
        state=job.state,
        code=job.error_code,
        message=job.error_message[:300],
        ended=job.end_time.isoformat().replace("+00:00", "Z") if job.end_time else "",
        billed_tokens=tokens,
        billed_usd=None if tokens is None or price is None else tokens * run.price.epochs * price / 1e6,
        counted_by_stand_in=job.counted_by_stand_in,
    )


def next_attempt(record: Record, now: str) -> Record | None:
    """Return the record with the next attempt queued, None where the manifest's retry section allows none."""
    run = record.run
    outcome = run.outcome
    if outcome is None or run.attempt > run.retries:
        return None
    platform = outcome.state == "JOB_STATE_EXPIRED" or (
        outcome.state == "JOB_STATE_FAILED" and outcome.code in _PLATFORM_CODES
    )
    if not (platform or (run.retry_on == "any" and outcome.state == "JOB_STATE_FAILED")):
        return None
    values = {"attempt": run.attempt + 1, "phase": "queued", "job": "", "outcome": None, "queued": now}
    return record.replaced(run.model_copy(update=values))


def _may_be_sent(view: View, entry: Entry) -> bool:
    run = entry.record.run
    expired = run.phase == "claimed" and view.claim_age(entry) >= ownership.LEASE_SECONDS
    return (run.phase == "queued" or expired) and not view.found(entry.record)


def _cause(view: View, run: Run) -> tuple[bool, str | None, str]:
    """Tell whether what a job tunes on from is there: (yes, its weights, why not)."""
    if not run.after:
        return True, None, ""
    name, _, wanted = run.after.partition("@")
    entry = view.entries.get(name)
    if entry is None or entry.record.run.identity != wanted:
        return False, None, f"{name} is not as it was when this job was planned; apply the manifests again"
    cause = entry.record.run
    job = view.by_name.get(cause.job)
    if job is not None and job.succeeded:
        return True, job.final_checkpoint_uri, ""
    if job is not None and job.ended:
        return False, None, f"{name} ended as {job.state}"
    return False, None, f"it tunes on from {name}, which has not ended"


def _write(ledger: StateLedger, view: View, entry: Entry, record: Record) -> bool:
    written = ledger.write(record, entry.generation)
    if written is not None:
        view.entries[record.name] = written
    return written is not None
