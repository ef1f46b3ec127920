"""A simulated week: thousands of jobs of several teams in dozens of projects, with outages, with the queue's own code.

    python -m benchmarks.fleet_week [--jobs 2000] [--projects 40] [--days 7] [--budget-share 1.2] [--seed 1]

Two runners make a pass every twenty minutes, sometimes one during the other's. They die at random requests, responses
to create requests are lost, and projects, or once the whole service, are unavailable. Prints one JSON object. The exit
code is 1 if a job ran twice or was lost, a quota or the budget was exceeded, or the shares of teams that all had
waiting jobs differ by more than 10%. `tests/jobs/manifests/test_fleet.py` is a smaller version.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.fleet_world import ENVIRONMENT, LOCATION, KilledError, Outage, World, WorldSession, compressed
from runner import times
from runner.errors import GoogleApiError, UnreachableError
from runner.jobs.labels import ATTEMPT_LABEL, MANIFEST_LABEL, digest
from runner.jobs.manifests import looking, queueing
from runner.jobs.manifests.places import Place
from runner.jobs.manifests.records import Price, Record, Run, StateLedger
from tests.jobs.manifests.folder import MODEL

TEAMS = ("amber", "blue", "coral", "dune")
PRICE = Price(low=5.0, expected=5.5, high=6.7, tokens=8_000_000, epochs=1, usd_per_million_tokens=0.67)
TICK = 1200.0
HOUR = 3600.0
MOST_UNFAIR = 0.10


@dataclass(slots=True)
class Result:
    """The result of a simulation."""

    jobs: int
    projects: int
    slots: int
    days: float
    budget: float
    outages: int
    kills: int = 0
    lost_answers: int = 0
    nested_looks: int = 0
    failed_looks: int = 0
    requests: int = 0
    refused_by_quota: int = 0
    created: int = 0
    succeeded: int = 0
    failed_for_good: int = 0
    waiting: int = 0
    spent: float = 0.0
    most_committed: float = 0.0
    used_share: float = 0.0
    """Share of the slots' time in use while every team had waiting jobs, including outages."""
    unfairness: float = 0.0
    """Largest relative difference of a team's slot time from an equal share, in that time."""
    tolerance: float = MOST_UNFAIR
    hours_compared: float = 0.0
    seconds: float = 0.0
    """Seconds of real time."""
    slowest_look: float = 0.0
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {key: round(value, 3) if isinstance(value, float) else value for key, value in asdict(self).items()}


class Simulation:
    """One simulated week."""

    def __init__(
        self,
        *,
        jobs: int,
        projects: int,
        days: float,
        budget_share: float,
        seed: int,
        retries: int = 3,
        kill_rate: float = 0.005,
        lose_rate: float = 0.02,
    ) -> None:
        chance = random.Random(seed)
        names = [f"project-{number:02}" for number in range(projects)]
        limits = {name: chance.choice((1, 2, 2, 4)) for name in names}
        end = days * 24 * HOUR
        outages = [
            Outage(chance.choice(names), start := chance.uniform(0, end), start + chance.uniform(0.5, 20) * HOUR, kind)
            for kind in ("refused", "unavailable", "silent")
            for _ in range(max(1, round(projects * days / 42)))
        ]
        outages.append(Outage("", 0.4 * end, 0.4 * end + 2 * HOUR, "refused"))
        outages.append(Outage("", 0.6 * end, 0.6 * end + 0.2 * HOUR, "unavailable"))
        self.world = World(seed, limits, outages)
        self.places = [Place(name, LOCATION, limits[name]) for name in names]
        self.names = [f"sweep-{number // 100:02}-{number % 100:02}" for number in range(jobs)]
        self.retries, self.rates = retries, (kill_rate, lose_rate)
        budget = budget_share * jobs * 6.0
        self.result = Result(jobs, projects, sum(limits.values()), days, budget, len(outages))
        self.chance = random.Random(seed + 1)
        self.compared: Counter[str] = Counter()
        self.parsed: dict[str, tuple[str, Record]] = {}
        self.inside = False
        self.world.at_create.append(self._created)

    def run(self) -> Result:
        """Run it and return the result."""
        begun = time.monotonic()
        with compressed(self.world):
            self._queue()
            self.world.kill_rate, self.world.lose_rate = self.rates
            self.world.at_write = self._interrupt
            end = self.result.days * 24 * HOUR
            tick = 0.0
            while tick < end and self._open():
                tick = max(tick + TICK, self.world.now)
                before = self._slot_time()
                everyone = self._all_wait()
                self.world.run(tick)
                if everyone:
                    self.compared.update({team: after - before[team] for team, after in self._slot_time().items()})
                    self.result.hours_compared += TICK / HOUR
                self._look()
            self.world.outages.clear()
            self.world.kill_rate = self.world.lose_rate = 0.0
            self.world.at_write = None
            self._settle()
        self._judge()
        self.result.seconds = time.monotonic() - begun
        return self.result

    def _queue(self) -> None:
        """Write the records, as `runner apply --quota 0` leaves them."""
        with WorldSession(ENVIRONMENT, self.world) as session:
            ledger = StateLedger(session)
            for number, name in enumerate(self.names):
                # One team has half of all jobs, and submitted them first.
                team = TEAMS[0] if number < len(self.names) // 2 else TEAMS[1 + number % (len(TEAMS) - 1)]
                run = Run(
                    identity=digest({"name": name}),
                    phase="queued",
                    file="jobs/sweep.yaml",
                    fields={
                        "base_model": MODEL,
                        "training_dataset": "gs://datasets/train.jsonl",
                        "mode": "PEFT_ADAPTER",
                    },
                    labels={"team": team},
                    price=PRICE,
                    queued=times.exact(self.world.moment()),
                    retries=self.retries,
                )
                assert ledger.write(Record(name=name, run=run), 0) is not None

    def _look(self) -> None:
        """Let a runner make a pass; it may die."""
        begun = time.monotonic()
        with WorldSession(ENVIRONMENT, self.world) as session:
            try:
                queueing.advance(session, limit=0, fair_by="team", places=self.places, budget=self.result.budget)
            except KilledError:
                pass
            except (GoogleApiError, UnreachableError):
                self.result.failed_looks += 1
        if not self.inside:
            self.result.slowest_look = max(self.result.slowest_look, time.monotonic() - begun)

    def _interrupt(self) -> None:
        """Let the other runner make a pass during a pass."""
        if not self.inside and self.chance.random() < 0.01:
            self.inside = True
            self.result.nested_looks += 1
            self._look()
            self.inside = False

    def _open(self) -> bool:
        return any(record.run.phase != "submitted" or record.run.outcome is None for record in self._records())

    def _records(self) -> list[Record]:
        for (bucket, name), item in self.world.objects.items():
            if bucket == "contract" and name.startswith("runner/state/"):
                known = self.parsed.get(name)
                if known is None or known[0] != item["generation"]:
                    self.parsed[name] = (item["generation"], Record.model_validate_json(item["metadata"]["record"]))
        return [record for _, record in self.parsed.values()]

    def _all_wait(self) -> bool:
        """Return whether every team has several waiting jobs."""
        waiting = Counter(record.run.labels["team"] for record in self._records() if record.run.phase == "queued")
        return all(waiting[team] > 4 for team in TEAMS)

    def _slot_time(self) -> dict[str, float]:
        found: Counter[str] = Counter(dict.fromkeys(TEAMS, 0))
        for jobs in self.world.jobs.values():
            for job in jobs.values():
                found[job.document["labels"]["team"]] += job.seconds  # type: ignore[assignment]
        return dict(found)

    def _cost(self) -> float:
        """Return the cost of all existing jobs, as counted by the simulation."""
        price = PRICE.usd_per_million_tokens or 0.0
        total = 0.0
        for jobs in self.world.jobs.values():
            for job in jobs.values():
                billed = job.document.get("tuningDataStats")
                total += job.tokens * price / 1e6 if billed else PRICE.high or 0.0
        return total

    def _created(self) -> None:
        cost = self._cost()
        self.result.most_committed = max(self.result.most_committed, cost)
        if cost > self.result.budget + 1e-6:
            self.result.problems.append(f"${cost:.2f} are committed of ${self.result.budget:.2f}")

    def _settle(self) -> None:
        """Let everything end, without outages and new submissions."""
        for _ in range(6):
            self.world.run(self.world.now + 10 * HOUR)
            with WorldSession(ENVIRONMENT, self.world) as session:
                ledger = StateLedger(session)
                view = looking.look(session, ledger, places=self.places)
                for name in view.entries:
                    queueing.settle(ledger, view, name)

    def _judge(self) -> None:
        result, world = self.result, self.world
        seen = Counter(
            (job.document["labels"][MANIFEST_LABEL], job.document["labels"][ATTEMPT_LABEL])
            for jobs in world.jobs.values()
            for job in jobs.values()
        )
        result.problems += [
            f"{name}, attempt {number}: {count} jobs" for (name, number), count in seen.items() if count > 1
        ]
        records = {record.name: record for record in self._records()}
        result.problems += [f"{name} has no record" for name in self.names if name not in records]
        result.problems += [
            f"{name}, attempt {number}: the record knows nothing of its job"
            for name, number in seen
            if int(number) > records[name].run.attempt
            or (int(number) == records[name].run.attempt and records[name].run.phase != "submitted")
        ]
        for name, record in records.items():
            result.problems += [
                f"{name}: attempt {number} was never made"
                for number in range(1, record.run.attempt)
                if (name, str(number)) not in seen
            ]
            if record.run.phase in ("refused", "withdrawn", "claimed"):
                result.problems.append(f"{name} is {record.run.phase}: {record.run.problem}")
            state = record.run.outcome.state if record.run.outcome else ""
            result.succeeded += state == "JOB_STATE_SUCCEEDED"
            result.failed_for_good += state == "JOB_STATE_FAILED"
            result.waiting += record.run.phase == "queued"
            if record.run.phase == "submitted" and not state:
                result.problems.append(f"{name} has not ended")
        result.created = sum(seen.values())
        result.kills, result.lost_answers, result.requests = world.kills, world.lost, world.requests
        result.refused_by_quota = world.refused
        result.spent = self._cost()
        committed = sum(record.committed_usd for record in records.values())
        if abs(committed - result.spent) > 0.01:
            result.problems.append(f"the records say ${committed:.2f}, the jobs cost ${result.spent:.2f}")
        total = sum(self.compared.values())
        if total:
            share = total / len(TEAMS)
            result.unfairness = max(abs(self.compared[team] - share) / share for team in TEAMS)
            result.used_share = total / (result.slots * result.hours_compared * HOUR)
            # In a short time, the granularity is one job.
            result.tolerance = MOST_UNFAIR + 8 * HOUR / share if result.hours_compared < 24 else MOST_UNFAIR
        if result.unfairness > result.tolerance:
            result.problems.append(f"teams differ by {result.unfairness:.0%}: {dict(self.compared)}")


def main() -> int:
    """Run one simulation and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--projects", type=int, default=40)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--budget-share", type=float, default=1.2)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    result = Simulation(**{key: getattr(given, key) for key in vars(given)}).run()
    print(json.dumps(result.to_json(), indent=2))
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main())
