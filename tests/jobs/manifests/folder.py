"""Write manifests as people do, and count what came of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runner.gcp import fleet
from runner.gcp.session import Session
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import MANIFEST_LABEL

MODEL = "meta/llama3_1@llama-3.1-8b-instruct"


@dataclass(frozen=True, slots=True)
class Manifests:
    """A folder of manifests."""

    folder: Path

    def add(self, name: str, *, labels: str = "{}", spec: str = "", hyper: str = "{epochs: 1}", data: str = "") -> Path:
        """Write a manifest, over one of that name; `spec` are further lines of YAML in it."""
        path = self.folder / f"{name}.yaml"
        more = "".join(f"  {line}\n" for line in spec.splitlines())
        path.write_text(
            "apiVersion: open-model-tuning/v1\n"
            "kind: TuningJob\n"
            f"metadata: {{name: {name}, labels: {labels}}}\n"
            "spec:\n"
            f"  baseModel: {MODEL}\n"
            f"  hyperparameters: {hyper}\n"
            f"  data: {data or '{train: train.jsonl}'}\n"
            f"{more}"
        )
        return path


def jobs_of(session: Session) -> list[TuningJob]:
    """Return all jobs of the session's project, oldest first."""
    return sorted(fleet.all_jobs(session), key=lambda job: (str(job.create_time), job.id))


def names_of(session: Session) -> list[str]:
    """Return which manifest each job is of, oldest first."""
    return [job.labels.get(MANIFEST_LABEL, "") for job in jobs_of(session)]
