"""Cost per unit: bytes of a dataset, jobs of a queue, questions of a batch; measured at several sizes and fitted.

    python -m benchmarks.scale [--quick]

Measures processor seconds of this process, so that other load on the machine has little effect; docs/scale.md contains
the results. Prints one JSON object: for each part the sizes, the seconds, the fitted seconds per unit, and the cost of
the start.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.fleet_week import PRICE
from benchmarks.fleet_world import ENVIRONMENT, LOCATION, World, WorldSession, compressed
from runner import times
from runner.datasets.checks import check_files
from runner.datasets.rewriting.converting import convert_file
from runner.datasets.rewriting.splitting import split_file
from runner.jobs.labels import digest
from runner.jobs.manifests import looking, queueing
from runner.jobs.manifests.places import Place
from runner.jobs.manifests.records import Record, Run, StateLedger
from runner.serving.batches.lines import journal_of, opened, write_output
from tests.jobs.manifests.folder import MODEL

WORDS = 5000


def main() -> int:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of each size")
    less = 10 if parser.parse_args().quick else 1
    print(json.dumps(measured(less), indent=2))
    return 0


def measured(less: int) -> dict[str, Any]:
    """Return all measurements, with sizes `less` times smaller."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        found = {
            **_data(folder, [size // less for size in (50, 150, 450)]),
            "look at the queue, by records": _fit(_looks([size // less for size in (500, 1500, 4500)])),
            "order the queue, by waiting jobs": _fit(_orders([size // less for size in (2000, 6000, 18000)])),
            "answers of a batch job, by questions": _fit(
                _joins(folder, [size // less for size in (10000, 30000, 90000)])
            ),
        }
    return {"loadAverage": round(os.getloadavg()[0], 1), "cores": os.cpu_count(), "parts": found}


Points = list[tuple[float, float, float]]
"""Size, processor seconds, and the peak memory so far in megabytes."""


def _timed(size: float, work: Callable[[], object]) -> tuple[float, float, float]:
    before = time.process_time()
    work()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return size, time.process_time() - before, most


def _fit(points: Points) -> dict[str, Any]:
    """Return the least-squares line through sizes and seconds."""
    count = len(points)
    sizes, seconds = [point[0] for point in points], [point[1] for point in points]
    middle, height = sum(sizes) / count, sum(seconds) / count
    spread = sum((size - middle) ** 2 for size in sizes)
    slope = sum((size - middle) * (second - height) for size, second in zip(sizes, seconds, strict=True)) / spread
    start = height - slope * middle
    worst = max(abs(start + slope * size - second) / second for size, second in zip(sizes, seconds, strict=True))
    return {
        "sizes": sizes,
        "seconds": [round(second, 3) for second in seconds],
        "secondsPerUnit": float(f"{slope:.3g}"),
        "secondsAtStart": round(start, 3),
        "worstResidual": round(worst, 2),
        "peakMegabytes": round(max(point[2] for point in points)),
    }


def _data(folder: Path, megabytes: list[int]) -> dict[str, Any]:
    """Measure operations on datasets, in megabytes, with one thread."""
    chance = random.Random(5)
    words = ["".join(chance.choices("abcdefghijklmnop", k=chance.randrange(3, 9))) for _ in range(WORDS)]
    points: dict[str, Points] = {"check": [], "convert": [], "split": []}
    for size in megabytes:
        path = folder / f"{size}.jsonl"
        with path.open("w") as file:
            written = 0
            while written < size * 1_000_000:
                turns = [
                    {"role": role, "content": " ".join(chance.choices(words, k=70))} for role in ("user", "assistant")
                ]
                written += file.write(json.dumps({"messages": turns}) + "\n")

        def check(path: Path = path) -> None:
            check_files(path, workers=1)

        def convert(path: Path = path, size: int = size) -> None:
            convert_file(path, folder / f"{size}.converted", "prompt_completion")

        def split(path: Path = path, size: int = size) -> None:
            split_file(path, folder / f"{size}.t", folder / f"{size}.v")

        points["check"].append(_timed(size, check))
        points["convert"].append(_timed(size, convert))
        points["split"].append(_timed(size, split))
        for made in folder.glob(f"{size}.*"):
            made.unlink()
    return {f"{name} a dataset, by megabytes": _fit(found) for name, found in points.items()}


def _world(records: int) -> tuple[World, list[Place]]:
    """Return a simulation with a queue of this many jobs, and forty projects."""
    limits = {f"project-{number:02}": 0 for number in range(40)}
    world = World(1, limits, [])
    with WorldSession(ENVIRONMENT, world) as session:
        ledger = StateLedger(session)
        for number in range(records):
            run = Run(
                identity=digest({"number": number}),
                phase="queued",
                file="jobs/sweep.yaml",
                fields={"base_model": MODEL, "training_dataset": "gs://datasets/train.jsonl", "mode": "PEFT_ADAPTER"},
                labels={"team": f"team-{number % 7}"},
                price=PRICE,
                queued=times.exact(world.moment()),
            )
            ledger.write(Record(name=f"job-{number:05}", run=run), 0)
    return world, [Place(name, LOCATION, 0) for name in limits]


def _looks(sizes: list[int]) -> Points:
    points = []
    for size in sizes:
        world, places = _world(size)
        with compressed(world), WorldSession(ENVIRONMENT, world) as session:
            points.append(_timed(size, lambda: queueing.advance(session, limit=0, places=places, fair_by="team")))  # noqa: B023
    return points


def _orders(sizes: list[int]) -> Points:
    points = []
    for size in sizes:
        world, places = _world(size)
        with compressed(world), WorldSession(ENVIRONMENT, world) as session:
            view = looking.look(session, StateLedger(session), places=places)
        points.append(_timed(size, lambda: queueing.ordered(view, view.entries, "team")))  # noqa: B023
    return points


_ANSWER = {"answer": "word " * 50, "finishReason": "stop", "usage": {"completion_tokens": 50}}


def _joins(folder: Path, sizes: list[int]) -> Points:
    """Measure the journal and the output of batch jobs, in questions."""
    points = []
    for size in sizes:
        source, output = folder / f"{size}.questions", folder / f"{size}.answers"
        source.write_text("".join(f'{{"prompt": "question {number}"}}\n' for number in range(size)))

        def join(source: Path = source, output: Path = output, size: int = size) -> None:
            with opened(source) as lines, journal_of(output, lines, {"model": "m"}, {}, False) as journal:
                for start in range(0, size, 1000):
                    journal.add([(index, dict(_ANSWER)) for index in range(start, min(size, start + 1000))])
                write_output(output, lines, journal)

        points.append(_timed(size, join))
    return points


if __name__ == "__main__":
    sys.exit(main())
