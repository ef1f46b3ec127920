"""`runner checkpoints export`: weights with instructions for other systems."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from runner.cli import commands
from runner.cli.checkpoints.group import download_options, downloaded
from runner.cli.checkpoints.push import check_push, push_options, push_weights
from runner.cli.jobs.group import job_name
from runner.cli.options import Invocation


@commands.command(
    name="export",
    examples=(
        "runner checkpoints export latest --to ./tuned",
        "runner checkpoints export 1234567890 --id 2",
        "runner checkpoints export latest --to ./tuned --push me/my-model",
    ),
)
@download_options
@push_options
@click.pass_obj
def export(
    invocation: Invocation,
    job: str,
    checkpoint: str,
    to: Path | None,
    force: bool,
    push: str | None,
    public: bool,
) -> None:
    """Download a checkpoint of JOB, verify its files, and add instructions to run the model elsewhere.

    HOW-TO-RUN.md contains the commands for Transformers, vLLM and llama.cpp. Files that could run code when they are
    loaded, and incomplete weights, are refused. For weights from the emulator, they also name the small model that
    stood in for the base model.

    --push uploads the files to the Hugging Face Hub, or to a hub with the same API (HF_ENDPOINT). Log in first with `hf
    auth login`, or set HF_TOKEN. The command refuses weights that do not match the instructions, and overwrites
    nothing. To resume an interrupted push, run the command again.
    """
    check_push(push, public=public)
    from runner.gcp import tuning_jobs
    from runner.serving.export import inspect, require_claim, write_instructions

    with invocation.session() as session:
        name = job_name(session, job)
        base_model = tuning_jobs.get(session, name).base_model
        _, directory, _ = downloaded(invocation, session, name, checkpoint, to, force=force)
    weights = inspect(directory)
    path = write_instructions(directory, weights, base_model=base_model, job=name.rsplit("/", 1)[-1])
    body: dict[str, Any] = {
        "directory": str(directory),
        "instructions": str(path),
        "baseModel": base_model,
        **weights.to_json(),
    }
    if push is not None:
        require_claim(weights, base_model)
    pushed = push_weights(invocation, directory, push, public=public) if push is not None else None
    if pushed is not None:
        body["push"] = pushed
    pairs = [
        ("weights", str(directory)),
        ("model", f"{weights.architecture}, {weights.parameters / 1e6:,.1f} million parameters"),
        ("stand-in", f"{weights.stand_in}, not {base_model}" if weights.stand_in else None),
        ("how to run", str(path)),
        ("pushed to", pushed["commit"] or pushed["url"] if pushed else None),
    ]
    invocation.output.result(body, pairs, name=str(directory))
