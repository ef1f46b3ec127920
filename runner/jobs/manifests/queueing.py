"""Submit queued jobs when slots of the quota become free, in a fixed order, for any number of concurrent runners."""

from __future__ import annotations

import datetime
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from runner import times
from runner.errors import GoogleApiError, UnreachableError
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.manifests.allowance import Allowance
from runner.jobs.manifests.claiming import Step, submit
from runner.jobs.manifests.looking import View, look
from runner.jobs.manifests.places import Place, Slots
from runner.jobs.manifests.records import Entry, Outcome, Record, Run, StateLedger
from runner.jobs.outputs import ownership
from runner.prices import amount
from runner.status_codes import NO_CAPACITY, SERVICE_FAILURES


def advance(
    session: Session,
    *,
    limit: int,
    fair_by: str = "",
    only: Callable[[str], bool] | None = None,
    places: Sequence[Place] = (),
    budget: float | None = None,
    progress: Callable[[Step], None] | None = None,
) -> list[Step]:
    """Update every record, and submit queued jobs to the free slots.

    Args:
        session: the project and location.
        limit: number of concurrent jobs of the project.
        fair_by: label whose values share slots, see `ordered`.
        only: ignore other names.
        places: projects and locations for submissions instead of the session's; each project has its own limit.
        budget: dollars for all jobs of all records together; a job that exceeds it waits.
        progress: called with each step as it happens.

    Raises:
        UnreachableError, GoogleApiError: records or jobs cannot be read, or the service is unreachable; nothing is
        lost.
    """
    steps: list[Step] = []

    def tell(step: Step) -> None:
        steps.append(step)
        if progress:
            progress(step)

    environment = session.environment
    allowance = Allowance(session, budget) if budget is not None else None
    ledger = StateLedger(session)
    view = look(session, ledger, everywhere=True, places=places)
    wanted = [name for name in view.entries if only is None or only(name)]
    stuck = set()
    for name in wanted:
        for step in settle(ledger, view, name):
            stuck |= {name} if step.what in ("uncertain", "elsewhere") else set()
            tell(step)
    slots = Slots(view, places or [Place(environment.project, environment.location, limit)])
    waiting = [name for name in ordered(view, wanted, fair_by) if name not in stuck]
    _Submitting(session, ledger, view, slots, allowance, tell).go(waiting)
    return steps


_BATCH = 50
"""Number of jobs for which money is reserved at once before they are submitted, so that the document stays small."""


@dataclass(slots=True)
class _Submitting:
    """The second half of one pass: free slots are given to waiting jobs."""

    session: Session
    ledger: StateLedger
    view: View
    slots: Slots
    allowance: Allowance | None
    tell: Callable[[Step], None]

    def go(self, waiting: list[str]) -> None:
        """Submit as many jobs as there are free slots and money for, in this order."""
        ready: list[tuple[str, str | None]] = []
        blocked: list[Step] = []
        for name in waiting:
            possible, weights, why = _cause(self.view, self.view.entries[name].record.run)
            if possible:
                ready.append((name, weights))
            else:
                blocked.append(Step(name=name, what="blocked", message=why))
        while ready:
            free = self.slots.free()
            if free <= 0:
                break
            size = min(free, _BATCH)
            batch, ready = ready[:size], ready[size:]
            granted = self._granted(batch)
            if granted is None:
                ready = batch + ready
                break
            for name, weights in batch:
                if name in granted:
                    self._submit(name, weights)
        for step in blocked:
            self.tell(step)
        for name, _ in ready:
            self.tell(Step(name=name, what="waiting", message=self.slots.full()))

    def _granted(self, batch: list[tuple[str, str | None]]) -> set[str] | None:
        """Return the names for which there is money; None if another runner is submitting."""
        if self.allowance is None:
            return {name for name, _ in batch}
        entries = self.view.entries
        found = self.allowance.reserve(entries, [(name, entries[name].record.run) for name, _ in batch])
        if found is None:
            return None
        granted, committed = found
        for name, _ in batch:
            if name in granted:
                continue
            price = entries[name].record.run.price.high
            why = f"may cost {amount(price)}" if price is not None else "has no published price"
            left = f"{amount(committed)} of the budget of {amount(self.allowance.limit)} are committed"
            self.tell(Step(name=name, what="blocked", message=f"it {why}, and {left}"))
        return granted

    def _submit(self, name: str, weights: str | None) -> None:
        place = self.slots.take()
        if place is None:
            self.tell(Step(name=name, what="waiting", message=self.slots.full()))
            return
        entry = self.view.entries[name]
        at = self.session.at(place.project, place.location)
        try:
            step = submit(at, self.ledger, entry, weights)
        except (UnreachableError, GoogleApiError) as error:
            if len(self.slots.places) == 1:
                raise
            step = Step(name=name, what="waiting", message=f"{place.parent}: {error.message}")
        self.tell(step)
        if step.what == "waiting":
            self.slots.close(place)  # the service reports an exhausted quota, regardless of this count
        elif step.what not in ("created", "adopted", "uncertain", "elsewhere"):
            self.slots.give_back(place)


def ordered(view: View, names: Iterable[str], fair_by: str = "") -> list[str]:
    """Return the queued jobs in the order in which they are submitted.

    The order is by priority. With `fair_by`, the label value with the fewest active jobs is next, then the one whose
    jobs held slots for the shortest time during the last week. Then the job that has waited longest is next.
    """
    active = Counter(job.labels.get(fair_by, "") for job in view.jobs if not job.ended) if fair_by else Counter[str]()
    if fair_by and view.down:
        missing = (entry.record.run for entry in view.entries.values() if view.unanswered(entry.record.run))
        active.update(run.labels.get(fair_by, "") for run in missing if run.phase == "submitted" and not run.outcome)
    lines: dict[str, list[tuple[int, str, str]]] = {}
    for name in names:
        entry = view.entries[name]
        if view.may_be_sent(entry):
            run = entry.record.run
            value = run.labels.get(fair_by, "") if fair_by else ""
            lines.setdefault(value, []).append((-run.priority, run.queued, name))
    for line in lines.values():
        line.sort(reverse=True)  # the first one is removed from the end

    used = view.used(fair_by) if fair_by else Counter[str]()

    def first(value: str) -> tuple[int, int, int, str, str, str]:
        priority, queued, name = lines[value][-1]
        return priority, active[value], used[value], queued, name, value

    heap = [first(value) for value in lines]
    heapq.heapify(heap)
    order: list[str] = []
    while heap:
        *_, name, value = heapq.heappop(heap)
        order.append(name)
        lines[value].pop()
        if fair_by:
            active[value] += 1
        if lines[value]:
            heapq.heappush(heap, first(value))
    return order


def unfinished(view: View, blocked: Iterable[str] = ()) -> int:
    """Return the number of jobs in records that wait or run, except those that wait for a failed job."""
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
        # The state of jobs in a location that cannot be read is unknown.
        alive |= job is None and run.phase == "submitted" and run.outcome is None and bool(view.unanswered(run))
        unsettled = job is not None and job.ended and run.phase == "submitted" and run.outcome is None
        count += alive or unsettled or (run.phase in ("queued", "claimed") and name not in hopeless)
    return count


def settle(ledger: StateLedger, view: View, name: str) -> list[Step]:
    """Update one record from the existing jobs; if another writer has changed the record, leave it unchanged."""
    entry = view.entries[name]
    run = entry.record.run
    found = view.found(entry.record)
    if len(found) > 1:
        ids = ", ".join(job.id for job in found)
        remedy = "cancel all but one, or choose one by `runner repair`"
        return [Step(name=name, what="uncertain", message=f"{len(found)} jobs carry its identity: {ids}; {remedy}")]
    place = view.unanswered(run)
    if run.phase in ("queued", "claimed") and place:
        message = f"{place} does not answer, where its job may be: {view.down[place]}"
        return [Step(name=name, what="elsewhere", message=message)]
    if run.phase in ("queued", "claimed", "refused") and found:
        changed = entry.record.changed(phase="submitted", job=found[0].name, owner="", problem="")
        if not _write(ledger, view, entry, changed):
            return [Step(name=name, what="elsewhere", message="another runner is working on it")]
        return [Step(name=name, what="adopted", job=found[0].name), *settle(ledger, view, name)]
    if run.phase == "claimed" and view.claim_age(entry) < ownership.LEASE_SECONDS:
        seconds = ownership.LEASE_SECONDS - view.claim_age(entry)
        message = f"another runner is submitting it; if that runner has stopped, this one takes over in {seconds:.0f} s"
        return [Step(name=name, what="elsewhere", message=message)]
    job = view.by_name.get(run.job)
    if run.phase != "submitted" or run.outcome is not None or job is None or not job.ended:
        return []
    outcome = outcome_of(job, run)
    ended = entry.record.changed(outcome=outcome)
    again = next_attempt(ended, view.now)
    if not _write(ledger, view, entry, again or ended):
        return []
    steps = [Step(name=name, what="ended", job=job.name, message=job.state)]
    if again is not None:
        steps.append(Step(name=name, what="requeued", message=f"attempt {again.run.attempt}: {outcome.message}"))
    return steps


def outcome_of(job: TuningJob, run: Run) -> Outcome:
    """Return the result of a job and its billed price, if the service returns them."""
    text = job.data_stats.get("totalBillableTokenCount")
    tokens = int(text) if isinstance(text, int) or (isinstance(text, str) and text.isdigit()) else None
    price = run.price.usd_per_million_tokens
    return Outcome(
        state=job.state,
        code=job.error_code,
        message=job.error_message[:300],
        ended=times.exact(job.end_time) if job.end_time else "",
        billed_tokens=tokens,
        billed_usd=None if tokens is None or price is None else tokens * run.price.epochs * price / 1e6,
        counted_by_stand_in=job.counted_by_stand_in,
    )


def next_attempt(record: Record, now: datetime.datetime) -> Record | None:
    """Return the record with the next attempt queued; None if the manifest's retry section does not allow one.

    Args:
        record: the record of an ended run.
        now: when the attempt joins the queue, by the service's clock.
    """
    run = record.run
    outcome = run.outcome
    if outcome is None or run.attempt > run.retries:
        return None
    platform = outcome.code in SERVICE_FAILURES or outcome.code == NO_CAPACITY or run.retry_on == "any"
    if not (outcome.state == "JOB_STATE_EXPIRED" or (outcome.state == "JOB_STATE_FAILED" and platform)):
        return None
    values = {"attempt": run.attempt + 1, "phase": "queued", "job": "", "outcome": None, "places": ()}
    return record.replaced(run.model_copy(update={**values, "queued": times.exact(now)}))


def _cause(view: View, run: Run) -> tuple[bool, str | None, str]:
    """Return whether the weights that a job continues from exist: (exists, weights, reason why not)."""
    if not run.after:
        return True, None, ""
    name, _, wanted = run.after.partition("@")
    entry = view.entries.get(name)
    if entry is None or entry.record.run.identity != wanted:
        return False, None, f"{name} has changed since this job was planned; apply the manifests again"
    cause = entry.record.run
    job = view.by_name.get(cause.job)
    if job is not None and job.succeeded:
        return True, job.final_checkpoint_uri, ""
    if job is not None and job.ended:
        return False, None, f"{name} ended as {job.state}"
    return False, None, f"it continues from {name}, which has not ended"


def _write(ledger: StateLedger, view: View, entry: Entry, record: Record) -> bool:
    written = ledger.write(record, entry.generation)
    if written is not None:
        view.entries[record.name] = written
    return written is not None
