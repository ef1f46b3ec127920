"""All goals against all peers, by one command.

    python -m benchmarks                      everything, and a table (about ten minutes on two quiet cores)
    python -m benchmarks --size short         a smaller form, for every night
    python -m benchmarks --size tiny          shows that everything runs; the figures mean nothing
    python -m benchmarks --only serving       one subject
    python -m benchmarks --write              and keep the record; docs/performance.md is made of it. With --only the
                                              other subjects' figures stay, with their date

What is compared runs by turns. Peers are the real programs, from the package index, each in an environment that this
command makes in the user's cache. The command looks whether the machine is quiet and says so when it is not. Exit code
0: all goals met; 1: some missed; 2: the machine was not quiet, so nobody can tell.
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
    """Measure, print and, if asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("full", "short", "tiny"), default="full", help="rounds and inputs")
    parser.add_argument("--only", choices=SUBJECTS, action="append", help="only this subject; may be given again")
    parser.add_argument("--rounds", type=int, help="of each comparison [default: 3; 1 unless full]")
    parser.add_argument("--write", action="store_true", help="keep the record and make the document's section of it")
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
    print(f"the machine: {looks[0]}{'' if looks[0].quiet else ' - NOT QUIET'}", flush=True)
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
                run.note(f"This subject ended before its time: {type(error).__name__}: {error}".splitlines()[0])
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
    """Return the table's end: what is met, missed and in doubt."""
    goals = [figure for figure in record["figures"] if figure["goal"]]
    missed = [figure for figure in goals if not figure["met"]]
    lines = [f"{len(goals) - len(missed)} of {len(goals)} goals met, in {number(record['minutes'])} minutes"]
    lines += [f"missed: {figure['subject']}: {figure['name']} ({figure['peer'] or 'value'})" for figure in missed]
    lines += [f"failed: {name}" for name in record["failed"]]
    if not all(look["quiet"] for look in record["looks"]):
        lines.append("THE MACHINE WAS NOT QUIET: the figures say little. Run again when nothing else runs.")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
