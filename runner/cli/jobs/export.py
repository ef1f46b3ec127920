"""`runner jobs export`: export the measurements of jobs to a tracker."""

from __future__ import annotations

from typing import Any

import click

from runner.cli.commands import command
from runner.cli.jobs.group import found_job
from runner.cli.options import Invocation, jobs_argument
from runner.cli.stand_ins import tell_of_job
from runner.cli.values import OneOf


@command(
    name="export",
    examples=(
        "runner jobs export latest --to tensorboard",
        "runner jobs export 1234567890 2345678901 --to mlflow --place https://mlflow.example.com",
        "WANDB_MODE=offline runner jobs export latest --to wandb --experiment support-tone",
    ),
)
@jobs_argument
@click.option(
    "--to", "target", required=True, type=OneOf(["tensorboard", "mlflow", "wandb"]), help="Experiment tracker."
)
@click.option(
    "--place",
    default="",
    metavar="FOLDER|ADDRESS",
    help="Folder, or an MLflow address [default: runs/; for MLflow, MLFLOW_TRACKING_URI; for W&B, the current folder].",
)
@click.option("--experiment", default="open-model-tuning", metavar="NAME", help="MLflow experiment or W&B project.")
@click.option("--force", is_flag=True, help="Export jobs again that were exported before.")
@click.pass_obj
def export(
    invocation: Invocation, jobs: tuple[str, ...], target: Any, place: str, experiment: str, force: bool
) -> None:
    """Export each JOB's losses, configuration and final state to TensorBoard, MLflow or Weights & Biases.

    Each job becomes one run. The command needs the tracker's package: install the extra tensorboard, mlflow or wandb.
    """
    from runner.jobs.following.exporting import export_to
    from runner.jobs.following.results import require_measurements, results_of

    done = []
    with invocation.session() as session:
        for text in jobs:
            job = found_job(session, text)
            results = results_of(session, job)
            tell_of_job(invocation, job, rates=True)
            require_measurements(job, results)
            done.append((job.id, export_to(target, job, results, place=place, experiment=experiment, force=force)))
    invocation.output.table(
        ["job", "run", "measurements", "place"],
        [[name, item.run, item.measurements, item.place] for name, item in done],
        body=[{"job": name, **item.to_json()} for name, item in done],
        names=[item.place for _, item in done],
        numbers=(2,),
        droppable=("measurements", "run"),
    )
    if target == "tensorboard":
        invocation.output.note(f"next: `tensorboard --logdir {place or 'runs'}`")
