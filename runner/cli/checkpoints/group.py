"""`runner checkpoints`: the weights of a job."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import click

from runner.cli import commands
from runner.cli.cost_gate import require_confirmed
from runner.cli.jobs.group import found_job, job_name
from runner.cli.options import Invocation, job_argument, together
from runner.cli.text import size
from runner.cli.values import FOLDER, Count
from runner.wording import camel_keys, counted

if TYPE_CHECKING:
    from runner.gcp.session import Session
    from runner.jobs.outputs.checkpoints import Checkpoint

command = commands.Group(
    name="checkpoints",
    help="List, download, export and prune the weights of a tuning job. JOB is an ID or its beginning, a name, or "
    "`latest`.",
    examples=("runner checkpoints ls latest", "runner checkpoints download latest --to ./tuned"),
    lazy={
        "ls": ("runner.cli.checkpoints.group:ls", "List a job's checkpoints."),
        "download": ("runner.cli.checkpoints.group:download", "Download a checkpoint and verify it."),
        "export": (
            "runner.cli.checkpoints.export:export",
            "Download a checkpoint with instructions to run it elsewhere.",
        ),
        "prune": ("runner.cli.checkpoints.group:prune", "Delete intermediate checkpoints."),
    },
)


download_options = together(
    job_argument,
    click.option(
        "--id",
        "checkpoint",
        default="final",
        show_default=True,
        help="Checkpoint number; `runner checkpoints ls` lists them.",
    ),
    click.option(
        "--to",
        type=FOLDER,
        metavar="DIRECTORY",
        help="Destination folder [default: JOB-ID].",
    ),
    click.option("--force", is_flag=True, help="Overwrite files that differ."),
)
"""`job`, `checkpoint`, `to` and `force`: what to download, and where."""


def downloaded(
    invocation: Invocation, session: Session, job: str, checkpoint: str, to: Path | None, *, force: bool
) -> tuple[Checkpoint, Path, list[Path]]:
    """Download a checkpoint, and return it with its folder and its files. Takes the full name of a job."""
    from runner.jobs.outputs import checkpoints

    found = checkpoints.find_checkpoint(session, job, checkpoint)
    directory = to or Path(f"{job.rsplit('/', 1)[-1]}-{found.id}")
    with invocation.output.progress("download") as progress:
        return found, directory, checkpoints.download(session, found, directory, progress=progress, force=force)


@commands.command(name="ls", examples=("runner checkpoints ls latest", "runner checkpoints ls 1234567890 -q"))
@job_argument
@click.pass_obj
def ls(invocation: Invocation, job: str) -> None:
    """List the checkpoints of JOB; `final` is what to deploy."""
    from runner.jobs.outputs.checkpoints import list_checkpoints

    with invocation.session() as session:
        found = list_checkpoints(session, job_name(session, job))
    invocation.output.table(
        ["id", "epoch", "step", "size", "files", "address"],
        [[item.id, item.epoch, item.step, size(item.size), item.files, item.uri] for item in found],
        body=[camel_keys(dataclasses.asdict(item)) for item in found],
        names=[item.uri for item in found],
        numbers=(1, 2, 3, 4),
        droppable=("files", "epoch", "address"),
        empty="no checkpoints yet",
    )


@commands.command(
    name="download",
    examples=("runner checkpoints download latest --to ./tuned", "runner checkpoints download 1234567890 --id 2"),
)
@download_options
@click.pass_obj
def download(invocation: Invocation, job: str, checkpoint: str, to: Path | None, force: bool) -> None:
    """Download a checkpoint of JOB. Every file is verified; existing files are not downloaded again."""
    with invocation.session() as session:
        name = job_name(session, job)
        found, directory, paths = downloaded(invocation, session, name, checkpoint, to, force=force)
    body = {"directory": str(directory), "files": [str(path) for path in paths], "bytes": found.size}
    text = f"{counted(len(paths), 'file')}, {size(found.size)}, in {directory}"
    invocation.output.result(body, text, name=str(directory))


@commands.command(
    name="prune",
    changes=True,
    examples=("runner checkpoints prune latest", "runner checkpoints prune 1234567890 --keep 1 --delete --yes"),
)
@job_argument
@click.option("--keep", type=Count(0), default=0, show_default=True, help="Number of most recent checkpoints to keep.")
@click.option(
    "--delete",
    "delete_them",
    is_flag=True,
    help="Delete the listed checkpoints after confirmation; without this option, only list them.",
)
@click.pass_obj
def prune(invocation: Invocation, job: str, keep: int, delete_them: bool) -> None:
    """List the intermediate checkpoints of JOB that are no longer needed, and optionally delete them.

    The final checkpoint is always kept. Only jobs that have ended and that this tool submitted are pruned, and only in
    their own folder.
    """
    from runner.jobs.outputs import pruning

    output = invocation.output
    with invocation.session() as session:
        planned = pruning.plan(session, found_job(session, job), keep_last=keep)
        ids = [item.id for item in planned.delete]
        kept = ", ".join(item.id for item in planned.keep) or "none"
        body = {"delete": ids, "keep": [item.id for item in planned.keep], "bytes": planned.size, "deleted": False}
        text = f"{counted(len(ids), 'checkpoint')} ({', '.join(ids) or 'none'}), {size(planned.size)}; kept: {kept}"
        if not ids or not delete_them:
            output.result(body, text, name=ids)
            if ids:
                output.note("nothing was deleted; run again with --delete to delete them")
            return
        what = f"deleting {counted(len(ids), 'checkpoint')} of job {planned.job.id}"
        require_confirmed(invocation, f"Delete {text}?", what)
        with output.progress("delete") as progress:
            changed = pruning.carry_out(session, planned, progress=progress)
    body |= {"deleted": True, "leftAlone": changed}
    output.result(body, f"deleted {text}", name=ids)
    for uri in changed:
        output.warning(f"{uri} changed in the meantime and was not deleted")
