"""A comparison of several jobs: their parameters, and which of them has the best result for its price."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import Billed, billed
from runner.jobs.following.results import Results
from runner.jobs.labels import ATTEMPT_LABEL, IDENTITY_LABEL, MANIFEST_LABEL

SWEEP_LABEL = "sweep"
"""Label for the jobs of a sweep that are submitted individually."""
PARAMETERS = {
    "base model": "base_model",
    "mode": "mode",
    "epochs": "epochs",
    "learning rate": "learning_rate",
    "adapter size": "adapter_size",
    "batch size": "batch_size",
    "training dataset": "training_dataset_uri",
    "validation dataset": "validation_dataset_uri",
    "start weights": "custom_base_model",
}
"""Maps a column title to a field of the job."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """A job in a ranking."""

    job: TuningJob
    last_loss: float | None
    """Training loss."""
    validation_loss: float | None
    """Whether it is the best job."""
    billed: Billed | None

    @property
    def order(self) -> tuple[float, float, float]:
        """Return the sort key of a job: validation loss, then jobs with only a training loss, then the price."""
        infinite = float("inf")
        price = infinite if self.billed is None or self.billed.usd is None else self.billed.usd
        if self.validation_loss is not None:
            return 0.0, self.validation_loss, price
        # A loss on other data cannot be compared with one on the validation file.
        return 1.0, infinite if self.last_loss is None else self.last_loss, price

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {
            "id": self.job.id,
            "name": self.job.display_name,
            "state": self.job.state,
            "validationLoss": self.validation_loss,
            "trainingLoss": self.last_loss,
            "usd": None if self.billed is None or self.billed.usd is None else round(self.billed.usd, 6),
            "parameters": {title: getattr(self.job, name) for title, name in PARAMETERS.items()},
        }


def ranked(jobs: Iterable[TuningJob], results: Mapping[str, Results]) -> list[Ranked]:
    """Return the jobs, starting with the best.

    Args:
        jobs: in any order; equal jobs keep their order.
        results: the measurements of each job, by ID.
    """
    found = []
    for job in jobs:
        summary = results[job.id].summary()
        found.append(Ranked(job, summary.get("lastLoss"), summary.get("bestValidationLoss"), billed(job)))
    return sorted(found, key=lambda item: item.order)


def parameters(jobs: Sequence[TuningJob]) -> list[tuple[str, list[Any], bool]]:
    """Return the title, the value of each job, and whether they differ; parameters that no job has are omitted."""
    found = []
    for title, name in PARAMETERS.items():
        values = [getattr(job, name) for job in jobs]
        if any(value not in (None, "") for value in values):
            found.append((title, values, len(set(map(str, values))) > 1))
    return found


def jobs_of_sweep(jobs: Iterable[TuningJob], name: str) -> list[TuningJob]:
    """Return the jobs of a sweep: those of the manifest with this name, or those with the label `sweep`.

    Of a repeated job, only the last attempt counts.
    """
    latest: dict[tuple[str, str], TuningJob] = {}
    for job in jobs:
        manifest = job.labels.get(MANIFEST_LABEL, "")
        if job.labels.get(SWEEP_LABEL) != name and manifest != name and not manifest.startswith(f"{name}-"):
            continue
        key = (manifest, job.labels.get(IDENTITY_LABEL, "")) if manifest else ("", job.id)
        if key not in latest or _attempt(job) > _attempt(latest[key]):
            latest[key] = job
    return list(latest.values())


def _attempt(job: TuningJob) -> int:
    text = job.labels.get(ATTEMPT_LABEL, "1")
    return int(text) if text.isdecimal() else 1
