"""Entry point of the function, which the scheduler calls. Its package is this folder and `runner`."""

from __future__ import annotations

import json
from typing import Any


def main(request: Any) -> tuple[str, int, dict[str, str]]:
    """Make one pass and answer with its report; a failure is answered as one, so that the scheduler's log shows it."""
    from infra.idle_guard.guard import regions_wanted, run

    report = run(regions_wanted())
    text = json.dumps({"message": "idle guard", "report": report})
    print(text, flush=True)  # noqa: T201 - Cloud Logging reads standard output
    failed = any(entry["failed"] for entry in report.values())
    return text, 500 if failed else 200, {"Content-Type": "application/json"}
