"""Claims: the process that writes the run manifest over the generation that it has read may create the job.

The run manifest in the output folder is the only claim of every submission, from a command line, a queue or a library.
It is written with a generation precondition before the create request is sent. One runner writes it; the others find
the job that it creates. If the claim cannot be written, nothing is sent. The storage service determines the age of a
claim.
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
"""A claim older than this no longer allows a create request."""
SETTLE_SECONDS = 120.0
"""Age after which the claim of an ended process on this machine is taken over, although its create request may have
been sent: the time in which it can be sent, plus the time for which a created job can be missing in the list. The
service publishes no maximum; this value has a wide margin."""
LOOKUP_SECONDS = 10.0
"""How long to wait for the job of another machine, or of a lost response."""


class Job(Protocol):
    """A resource that a submission creates: a tuning job or a batch prediction job."""

    @property
    def name(self) -> str:
        """Full name."""

    @property
    def id(self) -> str:
        """The last part of the name."""

    @property
    def alive(self) -> bool:
        """Whether it is running or has a result."""

    @property
    def create_time(self) -> datetime.datetime | None:
        """Creation time, by the service's clock."""


AnyJob = TypeVar("AnyJob", bound=Job)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A claim that this process holds."""

    session: Session
    output: str
    generation: int
    since: float
    """Time of the start, on `service_clock.elapsed`."""

    def release(self) -> None:
        """Release the claim if its create request was refused or not sent; if this fails, the claim expires."""
        bucket, name = parse_gs_uri(manifest_uri(self.output))
        with contextlib.suppress(RunnerError):
            records.delete_record(self.session, bucket, name, generation=self.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Generic[AnyJob]):
    """A claim that another runner or an earlier process of this machine holds, or that has ended without a job."""

    job: AnyJob | None = None
    """The jobs of the claim."""
    why: str = "another runner has claimed this job and may be creating it"
    left_seconds: float = 0.0
    """Seconds until it can be taken over; 0 if it can be taken over now."""
    mine: bool = False
    """Whether an earlier process of this machine may have sent its create request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Free:
    generation: int = 0
    body: dict[str, Any] = field(default_factory=dict)
    former: dict[str, Any] | None = None
    """The object that the claim overwrites."""


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
        session: the project and location.
        wanted: the job and its folder.
        body: its run manifest.
        owner: a name that no other claim has.
        jobs: finds the jobs with this fingerprint.
        sent: owners whose processes have ended and whose create requests may have been sent.
        unsent: owners whose processes have ended without a create request.

    Raises:
        OutputTakenError: the folder belongs to another job.
        PermissionDeniedError, NotFoundError: the claim cannot be written; nothing may be sent.
        GoogleApiError, UnreachableError: the owner of the claim is unknown; nothing may be sent.
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
            # The time at which the create request was sent is no longer known, so the wait starts with this claim.
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
    """Return the generation to overwrite, or the holder of the claim."""
    for _ in looks(0.2, 2.0, within=LOOKUP_SECONDS):
        there, now = ownership.holder_of(session, wanted.output)
        ownership.require_free(session, wanted, there, now)
        if there is None:
            return _Free()
        free = _Free(generation=there.generation, body=there.body, former=there.body)
        owner = str(there.body.get("claim"))
        if there.body.get("fingerprint") != wanted.fingerprint:
            return _Free(generation=there.generation, former=there.body)
        # Read after the record: the job of this claim is in the list, or its owner may still send the request.
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
    """Return normally if the service's time was right when ages were calculated: a new claim must have a current time.

    Raises:
        GoogleApiError: it was not. The previous object is restored, and counts as new.
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
    """Return the owners whose create requests can no longer arrive.

    Processes of this machine submit one after another: if the latest of their claims is old enough, all are. The new
    owner records this in its claim, so that a kill between the claim and the create request does not restart the wait.
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
        hint=fix if isinstance(error, NotFoundError) else f"grant your account write access to the folder: {command}",
    )
