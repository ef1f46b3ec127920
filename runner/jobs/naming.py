"""Find jobs by the names that people use for them."""

from __future__ import annotations

from runner.errors import ConfigurationError, NotFoundError
from runner.gcp import tuning_jobs
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob

LATEST = "latest"
_WHOLE_ID = 15
"""Number of digits from which an ID counts as complete, without a look at the list."""
_SHORTEST = 4
_LOOKED_AT = 1000
"""Number of jobs, newest first, in which a name or the beginning of an ID is searched."""


def job_name(session: Session, text: str) -> str:
    """Return the ID or name of a job for the library.

    Args:
        session: the project and location.
        text: an ID or its unique beginning, a display name, a full name, or `latest`. Addresses (`gs://…`) are returned
            unchanged.

    Raises:
        NotFoundError: the job does not exist.
        ConfigurationError: several jobs have this name, or this beginning.
    """
    if text.startswith(("projects/", "gs://")) or (text.isdigit() and len(text) >= _WHOLE_ID):
        return text
    if text == LATEST:
        found = tuning_jobs.list_jobs(session, limit=1)
        if not found:
            raise _missing(f"there is no tuning job in {session.environment.parent}", "`runner jobs submit --help`")
        return found[0].name
    return _chosen(session, text.removeprefix("tuningJobs/")).name


def _chosen(session: Session, text: str) -> TuningJob:
    every = tuning_jobs.list_jobs(session, limit=_LOOKED_AT)
    for matches in (
        [job for job in every if job.id == text],
        [job for job in every if text and job.display_name == text],
        [job for job in every if len(text) >= _SHORTEST and job.id.startswith(text)],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            ids = ", ".join(job.id for job in matches[:5]) + (", …" if len(matches) > 5 else "")
            raise ConfigurationError(f"{len(matches)} jobs are called {text!r}: {ids}", hint="name one by its ID")
    message = f"no tuning job in {session.environment.parent} has the ID or the name {text!r}"
    raise _missing(message, "`runner jobs ls` lists them", resource=text)


def _missing(message: str, hint: str, resource: str = "") -> NotFoundError:
    return NotFoundError(message, method="tuningJobs.get", resource=resource, hint=hint)
