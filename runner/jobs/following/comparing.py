"""A comparison of two jobs: specification, data and results."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from runner.gcp import storage
from runner.gcp.session import Session, place_of
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.following.progress import billed
from runner.jobs.following.results import results_of
from runner.jobs.repeating import reproduction
from runner.jobs.repeating.cloning import specification_of
from runner.wording import state_words

Section = Literal["configuration", "data", "result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One value of each job."""

    section: Section
    name: str
    first: Any
    second: Any

    @property
    def same(self) -> bool:
        """Return whether the values are equal."""
        return bool(self.first == self.second)

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {**dataclasses.asdict(self), "same": self.same}


def compare(session: Session, first: TuningJob, second: TuningJob) -> list[Comparison]:
    """Return every value that at least one of two jobs has, section by section. Changes nothing.

    Data is compared by the service's counts and, if both jobs have a run manifest, by checksum, because an object can
    be replaced under the same address.
    """
    found: list[Comparison] = []
    sections: list[tuple[Section, Any]] = [("configuration", _configuration), ("data", _data), ("result", _result)]
    for section, read in sections:
        left, right = read(session, first), read(session, second)
        names = dict.fromkeys([*left, *right])
        found += [
            Comparison(section=section, name=name, first=left.get(name), second=right.get(name))
            for name in names
            if left.get(name) is not None or right.get(name) is not None
        ]
    return found


def _configuration(session: Session, job: TuningJob) -> dict[str, Any]:
    body = dataclasses.asdict(specification_of(session, job))
    for name in ("training_dataset", "validation_dataset", "output_uri", "labels"):
        body.pop(name)
    body["location"] = place_of(job.name)[1]
    body |= {f"labels.{key}": value for key, value in sorted(job.labels.items()) if not key.startswith("runner-")}
    return {name: value for name, value in body.items() if value not in ("", None, False)}


def _data(session: Session, job: TuningJob) -> dict[str, Any]:
    stats = job.data_stats
    values: dict[str, Any] = {"training": job.training_dataset_uri, "validation": job.validation_dataset_uri or None}
    checksums = reproduction.checksums_of(session, job)
    for role in ("training", "validation"):
        values[f"{role} checksum"] = checksums.get(role)
    for label, name in (
        ("examples", "tuningDatasetExampleCount"),
        ("dropped", "totalTruncatedExampleCount"),
        ("billable tokens per epoch", "totalBillableTokenCount"),
        ("steps", "tuningStepCount"),
    ):
        values[label] = int(stats[name]) if name in stats else None
    template = reproduction.template_of(session, job) if job.succeeded else None
    values["chat template"] = f"{template['file']} {template['crc32c']}" if template else None
    return values


def _result(session: Session, job: TuningJob) -> dict[str, Any]:
    used = billed(job)
    seconds = (job.end_time - job.start_time).total_seconds() if job.end_time and job.start_time else None
    weights = None
    if job.succeeded:
        objects = storage.list_objects(session, f"{job.final_checkpoint_uri}/")
        weights = sum(item.size for item in objects if item.uri.endswith(".safetensors"))
    return {
        "state": state_words(job.state),
        "error": job.error_message or None,
        **results_of(session, job).summary(),
        "seconds": round(seconds, 1) if seconds is not None else None,
        "list price USD": round(used.usd, 6) if used and used.usd is not None else None,
        "bytes of weights": weights,
    }
