"""Put many manifests through a small quota, and see whether their jobs came in the order that was promised."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from runner.gcp import fleet
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import MANIFEST_LABEL
from runner.jobs.manifests import looking, queueing
from runner.jobs.manifests.applying import apply_plan
from runner.jobs.manifests.planning import make_plan
from runner.jobs.manifests.records import StateLedger
from tests.jobs.conftest import contract_bucket, set_quota
from tests.jobs.manifests.folder import Manifests, jobs_of
from tests.projects import environment_of
from tests.provisioning import Provisioned

TEAMS = "aaaaaaabbc"
"""Of every ten manifests."""
URGENT = 7
"""Every so many has a higher priority."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the queue did."""

    jobs: list[TuningJob]
    """In the order in which they were created."""
    problems: list[str]
    seconds: float


def put_through(project: Provisioned, folder: Path, *, manifests: int, quota: int, patience: float) -> Outcome:
    """Apply manifests of several teams and priorities, run the queue until it is empty, and check the order."""
    set_quota(project, quota)
    environment = dataclasses.replace(environment_of(project), contract_bucket=contract_bucket(project))
    written = Manifests(folder)
    (folder / "train.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 4)
    for number in range(manifests):
        priority = "\npriority: 5" if number % URGENT == URGENT - 1 else ""
        team = f"{{team: {TEAMS[number % len(TEAMS)]}}}"
        written.add(f"job-{number:03}", labels=team, spec=f"maxCost: 5{priority}")
    start = time.monotonic()
    with Session(environment) as session:
        plan = make_plan(session, [folder], preflight=False)
        apply_plan(session, plan, fair_by="team")
        while time.monotonic() - start < patience:
            steps = queueing.advance(session, limit=fleet.tuning_quota(session).limit, fair_by="team")
            waits = any(step.what == "waiting" for step in steps)
            if not waits and not queueing.unfinished(looking.look(session, StateLedger(session))):
                break
            time.sleep(0.1)
        jobs = jobs_of(session)
        seconds = time.monotonic() - start
        priorities = {job.name: job.run.priority for job in plan.jobs}
    return Outcome(jobs=jobs, problems=problems_of(jobs, priorities, quota), seconds=seconds)


def problems_of(jobs: list[TuningJob], priorities: dict[str, int], quota: int) -> list[str]:
    """Return how the jobs, in order of creation, differ from what the queue promises."""
    found = []
    names = [job.labels[MANIFEST_LABEL] for job in jobs]
    if sorted(names) != sorted(priorities):
        found.append(f"{len(names)} jobs of {len(priorities)} manifests")
    for index, job in enumerate(jobs):
        if not job.ended or job.end_time is None or job.create_time is None:
            found.append(f"{names[index]} has not ended")
            continue
        active = [
            other.labels["team"] for other in jobs[:index] if other.end_time is None or other.end_time > job.create_time
        ]
        waiting = jobs[index + 1 :]
        mine = priorities[names[index]]
        if len(active) >= quota:
            found.append(f"{names[index]} was created while {len(active)} were active")
        if any(priorities[other.labels[MANIFEST_LABEL]] > mine for other in waiting):
            found.append(f"{names[index]} overtook a higher priority")
        same = [other for other in waiting if priorities[other.labels[MANIFEST_LABEL]] == mine]
        counts = Counter(active)
        if any(counts[other.labels["team"]] < counts[job.labels["team"]] for other in same):
            found.append(f"{names[index]} was preferred to a team with fewer jobs")
        of_team = [other.labels[MANIFEST_LABEL] for other in same if other.labels["team"] == job.labels["team"]]
        if any(name < names[index] for name in of_team):
            found.append(f"{names[index]} overtook an earlier one of its team")
    return found
