"""Shorten what command lines wait for: for this process, or as the main module of one of its own.

python -m tests.breaking.hurry broken|rest|lags ARGUMENT...
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

from runner import waiting
from runner.gcp import failures, operations, prediction, rest
from runner.jobs.outputs import ownership
from runner.jobs.submitting import claims
from runner.serving import deployment, recovery
from runner.serving.batches import online

IMPATIENT = 0.7
"""Seconds that a broken run waits for an answer."""
TELL_SECONDS = 1.0


def values(*, broken: bool, at_rest: bool = True) -> list[tuple[Any, str, float]]:
    """Return modules, names and values.

    Args:
        broken: it has little patience, and the usual margins.
        at_rest: else, it knows that nothing is on its way any more: claims of the dead have run out.
    """
    patience = IMPATIENT if broken else 60.0
    found: list[tuple[Any, str, float]] = [
        (failures, "FIRST_PAUSE_SECONDS", 0.01),
        (online, "FIRST_PAUSE_SECONDS", 0.01),
        (claims, "LOOKUP_SECONDS", 0.3),
        (deployment, "LOOKUP_SECONDS", 0.3),
        (deployment, "UNDO_SECONDS", 6.0),
        (operations, "POLL_SECONDS", 0.3),
        (prediction, "TIMEOUT_SECONDS", patience),
        (rest, "TIMEOUT_SECONDS", patience),
        (waiting, "TELL_SECONDS", TELL_SECONDS),
        (failures, "REPEAT_SECONDS", 2 * patience),
    ]
    if not broken and at_rest:
        found += [(module, "SETTLE_SECONDS", -5.0) for module in (claims, recovery)]
        found.append((ownership, "LEASE_SECONDS", -5.0))
    return found


def main() -> None:
    """Run a command line with shortened waits."""
    way, *arguments = sys.argv[1:]
    for module, name, value in values(broken=way == "broken", at_rest=way == "rest"):
        setattr(module, name, value)
    from runner.cli.main import main as run

    if os.environ.get("FULL"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    run(arguments)


if __name__ == "__main__":
    main()
