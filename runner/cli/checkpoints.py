"""`runner checkpoints`: the weights that a job left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from runner.cli import commands
from runner.cli.jobs import job_name
from runner.cli.options import Invocation
from runner.cli.text import size

command = commands.Group(
    name="checkpoints",
    help="The weights that a tuning job left in Cloud Storage. JOB is an id, a full name, or `latest`.",
    examples=("runner checkpoints ls latest", "runner checkpoints download latest --to ./tuned"),
    lazy={
        "ls": ("runner.cli.checkpoints:ls", "List a job's checkpoints."),
        "download": ("runner.cli.checkpoints:download", "Download one, verified."),
    },
)


@commands.command(name="ls", examples=("runner checkpoints ls latest", "runner checkpoints ls 1234567890 -q"))
@click.argument("job", metavar="JOB")
@click.pass_obj
def ls(invocation: Invocation, job: str) -> None:
    """List the checkpoints of JOB; `final` is what to deploy."""
    from runner.jobs.checkpoints import list_checkpoints

    with invocation.session() as session:
        found = list_checkpoints(session, job_name(session, job))
    invocation.output.table(
        ["id", "epoch", "step", "size", "files", "address"],
        [[item.id, item.epoch, item.step, size(item.size), item.files, item.uri] for item in found],
        body=[dataclasses.asdict(item) for item in found],
        names=[item.uri for item in found],
        numbers=(1, 2, 3, 4),
        empty="no checkpoints yet",
    )


@commands.command(
    name="download",
    examples=("runner checkpoints download latest --to ./tuned", "runner checkpoints download 1234567890 --id 2"),
)
@click.argument("job", metavar="JOB")
@click.option("--id", "checkpoint", default="final", show_default=True, help="Which one: `runner checkpoints ls`.")
@click.option("--to", type=click.Path(path_type=Path), metavar="DIRECTORY", help="Where to [JOB-ID].")
@click.option("--force", is_flag=True, help="Overwrite files that differ.")
@click.pass_obj
def download(invocation: Invocation, job: str, checkpoint: str, to: Path | None, force: bool) -> None:
    """Download a checkpoint of JOB. Every file is verified; one that is there already is not fetched again."""
    from runner.jobs import checkpoints

    with invocation.session() as session:
        name = job_name(session, job)
        found = checkpoints.find_checkpoint(session, name, checkpoint)
        directory = to or Path(f"{name.rsplit('/', 1)[-1]}-{found.id}")
        with invocation.output.progress("download") as progress:
            paths = checkpoints.download(session, found, directory, progress=progress, force=force)
    body = {"directory": str(directory), "files": [str(path) for path in paths], "bytes": found.size}
    text = f"{len(paths)} files, {size(found.size)}, in {directory}"
    invocation.output.result(body, text, name=str(directory))
