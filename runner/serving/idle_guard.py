"""Remove unused deployments, and report jobs that need attention, without an operator.

    python -m runner.serving.idle_guard --project P --location L [--dry-run] [--jobs-ended-minutes 30]

Run this as a scheduled job. It undeploys models that this tool deployed, if their lease has ended or they had no
requests for longer than their idle limit. It also deletes the empty endpoints and orphaned models of deployments. Cloud
Monitoring provides the time of the last request; if it cannot be read, only leases count, and the output says so.

With --jobs-ended-minutes, it also reports the tuning jobs that failed during this time, and those that were created
--jobs-waiting-hours ago and have not started. It never changes jobs.

Each finding and each removal is a line of JSON on standard output, with the `severity` that Cloud Logging reads. Exit
codes: 0 for success, 1 if something could not be removed or the service failed, 2 for an incorrect command line.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from runner.errors import RunnerError
from runner.gcp import tuning_jobs, usage
from runner.gcp.environments import open_environment
from runner.gcp.session import Session
from runner.serving.leaks import clean, find_leaks

_NEWEST = 500
"""Number of jobs of a location that are read, newest first; they include recent failures and waiting jobs."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runner.serving.idle_guard", description="End idle deployments.")
    parser.add_argument("--project", help="Google Cloud project [RUNNER_PROJECT]")
    parser.add_argument("--location", action="append", help="location, several times for several [RUNNER_LOCATION]")
    parser.add_argument("--environment", help="environment document: a file or a gs:// object")
    parser.add_argument("--dry-run", action="store_true", help="show what would be removed, without changing anything")
    parser.add_argument(
        "--jobs-ended-minutes", type=float, metavar="N", help="name jobs that failed in the last N minutes"
    )
    parser.add_argument(
        "--jobs-waiting-hours", type=float, metavar="N", default=4.0, help="name jobs that wait longer than N hours [4]"
    )
    parser.add_argument("--only-jobs", action="store_true", help="check only jobs")
    given = parser.parse_args(arguments)
    status = 0
    for location in given.location or [None]:
        flags = {"project": given.project, "location": location, "environment": given.environment}
        try:
            with Session(open_environment(flags)) as session:
                # This runs first, independently of the deployments, because it changes nothing.
                if given.jobs_ended_minutes is not None:
                    report_jobs(session, ended=given.jobs_ended_minutes * 60, waiting=given.jobs_waiting_hours * 3600)
                if not given.only_jobs:
                    status = max(status, guard(session, dry_run=given.dry_run))
        except RunnerError as error:
            _say("ERROR", {"event": "error", "location": location, **error.to_json()})
            status = max(status, error.exit_code if error.exit_code == 2 else 1)
    return status


def guard(session: Session, *, dry_run: bool) -> int:
    """Process the deployments of one location; return the exit code."""
    location = session.environment.location
    if usage.last_requests(session, session.now() - 60) is None:
        message = "only leases count: requests cannot be read"
        _say("WARNING", {"event": "no metrics", "location": location, "message": message})
    leaks = find_leaks(session)
    for leak in leaks:
        _say("NOTICE", {"event": "found", "location": location, **leak.to_json()})
    if dry_run:
        return 0
    removed, failed = clean(session, leaks)
    for name in removed:
        _say("NOTICE", {"event": "removed", "location": location, "resource": name})
    for line in failed:
        _say("ERROR", {"event": "not removed", "location": location, "message": line})
    return 1 if failed else 0


def report_jobs(session: Session, *, ended: float, waiting: float) -> None:
    """Report the jobs of a location that failed within `ended` seconds, or have not started after `waiting`."""
    location, jobs = session.environment.location, tuning_jobs.list_jobs(session, limit=_NEWEST)
    now = session.now()
    for job in jobs:
        about = {"location": location, "job": job.name, "displayName": job.display_name, "state": job.state}
        if job.state == "JOB_STATE_FAILED" and job.end_time and now - job.end_time.timestamp() <= ended:
            message = job.error_message or "the service gave no reason"
            _say("ERROR", {"event": "job failed", **about, "code": job.error_code, "message": message})
        elif not job.ended and not job.start_time and job.create_time:
            age = now - job.create_time.timestamp()
            if age > waiting:
                message = f"created {age / 3600:.1f} h ago, not started: {job.detail_state or job.state}"
                _say("WARNING", {"event": "job waiting", **about, "message": message})


def _say(severity: str, body: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"severity": severity, **body}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
