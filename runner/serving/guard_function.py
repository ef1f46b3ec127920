"""Entry point of the function that the scheduler calls. Its archive contains this file and parts of `runner`."""

from __future__ import annotations

import os
from typing import Any


def main(request: Any) -> tuple[str, int]:
    """Run once for the regions in `RUNNER_REGIONS`, and for the jobs of `global`.

    Findings and actions are lines of JSON on standard output, which Cloud Logging reads. A failed run gets an error
    response, so that the scheduler's own log also shows it.
    """
    from runner.serving import idle_guard

    regions = os.environ["RUNNER_REGIONS"].split(",")
    jobs = ["--jobs-ended-minutes", os.environ.get("RUNNER_JOBS_ENDED_MINUTES", "30")]
    jobs += ["--jobs-waiting-hours", os.environ.get("RUNNER_JOBS_WAITING_HOURS", "4")]
    passes = [
        [*jobs, *(word for region in regions for word in ("--location", region))],
        [*jobs, "--only-jobs", "--location", "global"],
    ]
    status = max(idle_guard.main(arguments) for arguments in passes)
    return ("done", 200) if status == 0 else (f"status {status}; the log has the reason", 500)
