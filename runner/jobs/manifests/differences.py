"""Differences between values: of a manifest and its last run, and of a run and its job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.manifests.records import DataVersion, Run


@dataclass(frozen=True, slots=True)
class Difference:
    """One value that differs; None for a missing value."""

    path: str
    before: Any
    after: Any

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"path": self.path, "before": self.before, "after": self.after}


def against_last_run(last: Run, inputs: dict[str, Any]) -> list[Difference]:
    """Return the differences between a job and its last run; digests are shortened."""
    keys = [*inputs, *(key for key in last.inputs if key not in inputs)]
    return [
        Difference(key, _short(last.inputs.get(key)), _short(inputs.get(key)))
        for key in keys
        if last.inputs.get(key) != inputs.get(key)
    ]


def against_live(run: Run, job: TuningJob) -> list[Difference]:
    """Return the differences between the job that the service shows and the specification in the record."""
    fields = run.fields
    pairs = {
        "baseModel": (fields.get("base_model"), job.base_model.removeprefix("publishers/").replace("/models/", "/", 1)),
        "mode": (fields.get("mode"), job.mode),
        "epochs": (fields.get("epochs"), job.epochs),
        "learningRate": (fields.get("learning_rate"), job.learning_rate),
        "adapterSize": (fields.get("adapter_size"), job.adapter_size),
        "batchSize": (fields.get("batch_size"), job.batch_size),
        "data.train": (fields.get("training_dataset"), job.training_dataset_uri),
        "data.validation": (fields.get("validation_dataset"), job.validation_dataset_uri or None),
        **{f"labels.{key}": (value, job.labels.get(key)) for key, value in run.labels.items()},
    }
    if fields.get("output_uri"):
        pairs["output"] = (fields["output_uri"], job.output_uri)
    # The service sets values that the specification omits; these are not differences.
    return [
        Difference(path, asked, live) for path, (asked, live) in pairs.items() if asked is not None and asked != live
    ]


def data_delta(last: Run | None, data: dict[str, DataVersion]) -> dict[str, Any]:
    """Return the rows and tokens of the training data, before and after; tokens None if they were not counted."""
    before = last.data.get("train") if last else None
    after = data.get("train")
    return {
        "rows": {"before": before.rows if before else None, "after": after.rows if after else None},
        "characters": {"before": before.characters if before else None, "after": after.characters if after else None},
    }


def _short(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("sha256:"):
        return value[:19]
    if isinstance(value, str) and "@" in value and len(value) > 52 and len(value.rpartition("@")[2]) == 52:
        return value[:-42]
    return value
