"""One pass over the endpoints of some regions: what this tool deployed and nobody wants any more is taken down.

It runs in Google Cloud, on a schedule, so a model stops being billed also when every laptop is shut. Only deployments
whose lease is over, or which nobody has asked for longer than their idle limit, are touched, and of those only what
this tool made: what `runner leaks` lists. `python -m infra.idle_guard.guard` is the same
pass from here, with the environment of the runner.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from runner.errors import ConfigurationError, RunnerError
from runner.gcp import endpoints
from runner.gcp.session import Session
from runner.serving.deployment import undeploy
from runner.serving.leaks import find_leaks


@dataclass(slots=True)
class Pass:
    """What one pass found and did, as deployments' full names."""

    kept: list[str] = field(default_factory=list)
    """Billed, and within their lease or without one."""
    taken_down: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """With the reason; the next pass tries again."""

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"kept": self.kept, "takenDown": self.taken_down, "failed": self.failed}


def sweep(session: Session, *, now: float | None = None, dry_run: bool = False) -> Pass:
    """Take down, in the session's location, what this tool deployed and whose lease is over, or which nobody asks.

    Args:
        session: where.
        now: seconds since 1970; None is this machine's clock.
        dry_run: only tell.

    Raises:
        RunnerError: the endpoints cannot be listed.
    """
    wanted = {
        (leak.resource, leak.deployed_model)
        for leak in find_leaks(session, now=now)
        if leak.kind in {"expired", "idle"}
    }
    done = Pass()
    for endpoint in endpoints.list_endpoints(session):
        for model in endpoint.deployed_models:
            name = f"{endpoint.name}/deployedModels/{model.id}"
            if (endpoint.name, model.id) not in wanted:
                done.kept.append(name)
                continue
            try:
                if not dry_run:
                    undeploy(session, endpoint, only=model.id)
            except RunnerError as error:
                done.failed[name] = error.message
            else:
                done.taken_down.append(name)
    return done


def run(regions: list[str], *, dry_run: bool = False) -> dict[str, Any]:
    """Make a pass in each region with the environment that variables describe, and return what was done by region."""
    from runner.gcp.session import open_environment

    report: dict[str, Any] = {}
    for region in regions:
        with Session(open_environment({"location": region})) as session:
            try:
                report[region] = sweep(session, dry_run=dry_run).to_json()
            except RunnerError as error:
                report[region] = {"kept": [], "takenDown": [], "failed": {region: error.message}}
    return report


def regions_wanted() -> list[str]:
    """Return the regions that `RUNNER_REGIONS` names, separated by commas. Raises ConfigurationError for none."""
    found = [item.strip() for item in os.environ.get("RUNNER_REGIONS", "").split(",") if item.strip()]
    if not found:
        problem = "RUNNER_REGIONS names no region"
        raise ConfigurationError(problem, problems=[problem], hint="RUNNER_REGIONS=us-central1,europe-west4")
    return found


def main() -> int:
    """Make one pass, print its report as JSON, and return 1 if anything could not be taken down."""
    try:
        report = run(regions_wanted(), dry_run="--dry-run" in sys.argv[1:])
    except RunnerError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if any(entry["failed"] for entry in report.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
