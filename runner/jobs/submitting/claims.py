"""Who may create the job of a specification: whoever has written the run manifest over the generation that it read.

The run manifest in the output folder is the one claim of every submission, from a command line, a queue or a library.
It is written with a generation precondition before the create is sent, so one runner writes it, and the others find
out whose job it becomes. If the claim cannot be written, nothing is sent. How old a claim is says the
service that stores it.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from runner.errors import GoogleApiError, NotFoundError, PermissionDeniedError, RunnerError
from runner.gcp import records
from runner.gcp.records import StoredRecord
from runner.gcp.service_clock import elapsed
from runner.gcp.session import Session
from runner.gcp.storage import parse_gs_uri
from runner.jobs.outputs import ownership
from runner.jobs.outputs.ownership import Wanted
from runner.jobs.outputs.run_manifest import manifest_uri
from runner.waiting import looks

SEND_WITHIN_SECONDS = 60.0
"""A claim older than this sends no create any more."""
SETTLE_SECONDS = 120.0
"""Age at which the claim of a process of this machine that is gone is taken over, though its create may have been
sent: the time to send, and that for which a created job may be missing from the list. The service publishes no limit;
this one has a wide margin."""
LOOKUP_SECONDS = 10.0
"""How long the job of another machine, or of a lost answer, is waited for."""


class Job(Protocol):
    """What a submission creates: a tuning job, a batch prediction job."""

    @property
    def name(self) -> str:
        """Full name."""

    @property
    def id(self) -> str:
        """Its last part."""

    @property
    def alive(self) -> bool:
        """Whether it goes on or has left a result."""

    @property
    def create_time(self) -> datetime.datetime | None:
        """By the service's clock."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that was won."""

    session: Session
    output: str
    generation: int
    since: float
    """On `service_clock.elapsed`: when it was begun."""

    def release(self) -> None:
        """Give it back, its create being refused or unsent; one that cannot be given back runs out."""
        bucket, name = parse_gs_uri(manifest_uri(self.output))
        with contextlib.suppress(RunnerError):
            records.delete_record(self.session, bucket, name, generation=self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Generic[AnyJob]):
    """A claim that another runner, or an earlier process of this machine, holds; or one that came to nothing."""

    job: AnyJob | None = None
    """What came of it."""
    why: str = "another runner has claimed this job and may be creating it"
    left_seconds: float = 0.0
    """Until it may be taken over; 0 if it may be at once."""
    mine: bool = False
    """An earlier process of this machine may have sent its create."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Free:
    generation: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    former: dict[str, Any] | None = None
    """What is written over."""


def take(
    session: Session,
    wanted: Wanted,
    body: dict[str, Any],
    *,
    owner: str,
    jobs: Callable[[], list[AnyJob]],
    sent: Collection[str] = (),
    unsent: Collection[str] = (),
) -> Claim | Held[AnyJob]:
    """Claim the creation of a job, or find the job that another runner creates meanwhile.

    Args:
        session: where.
        wanted: the job and its folder.
        body: its run manifest.
        owner: a name that no other claim has.
        jobs: looks for the jobs of this fingerprint.
        sent: owners whose processes are gone and whose create may have been sent.
        unsent: owners that are gone, with nothing on its way.

    Raises:
        OutputTakenError: the folder belongs to another job.
        PermissionDeniedError, NotFoundError: the claim cannot be written; nothing may be sent.
        GoogleApiError, UnreachableError: it is not known who holds the claim; nothing may be sent.
    """
    bucket, name = parse_gs_uri(manifest_uri(wanted.output))
    while True:
        since = elapsed()
        try:
            free = _standing(session, wanted, sent, unsent, jobs)
            if isinstance(free, Held):
                return free
            replacing = wanted.replace or bool(free.body.get("replacing"))
            settled = _settled(free, sent)
            marked = {**body, "claim": owner, **({"replacing": True} if replacing else {}), "settled": sorted(settled)}
            written = records.write_record(session, bucket, name, marked, generation=free.generation)
        except (PermissionDeniedError, NotFoundError) as error:
            raise _unprotected(session, wanted.output, error) from error
        if written is None:
            continue
        _require_time(session, bucket, written, free)
        if set(sent) - settled:
            # Nothing says any more when the create was sent: the time runs from this claim.
            return Held(left_seconds=SETTLE_SECONDS, mine=True)
        if replacing:
            ownership.clear(session, wanted.output)
        return Claim(session=session, output=wanted.output, generation=written.generation, since=since)


def _standing(
    session: Session,
    wanted: Wanted,
    sent: Collection[str],
    unsent: Collection[str],
    jobs: Callable[[], list[AnyJob]],
) -> _Free | Held[AnyJob]:
    """Return the generation that may be written over, or whose claim it is after all."""
    for _ in looks(0.2, 2.0, within=LOOKUP_SECONDS):
        there, now = ownership.holder_of(session, wanted.output)
        ownership.require_free(session, wanted, there, now)
        if there is None:
            return _Free()
        free = _Free(generation=there.generation, body=there.body, former=there.body)
        owner = str(there.body.get("claim"))
        if there.body.get("fingerprint") != wanted.fingerprint:
            return _Free(generation=there.generation, former=there.body)
        # After the record: what came of this claim is in the list, or its owner may still send it.
        known = jobs()
        alive = [job for job in known if job.alive]
        if alive:
            return Held(job=alive[0])
        if owner in unsent:
            return free
        spent = any(job.create_time is not None and job.create_time >= there.updated for job in known)
        lease = SETTLE_SECONDS if owner in sent else ownership.LEASE_SECONDS
        left = lease - (now - there.updated).total_seconds()
        if spent or left <= 0:
            return free
        if owner in sent:
            break
    return Held(left_seconds=left, mine=owner in sent)


def _require_time(session: Session, bucket: str, written: StoredRecord, free: _Free) -> None:
    """Do nothing if the ages of claims were told by the right time: a claim that was just written was written now.

    Raises:
        GoogleApiError: they were not. What stood there stands there again, and is as young as if it had just come.
    """
    try:
        session.now()
    except GoogleApiError:
        with contextlib.suppress(RunnerError):
            if free.former is None:
                records.delete_record(session, bucket, written.name, generation=written.generation)
            else:
                records.write_record(session, bucket, written.name, free.former, generation=written.generation)
        raise


def _settled(free: _Free, sent: Collection[str]) -> set[str]:
    """Return the owners of whose creates nothing is on its way any more.

    Processes of this machine submit one after the other: if the latest of their claims is old enough, all are. Whoever
    takes over says so in the claim, so that a kill between claim and create does not begin the wait again.
    """
    if str(free.body.get("claim")) in sent:
        return set(sent)
    said = free.body.get("settled")
    return set(sent) & {owner for owner in said if isinstance(owner, str)} if isinstance(said, list) else set()


def _unprotected(session: Session, output: str, error: GoogleApiError) -> GoogleApiError:
    bucket = parse_gs_uri(output)[0]
    reason = "there is no such bucket" if isinstance(error, NotFoundError) else error.message
    command = (
        f"`gcloud storage buckets add-iam-policy-binding gs://{bucket} --member=YOU --role=roles/storage.objectUser`"
    )
    fix = f"`gcloud storage buckets create gs://{bucket} --location={session.environment.location}`, or --output"
    return type(error)(
        f"the output folder {output} cannot be claimed, and without a claim two runners could each create this job: "
        f"{reason}; nothing was submitted",
        status=error.status,
        http=error.http,
        method=error.method,
        resource=output,
        hint=fix
        if isinstance(error, NotFoundError)
        else f"your account must be able to write to the folder: {command}",
    )
