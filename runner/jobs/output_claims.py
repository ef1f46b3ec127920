"""Who may create the job of a specification: whoever has written the run manifest over the generation that it read.

`runner.jobs.ledger` keeps the runners of one machine apart. Runners of different machines meet in the job's output
folder: its run manifest is written with a generation precondition before the create is sent, so one of them writes it,
and the others find out whose job it becomes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import GoogleApiError, RunnerError
from runner.gcp import records
from runner.gcp.session import Session
from runner.gcp.storage import parse_gs_uri
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs import reproduction

if TYPE_CHECKING:
    from runner.jobs.submission import PreparedJob

SEND_WITHIN_SECONDS = 60.0
"""A claim older than this sends no create any more."""
LEASE_SECONDS = 240.0
"""Age at which the claim of another machine is taken over if no job has come of it: the time to send, that of the
slowest request, and a margin for a list that lags behind."""
LOOKUP_SECONDS = 10.0
"""How long the job of another machine is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputClaim:
    """A claim that was won, or that another runner holds."""

    won: bool
    job: TuningJob | None = None
    """What came of the other runner's claim."""
    left_seconds: float = 0.0
    """Until the other runner's claim may be taken over."""
    generation: int = 0
    """Of the manifest that was written; 0 where none could be."""
    since: float = 0.0
    problem: str = ""
    """Why the manifest could not be written; the claim then holds for this machine only."""

    @property
    def expired(self) -> bool:
        """Tell whether its create may no longer be sent: this machine slept, perhaps."""
        return _clock() - self.since > SEND_WITHIN_SECONDS


def take(
    session: Session,
    prepared: PreparedJob,
    details: Mapping[str, Any],
    *,
    owner: str,
    dead: Collection[str],
    jobs: Callable[[], list[TuningJob]],
) -> OutputClaim:
    """Claim the creation of a job, or find the job that another runner creates meanwhile.

    Args:
        session: where.
        prepared: the job.
        details: what the manifest shall say besides.
        owner: a name that no other claim has.
        dead: owners whose processes are known to have ended without a job.
        jobs: looks for the jobs of this fingerprint.

    Raises:
        GoogleApiError, UnreachableError: it is not known who holds the claim; nothing may be sent.
    """
    bucket, name = parse_gs_uri(reproduction.manifest_uri(prepared.spec.output_uri or ""))
    body = {**reproduction.manifest_of(prepared, session.environment.parent, details), "claim": owner}
    since, generation = _clock(), 0
    while True:
        try:
            written = records.write_record(session, bucket, name, body, generation=generation)
        except GoogleApiError as error:
            if error.http >= 500 or error.http in (408, 429):
                raise
            return OutputClaim(won=True, since=since, problem=error.message)
        if written is not None:
            return OutputClaim(won=True, since=since, generation=written.generation)
        held = _held(session, bucket, name, prepared.fingerprint, dead, jobs)
        if isinstance(held, OutputClaim):
            return held
        since, generation = _clock(), held


def _held(
    session: Session,
    bucket: str,
    name: str,
    fingerprint: str,
    dead: Collection[str],
    jobs: Callable[[], list[TuningJob]],
) -> OutputClaim | int:
    """Return the generation that may be written over, or whose claim it is after all."""
    deadline, pause = time.monotonic() + LOOKUP_SECONDS, 0.2
    while True:
        found, now = records.list_records(session, bucket, name)
        there = next((item for item in found if item.name == name), None)
        if there is None:
            return 0
        if there.body.get("fingerprint") != fingerprint or there.body.get("claim") in dead:
            return there.generation
        # After the record: what came of this claim is in the list, or its owner may still send it.
        known = jobs()
        alive = [job for job in known if job.succeeded or not job.ended]
        if alive:
            return OutputClaim(won=False, job=alive[0])
        spent = any(job.create_time is not None and job.create_time >= there.updated for job in known)
        left = LEASE_SECONDS - (now - there.updated).total_seconds()
        if spent or left <= 0:
            return there.generation
        if time.monotonic() + pause > deadline:
            return OutputClaim(won=False, left_seconds=left)
        time.sleep(pause)
        pause = min(2.0, pause * 2)


def release(session: Session, prepared: PreparedJob, claim: OutputClaim) -> None:
    """Give back a claim whose create was not sent or was refused; one that cannot be given back runs out."""
    if claim.generation:
        bucket, name = parse_gs_uri(reproduction.manifest_uri(prepared.spec.output_uri or ""))
        with contextlib.suppress(RunnerError):
            records.delete_record(session, bucket, name, generation=claim.generation)


def _clock() -> float:
    """Return seconds that pass while this machine sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.time()
