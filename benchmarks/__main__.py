"""Measure all goals and compare this project with its peers.

    python -m benchmarks                      measures everything (about ten minutes on two quiet cores)
    python -m benchmarks --size short         uses smaller inputs and one round, for nightly runs
    python -m benchmarks --size tiny          only tests that everything runs; the figures are meaningless
    python -m benchmarks --only serving       measures one subject
    python -m benchmarks --write              also stores the record and updates docs/performance.md; with --only, the
                                              figures of other subjects are kept with their dates

This project and its peers run alternately. Peers are the published programs from the package index; this command
installs each into its own environment in the user's cache. The exit code is 0 if all goals are met, 1 if some are
missed, and 2 if the machine was not idle, so that the figures are not reliable.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.goals import document, machine
from benchmarks.goals.figures import Run, number, to_json

SUBJECTS = {
    "serving": "Serving",
    "training": "Training",
    "starting": "Starting and memory",
    "datasets": "Dataset checks",
    "transfers": "Transfers and conversion",
}


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the summary and, with `--write`, store the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--size",
        choices=("full", "short", "tiny"),
        default="full",
        help="size of the inputs and number of rounds [default: full]",
    )
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="measure only this subject; repeatable")
    parser.add_argument("--rounds", type=int, help="rounds of each comparison [default: 3 for full, otherwise 1]")
    parser.add_argument("--write", action="store_true", help="store the record and update docs/performance.md")
    parser.add_argument("--output", type=Path, help="write the record to this file")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the servers end with this process
    record = measure(options)
    if options.output:
        options.output.write_text(json.dumps(record, indent=1) + "\n")
    if options.write:
        document.write(record)
    print(summary(record))
    if not all(look["quiet"] for look in record["looks"]):
        return 2
    return int(any(figure["met"] is False for figure in record["figures"]) or bool(record["failed"]))


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the subjects and return the record."""
    started = time.monotonic()
    looks, failed = [machine.look()], []
    print(f"the machine: {looks[0]}{'' if looks[0].quiet else ' - NOT IDLE'}", flush=True)
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        run = Run(options.rounds or (3 if options.size == "full" else 1), options.size, Path(folder))
        for name in options.only or SUBJECTS:
            run.subject, first, began = SUBJECTS[name], len(run.figures), time.monotonic()
            print(f"{run.subject}", flush=True)
            try:
                importlib.import_module(f"benchmarks.goals.{name}").measure(run)
            except Exception as error:
                traceback.print_exc()
                failed.append(name)
                run.note(f"This subject ended early with an error: {type(error).__name__}: {error}".splitlines()[0])
            looks.append(machine.look())
            quiet = looks[-1].quiet and looks[-2].quiet
            run.figures[first:] = [replace(figure, quiet=quiet) for figure in run.figures[first:]]
            print(f"  {time.monotonic() - began:.0f} s; the machine: {looks[-1]}", flush=True)
    words = [
        "python -m benchmarks",
        f"--size {options.size}" if options.size != "full" else "",
        *(f"--only {one}" for one in options.only or ()),
    ]
    return {
        "date": datetime.now(UTC).strftime("%-d %B %Y"),
        "commit": document.commit(),
        "command": " ".join(filter(None, words)),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "size": options.size,
        "machine": machine.description(),
        "looks": [
            {
                **{"busyCores": look.busy_cores, "stolenCores": look.stolen_cores},
                "quiet": look.quiet,
                "load": round(look.load, 1),
                "busiest": list(look.busiest),
            }
            for look in looks
        ],
        "peers": run.peers,
        "failed": failed,
        "figures": to_json(run.figures),
        "notes": run.notes,
    }


def summary(record: dict[str, Any]) -> str:
    """Return the summary: goals that are met and missed, and whether the figures are reliable."""
    goals = [figure for figure in record["figures"] if figure["goal"]]
    missed = [figure for figure in goals if not figure["met"]]
    lines = [f"{len(goals) - len(missed)} of {len(goals)} goals met, in {number(record['minutes'])} minutes"]
    lines += [f"missed: {figure['subject']}: {figure['name']} ({figure['peer'] or 'value'})" for figure in missed]
    lines += [f"failed: {name}" for name in record["failed"]]
    if not all(look["quiet"] for look in record["looks"]):
        lines.append(
            "WARNING: the machine was not idle, so the figures are not reliable. Run the command again when it is."
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
