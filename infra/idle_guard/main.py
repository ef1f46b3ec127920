"""Entry point of the function, which the scheduler calls. Its archive is this file and parts of `runner`."""

from __future__ import annotations

import os
from typing import Any


def main(request: Any) -> tuple[str, int]:
    """Make one pass over the regions that `RUNNER_REGIONS` names.

    What it finds and does is a line of JSON each on standard output, which Cloud Logging reads. A pass that failed is
    answered as a failure, so that the scheduler's own log shows it too.
    """
    from runner.serving import idle_guard

    arguments = [word for region in os.environ["RUNNER_REGIONS"].split(",") for word in ("--location", region)]
    status = idle_guard.main(arguments)
    return ("done", 200) if status == 0 else (f"status {status}; the log says why", 500)
