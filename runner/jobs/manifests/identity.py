"""The identity of a job: its name, location and specification, and the contents of its data."""

from __future__ import annotations

from typing import Any

from runner.environment import Environment
from runner.gcp.tuning_jobs import TuningJob
from runner.jobs.labels import (
    ATTEMPT_LABEL,
    FINGERPRINT_LABEL,
    IDENTITY_LABEL,
    MANAGED_LABEL,
    MANAGED_VALUE,
    MANIFEST_LABEL,
    digest,
)
from runner.jobs.manifests.records import Record, Run
from runner.jobs.specification import TuningJobSpec

IDENTITY_VERSION = 1
"""Increase this when an input is added or changes its meaning; every job then counts as changed."""


def inputs_of(
    spec: TuningJobSpec, *, train: str, validation: str | None, after: str | None, revision: int
) -> dict[str, Any]:
    """Return the values that determine a job's result, without unset values.

    Args:
        spec: the resolved specification.
        train: digest of the training data.
        validation: digest of the validation data.
        after: `NAME@IDENTITY` of the job whose weights this job continues from.
        revision: revision of the manifest.
    """
    work = spec.work()
    output = work.pop("outputUri")
    found = {
        **work,
        "output": output,
        "from": after,
        "data.train": train,
        "data.validation": validation,
        "revision": revision if revision != 1 else None,
    }
    return {key: value for key, value in found.items() if value not in (None, "", False)}


def identity_of(environment: Environment, name: str, inputs: dict[str, Any]) -> str:
    """Return 52 characters of a-z and 2-7."""
    return digest({"version": IDENTITY_VERSION, "parent": environment.parent, "name": name, "inputs": inputs})


def labels_of(name: str, run: Run) -> dict[str, str]:
    """Return all labels of the tuning job of a run."""
    return {
        **run.labels,
        MANAGED_LABEL: MANAGED_VALUE,
        MANIFEST_LABEL: name,
        IDENTITY_LABEL: run.identity,
        ATTEMPT_LABEL: str(run.attempt),
        FINGERPRINT_LABEL: digest({"identity": run.identity, "attempt": run.attempt}),
    }


def request_fields(environment: Environment, name: str, run: Run, weights: str | None) -> dict[str, Any]:
    """Return the arguments of `tuning_jobs.create` for a run.

    Args:
        environment: contains the outputs bucket.
        name: name of the manifest job.
        run: the run.
        weights: folder of the job whose weights this job continues from.
    """
    suffix = "" if run.attempt == 1 else f"-{run.attempt}"
    # A repetition writes to its own folder, unless the manifest names a folder.
    output = f"gs://{environment.outputs_bucket}/tuned/{name}-{run.identity[:10]}{suffix}"
    fields = {"output_uri": output, **run.fields, "display_name": f"{name}{suffix}", "labels": labels_of(name, run)}
    if weights:
        fields["custom_base_model"] = weights
    return fields


def jobs_by_identity(jobs: list[TuningJob]) -> dict[tuple[str, str], list[TuningJob]]:
    """Return jobs by (name, identity), from their labels, the latest attempt first."""
    found: dict[tuple[str, str], list[TuningJob]] = {}
    for job in jobs:
        key = (job.labels.get(MANIFEST_LABEL, ""), job.labels.get(IDENTITY_LABEL, ""))
        if all(key):
            found.setdefault(key, []).append(job)
    for same in found.values():
        same.sort(key=attempt_of, reverse=True)
    return found


def of_attempt(jobs: dict[tuple[str, str], list[TuningJob]], record: Record) -> list[TuningJob]:
    """Return the jobs of the current attempt in a record; several only if it is not known which of them counts.

    If there are several, running and succeeded jobs count, or the newest one if there are none. If the record names one
    of them, only that one counts.
    """
    same = jobs.get((record.name, record.run.identity), [])
    attempt = [job for job in same if attempt_of(job) == record.run.attempt]
    if len(attempt) < 2:
        return attempt
    alive = [job for job in attempt if job.alive]
    named = [job for job in alive if job.name == record.run.job]
    return named or alive or [max(attempt, key=lambda job: (str(job.create_time), job.id))]


def attempt_of(job: TuningJob) -> int:
    """Return the number of the attempt that a job is."""
    text = job.labels.get(ATTEMPT_LABEL, "1")
    return int(text) if text.isascii() and text.isdigit() else 1
