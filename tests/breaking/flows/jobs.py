"""Command lines of the sweep that make jobs."""

from __future__ import annotations

from runner.gcp import tuning_jobs
from runner.jobs.specification import TuningJobSpec
from runner.jobs.submitting.submission import submit_once
from tests.breaking.flows.flow import DATA, Flow
from tests.breaking.world import Ended
from tests.jobs.manifests.folder import MODEL, Manifests


class _Jobs(Flow):
    others = 0
    """Jobs that are there before."""

    def waits(self, ended: Ended) -> bool:
        """Tell whether it was said that the job waits for quota."""
        return False

    def jobs(self) -> list[tuning_jobs.TuningJob]:
        return tuning_jobs.list_jobs(self.place.direct)

    def after(self, ended: Ended) -> list[str]:
        found = self.jobs()
        wrong = [f"{len(found)} jobs"] if len(found) > self.others + 1 else []
        if ended.code == 0 and not self.waits(ended):
            wrong += [] if len(found) == self.others + 1 else [f"success, and {len(found)} jobs"]
            wrong += [] if any(job.id in ended.out for job in found) else ["the answer does not name the job"]
        return wrong

    def finally_(self, ended: Ended) -> list[str]:
        found = self.jobs()
        return [] if len(found) == self.others + 1 else [f"{len(found)} jobs in the end"]


class Submit(_Jobs):
    """`jobs submit` of a local file."""

    name = "submit"

    def prepare(self) -> None:
        """Write the dataset."""
        (self.place.folder / "train.jsonl").write_bytes(DATA)

    def command(self) -> list[str]:
        """Submit."""
        data = str(self.place.folder / "train.jsonl")
        return ["jobs", "submit", "--model", MODEL, "--train", data, "--yes", "--format", "json"]


class Clone(_Jobs):
    """`jobs clone` with one value changed."""

    name = "clone"
    others = 1

    def prepare(self) -> None:
        """Submit the job to be cloned."""
        data = self.place.put(DATA, "train.jsonl", self.place.environment.datasets_bucket)
        self.job = submit_once(self.place.direct, TuningJobSpec(base_model=MODEL, training_dataset=data)).job

    def command(self) -> list[str]:
        """Clone it."""
        return ["jobs", "clone", self.job.id, "--set", "epochs=5", "--yes", "--format", "json"]


class Apply(_Jobs):
    """`apply` of one manifest, with room in the quota."""

    name = "apply"

    def prepare(self) -> None:
        """Write the manifest."""
        folder = self.place.folder / "jobs"
        folder.mkdir()
        (folder / "train.jsonl").write_bytes(DATA)
        Manifests(folder).add("tone", spec="maxCost: 5")

    def waits(self, ended: Ended) -> bool:
        """Tell whether it was said that the job waits, as it does after a 429."""
        return '"what": "waiting"' in ended.out

    def command(self) -> list[str]:
        """Apply it."""
        return ["apply", "-f", str(self.place.folder / "jobs"), "--quota", "9", "--format", "json"]


class Queue(Apply):
    """`queue run --once` of a job that waits."""

    name = "queue"

    def prepare(self) -> None:
        """Queue it."""
        super().prepare()
        queued = self.place.run([*super().command()[:-3], "0", "--format", "json"], broken=False)
        assert queued.code == 0, queued.told

    def command(self) -> list[str]:
        """Submit what waits."""
        return ["queue", "run", "--once", "--quota", "9", "--format", "json"]

    def again(self) -> list[str]:
        """Apply, which queues a job again that was refused."""
        return Apply.command(self)
