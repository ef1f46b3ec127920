"""Jobs by the names that people give them."""

from __future__ import annotations

from runner.errors import NotFoundError
from runner.gcp import tuning_jobs
from runner.gcp.session import Session

LATEST = "latest"


def job_name(session: Session, text: str) -> str:
    """Return what names a job for the library; `latest` is the newest. Raises NotFoundError when there is none."""
    if text != LATEST:
        return text
    found = tuning_jobs.list_jobs(session, limit=1)
    if not found:
        raise NotFoundError(
            f"there is no tuning job in {session.environment.parent}",
            status="NOT_FOUND",
            http=404,
            hint="`runner jobs submit --help`",
        )
    return found[0].name
