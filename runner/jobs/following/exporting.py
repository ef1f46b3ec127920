"""Export a job's measurements to a tracker: TensorBoard event files, MLflow, or Weights & Biases.

Each export uses the tracker's own package, which is an extra of this package and is imported only here.
"""

from __future__ import annotations

import datetime
import importlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from runner import times
from runner.errors import ConfigurationError, EngineMissingError
from runner.gcp.tuning_jobs import TuningJob
from runner.installation import install_hint
from runner.jobs.following.results import Measurement, Results

Target = Literal["tensorboard", "mlflow", "wandb"]
PACKAGES: dict[Target, str] = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
"""The package that each tracker requires."""
JOB_TAG = "open-model-tuning.job"
"""Tag of MLflow runs that contains the full name of the job."""
_FORCE = "--force writes it again"
_BATCH = 1000
"""Maximum number of metrics in one request to MLflow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Where the measurements of a job were written."""

    target: Target
    place: str
    """A folder or an address."""
    run: str
    """The tracker's ID of the run; for TensorBoard, the name of its folder."""
    measurements: int

    def to_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"target": self.target, "place": self.place, "run": self.run, "measurements": self.measurements}


def export_to(
    target: Target, job: TuningJob, results: Results, *, place: str, experiment: str, force: bool = False
) -> Exported:
    """Write a job's measurements, configuration and results to a tracker.

    Args:
        target: the tracker.
        job: a running or ended job.
        results: the job's measurements.
        place: a folder, or for MLflow also a tracking address. "" is the tracker's own default.
        experiment: the experiment of MLflow, or the project of W&B; TensorBoard has none.
        force: write again if the job was exported before.

    Raises:
        ConfigurationError: the job was exported before.
        EngineMissingError: the tracker's package is not installed.
    """
    package = _package(target)
    writers = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
    place, run = writers[target](package, job, results, place, experiment, force)
    return Exported(target=target, place=place, run=run, measurements=len(results.measurements))


def _package(target: Target) -> Any:
    try:
        return importlib.import_module(PACKAGES[target])
    except ImportError as error:
        raise EngineMissingError(
            f"exporting to {target} needs the package {PACKAGES[target]}",
            hint=install_hint(target),
        ) from error


def metrics_of(item: Measurement) -> Iterator[tuple[str, float]]:
    """Return the names and values of one measurement, equal for all trackers."""
    if item.loss is not None:
        yield ("loss/train" if item.kind == "step" else "loss/validation"), item.loss
    for name, value in (("learning_rate", item.learning_rate), ("tokens", item.tokens), ("epoch", item.epoch)):
        if value is not None and item.kind == "step":
            yield name, float(value)


def configuration_of(job: TuningJob) -> dict[str, Any]:
    """Return the values of a job's specification that are set."""
    values = {
        "base_model": job.base_model,
        "custom_base_model": job.custom_base_model,
        "mode": job.mode,
        "epochs": job.epochs,
        "learning_rate": job.learning_rate,
        "adapter_size": job.adapter_size,
        "batch_size": job.batch_size,
        "training_dataset": job.training_dataset_uri,
        "validation_dataset": job.validation_dataset_uri,
        "output": job.output_uri,
    }
    return {key: value for key, value in values.items() if value not in (None, "")}


def _tensorboard(
    package: Any, job: TuningJob, results: Results, place: str, experiment: str, force: bool
) -> tuple[str, str]:
    folder = Path(place or "runs") / job.id
    before = sorted(folder.glob("events.out.tfevents.*"))
    if before and not force:
        raise ConfigurationError(f"{folder} has event files", hint=_FORCE)
    for path in before:
        path.unlink()  # first, because files of the same second have the same name
    writer = package.SummaryWriter(logdir=str(folder))
    lines = "".join(f"    {key}: {value}\n" for key, value in configuration_of(job).items())
    writer.add_text("configuration", lines, walltime=_seconds(job.create_time))
    for item in results.measurements:
        for name, value in metrics_of(item):
            writer.add_scalar(name, value, item.step, walltime=_when(item, job))
    writer.close()
    return str(folder), job.id


def _mlflow(
    package: Any, job: TuningJob, results: Results, place: str, experiment: str, force: bool
) -> tuple[str, str]:
    entities = importlib.import_module("mlflow.entities")
    uri = (place if "://" in place else Path(place).absolute().as_uri()) if place else None
    client = package.MlflowClient(tracking_uri=uri)
    there = client.get_experiment_by_name(experiment)
    number = there.experiment_id if there else client.create_experiment(experiment)
    before = client.search_runs([number], filter_string=f"tags.`{JOB_TAG}` = '{job.name}'")
    if before and not force:
        raise ConfigurationError(f"experiment {experiment} has a run of job {job.id}", hint=_FORCE)
    tags = {JOB_TAG: job.name, "mlflow.runName": job.display_name or job.id, **job.labels}
    run = client.create_run(number, start_time=_milliseconds(_seconds(job.start_time)), tags=tags).info.run_id
    params = [entities.Param(key, str(value)) for key, value in configuration_of(job).items()]
    metrics = [
        entities.Metric(name, value, _milliseconds(_when(item, job)) or 0, item.step)
        for item in results.measurements
        for name, value in metrics_of(item)
    ]
    client.log_batch(run, params=params)
    for start in range(0, len(metrics), _BATCH):
        client.log_batch(run, metrics=metrics[start : start + _BATCH])
    if job.ended:
        status = "FINISHED" if job.succeeded else "KILLED" if "CANCEL" in job.state else "FAILED"
        client.set_terminated(run, status, _milliseconds(_seconds(job.end_time)))
    for earlier in before:
        client.delete_run(earlier.info.run_id)
    return str(uri or package.get_tracking_uri()), str(run)


def _wandb(package: Any, job: TuningJob, results: Results, place: str, experiment: str, force: bool) -> tuple[str, str]:
    """Write one run with the job's ID. Environment variables select its mode (`WANDB_MODE=offline`)."""
    folder = Path(place or ".")
    before = sorted(folder.glob(f"wandb/*run-*-{job.id}"))
    if before and not force:
        raise ConfigurationError(f"{before[0]} is a run of job {job.id}", hint=_FORCE)
    folder.mkdir(parents=True, exist_ok=True)
    run = package.init(
        project=experiment,
        id=job.id,
        name=job.display_name or job.id,
        dir=str(folder),
        config=configuration_of(job),
        tags=[f"{key}={value}"[:64] for key, value in job.labels.items() if not key.startswith("runner-")],
        notes=job.name,
        settings=package.Settings(silent=True, console="off", disable_git=True, save_code=False),
    )
    by_step: dict[int, dict[str, float]] = {}
    for item in results.measurements:
        by_step.setdefault(item.step, {}).update(metrics_of(item))
    for step in sorted(by_step):  # it accepts steps only in order
        run.log(by_step[step], step=step)
    run.summary["state"] = job.state.removeprefix("JOB_STATE_")
    place = str(run.settings.sync_dir)
    run.finish(exit_code=0 if job.alive else 1)
    return place, str(job.id)


def _when(item: Measurement, job: TuningJob) -> float:
    """Return the time of a measurement in seconds since 1970, or the job's creation time if it has none."""
    measured = times.seconds_of(item.time)
    return measured if measured is not None else _seconds(job.create_time) or 0.0


def _seconds(moment: datetime.datetime | None) -> float | None:
    return moment.timestamp() if moment else None


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
