"""Take down what nobody wants any more, without anybody at a keyboard.

    python -m runner.serving.idle_guard --project P --location L [--dry-run]

For a scheduled job. Ends what this tool deployed and whose lease has ended or that was not asked for longer than its
idle limit, and deletes the empty endpoints and orphaned models that deployments left. The time of the last request
comes from Cloud Monitoring; where that cannot be read, only leases count, which is said.

A line of JSON for each thing found and for each removed goes to standard output. Exit codes: 0 done, 1 something could
not be removed or the service failed, 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from runner.errors import RunnerError
from runner.gcp import usage
from runner.gcp.session import Session, open_environment
from runner.serving.leaks import clean, find_leaks


def main(arguments: Sequence[str] | None = None) -> int:
    """Run once and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runner.serving.idle_guard", description="End idle deployments.")
    parser.add_argument("--project", help="Google Cloud project [RUNNER_PROJECT]")
    parser.add_argument("--location", action="append", help="location, several times for several [RUNNER_LOCATION]")
    parser.add_argument("--environment", help="environment document: a file or a gs:// object")
    parser.add_argument("--dry-run", action="store_true", help="say what would be removed, change nothing")
    given = parser.parse_args(arguments)
    status = 0
    for location in given.location or [None]:
        flags = {"project": given.project, "location": location, "environment": given.environment}
        try:
            with Session(open_environment(flags)) as session:
                status = max(status, guard(session, dry_run=given.dry_run))
        except RunnerError as error:
            _say({"event": "error", "location": location, **error.to_json()})
            status = max(status, error.exit_code if error.exit_code == 2 else 1)
    return status


def guard(session: Session, *, dry_run: bool) -> int:
    """Look at one location; return the exit code."""
    location = session.environment.location
    if usage.last_requests(session, time.time() - 60) is None:
        _say({"event": "no metrics", "location": location, "message": "only leases count: requests cannot be read"})
    leaks = find_leaks(session)
    for leak in leaks:
        _say({"event": "found", "location": location, **leak.to_json()})
    if dry_run:
        return 0
    removed, failed = clean(session, leaks)
    for name in removed:
        _say({"event": "removed", "location": location, "resource": name})
    for line in failed:
        _say({"event": "not removed", "location": location, "message": line})
    return 1 if failed else 0


def _say(body: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
