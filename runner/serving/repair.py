"""Repair damaged state of this tool: files of this machine, and records in the contract bucket.

Nothing is deleted: damaged data is moved to another name. Its information comes from the service again: from labels,
from the claim in an output folder, or from the names of resources of deployments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from runner import local_files
from runner.environment import state_directory
from runner.errors import ConfigurationError, NotFoundError
from runner.gcp.session import Session
from runner.jobs.manifests import allowance, looking
from runner.jobs.manifests.records import StateLedger
from runner.jobs.submitting import ledger as submissions
from runner.serving import journal
from runner.wording import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A damaged piece of state."""

    resource: str
    """Path of a file, or name of a record."""
    problem: str
    remedy: str
    """The action of `mend`."""
    mend: Callable[[], str]
    """Repairs it and returns the result. Raises RunnerError."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"resource": self.resource, "problem": self.problem, "remedy": self.remedy}


def local_damages() -> list[Damage]:
    """Return the damaged files of this machine. Changes nothing."""
    found = []
    path = submissions.path_in(state_directory())
    problem = submissions.damage_of(path)
    if problem:
        found.append(
            Damage(
                resource=str(path),
                problem=problem,
                remedy="keep its sound lines in a new file, set this one aside; jobs are found by their fingerprints",
                mend=partial(_mend_ledger, path),
            )
        )
    for file, text in journal.damaged():
        remedy = "set it aside; what the deployment made carries its lease, and `runner endpoints ls` lists it"
        found.append(Damage(resource=str(file), problem=text, remedy=remedy, mend=partial(_set_aside, file)))
    return found


def cloud_damages(session: Session) -> list[Damage]:
    """Return the damaged records, and those with several jobs of which none is selected. Changes nothing.

    Raises:
        ConfigurationError: no contract bucket is configured.
        GoogleApiError, UnreachableError: the bucket cannot be read.
    """
    records = StateLedger(session)
    found = []
    for name, generation, problem in [*records.damaged(), *allowance.damages(session)]:
        remedy = "set it aside; the next `runner apply` finds its job by its labels"
        if name.startswith(allowance.NAME):
            remedy = "set it aside; the jobs' records contain their costs"
        found.append(
            Damage(
                resource=f"gs://{records.bucket}/{name}",
                problem=problem,
                remedy=remedy,
                mend=partial(_set_record_aside, records, name, generation),
            )
        )
    return found or _doubled(session, records)


def _doubled(session: Session, records: StateLedger) -> list[Damage]:
    view = looking.look(session, records)
    found = []
    for name, entry in view.entries.items():
        jobs = view.found(entry.record)
        if len(jobs) < 2:
            continue
        chosen = min(jobs, key=lambda job: (not job.succeeded, str(job.create_time), job.id))
        others = [job.id for job in jobs if job is not chosen]
        ends = [f"`runner jobs cancel {job.id}`" for job in jobs if job is not chosen and not job.ended]

        def choose(entry: Any = entry, job: str = chosen.name) -> str:
            record = entry.record.changed(phase="submitted", job=job, owner="", problem="")
            written = records.write(record, entry.generation)
            return f"chose {job.rsplit('/', 1)[-1]}" if written else "another runner changed it: run the command again"

        found.append(
            Damage(
                resource=name,
                problem=f"{len(jobs)} jobs carry its identity: {', '.join(job.id for job in jobs)}",
                remedy=f"choose {chosen.id} over {', '.join(others)}" + (f"; then {', '.join(ends)}" if ends else ""),
                mend=choose,
            )
        )
    return found


def _mend_ledger(path: Path) -> str:
    if not path.is_file() or path.is_symlink():
        return _set_aside(path)
    lines = submissions.sound_lines(path)
    done = _set_aside(path)
    local_files.replace(path, b"".join(lines), private=True)
    return f"{done}, kept {counted(len(lines), 'line')}"


def _set_aside(path: Path) -> str:
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    try:
        path.rename(aside)
    except OSError as error:
        raise local_files.unwritable(aside, error) from error
    return f"set aside as {aside}"


def _set_record_aside(records: StateLedger, name: str, generation: int) -> str:
    try:
        return f"set aside as {records.set_aside(name, generation)}"
    except NotFoundError as error:
        raise ConfigurationError(f"{name} has changed meanwhile", hint="run the command again") from error
