"""What a queue reads: the records, and the jobs of every location where they may run."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from runner.errors import GoogleApiError, UnreachableError
from runner.gcp import fleet
from runner.gcp.session import Session, place_of
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.manifests import identity
from runner.jobs.manifests.places import Place
from runner.jobs.manifests.records import Entry, Record, Run, StateLedger
from runner.jobs.outputs import ownership

_REMEMBERED = datetime.timedelta(days=7)
"""How long usage counts for the fair share."""
_AT_ONCE = 32
"""Number of job lists that are requested at the same time."""


@dataclass(slots=True)
class View:
    """Records and jobs. The records are read first, so that jobs that a record reports as sent are in the list."""

    entries: dict[str, Entry]
    now: datetime.datetime
    jobs: list[TuningJob]
    """Jobs of all locations that were read."""
    elsewhere: int = 0
    """Jobs of other locations that have not ended; they use slots of the same quota."""
    down: dict[str, str] = field(default_factory=dict)
    """Locations that could not be read, with the reasons. Claims there are not changed."""
    running: Counter[str] = field(default_factory=Counter)
    """Jobs that have not ended, including those of other locations, by project."""
    by_name: dict[str, TuningJob] = field(default_factory=dict)
    by_identity: dict[tuple[str, str], list[TuningJob]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_name = {job.name: job for job in self.jobs}
        self.by_identity = identity.jobs_by_identity(self.jobs)

    def found(self, record: Record) -> list[TuningJob]:
        """Return the jobs of the current attempt in a record, by their labels."""
        return identity.of_attempt(self.by_identity, record)

    def claim_age(self, entry: Entry) -> float:
        """Return the seconds since a record was written, by the service's clock."""
        return (self.now - entry.updated).total_seconds()

    def active(self) -> int:
        """Return the number of used slots: jobs that have not ended, and create requests in progress."""
        running = sum(not job.ended for job in self.jobs)
        return running + self.elsewhere + sum(map(self._on_its_way, self.entries.values()))

    def taken(self) -> Counter[str]:
        """Return the number of used slots by project."""
        found = Counter(self.running)
        for entry in self.entries.values():
            run = entry.record.run
            if run.places and self._on_its_way(entry):
                found[place_of(run.places[-1])[0]] += 1
        return found

    def used(self, label: str) -> Counter[str]:
        """Return how long jobs held slots during the last week in seconds, by the value of a label."""
        since = self.now - _REMEMBERED
        found = Counter[str]()
        for job in self.jobs:
            begun, ended = job.create_time, job.end_time or self.now
            if begun is not None and ended > since:
                found[job.labels.get(label, "")] += round((ended - max(begun, since)).total_seconds())
        return found

    def _on_its_way(self, entry: Entry) -> bool:
        return (
            entry.record.run.phase == "claimed"
            and not self.found(entry.record)
            and self.claim_age(entry) < ownership.LEASE_SECONDS
        )

    def unanswered(self, run: Run) -> str:
        """Return an unreadable location that may have a job of a run; "" if there is none."""
        return next((place for place in run.places if place in self.down), "") if self.down else ""

    def may_be_sent(self, entry: Entry) -> bool:
        """Return whether a job waits, including after its claim expired without a job."""
        run = entry.record.run
        expired = run.phase == "claimed" and self.claim_age(entry) >= ownership.LEASE_SECONDS
        return (run.phase == "queued" or expired) and not self.unanswered(run) and not self.found(entry.record)


def look(session: Session, ledger: StateLedger, *, everywhere: bool = False, places: Sequence[Place] = ()) -> View:
    """Read records, then the jobs of the session's location, of the given ones, and of those that records name.

    Args:
        session: the location of the records.
        ledger: the ledger of the records.
        everywhere: also count the jobs of other locations.
        places: additional locations of jobs; those that cannot be read are ignored.

    Raises:
        UnreachableError, GoogleApiError: the session's own location cannot be read, and no others are given.
    """
    snapshot = ledger.load()
    home = session.environment.parent
    named = [place for entry in snapshot.entries.values() for place in entry.record.run.places]
    asked = list(dict.fromkeys([home, *(place.parent for place in places), *named]))
    down: dict[str, str] = {}

    def jobs_at(parent: str) -> list[TuningJob]:
        try:
            return fleet.all_jobs(session.of(parent))
        except (GoogleApiError, UnreachableError) as error:
            if parent == home and not places:
                raise
            down[parent] = error.message
            return []

    with ThreadPoolExecutor(min(_AT_ONCE, 2 * len(asked))) as pool:
        projects = {place_of(parent)[0]: parent for parent in reversed(asked)}
        elsewhere = {
            project: pool.submit(fleet.unended_elsewhere, session.of(parent), asked)
            for project, parent in projects.items()
            if everywhere
        }
        listed = dict(zip(asked, pool.map(jobs_at, asked), strict=True))
        others = {project: len(counted.result()) for project, counted in elsewhere.items()}
    running = Counter(others)
    for parent, found in listed.items():  # names of jobs can contain the project's number
        running[place_of(parent)[0]] += sum(not job.ended for job in found)
    jobs = [job for found in listed.values() for job in found]
    here = others.get(session.environment.project, 0)
    return View(dict(snapshot.entries), snapshot.now, jobs, here, down, running)
