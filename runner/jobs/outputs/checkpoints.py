"""The weights that a job has written to Cloud Storage."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConfigurationError, NotFoundError
from runner.gcp import tuning_jobs
from runner.gcp.downloads import download_prefix
from runner.gcp.session import Session
from runner.gcp.storage import ObjectInfo
from runner.gcp.tuning_jobs import JobCheckpoint, TuningJob
from runner.jobs.outputs.ownership import FOLDER, require_own, results_in

FINAL = "final"
_NUMBERED = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The weights at one point of the training."""

    id: str
    """`final`, or the number of the folder: 3 for `checkpoint-3`. The service numbers its checkpoints differently."""
    epoch: int | None
    """None if the service does not return it."""
    step: int | None
    uri: str
    """`gs://` folder, without a final slash."""
    size: int
    """Size in bytes."""
    files: int
    service_id: str = ""
    """`checkpointId` in the job's document; "" if the service does not list this checkpoint."""


def list_checkpoints(session: Session, job: TuningJob | str) -> list[Checkpoint]:
    """Return the checkpoints ordered by number, with the final one last; [] if there are none yet.

    Args:
        session: the project and location.
        job: a job, its ID or full name.

    Raises:
        NotFoundError: the job or its bucket does not exist.
        OutputTakenError: another job has written to its folder.
    """
    found = job if isinstance(job, TuningJob) else tuning_jobs.get(session, job)
    if not found.output_uri:
        return []
    require_own(session, found)
    base = f"{found.output_uri.rstrip('/')}/{FOLDER}/"
    folders: dict[str, list[ObjectInfo]] = {}
    for item in results_in(session, found.output_uri):
        folder, slash, _ = item.uri.removeprefix(base).partition("/")
        if slash and (folder == FINAL or _NUMBERED.fullmatch(folder)):
            folders.setdefault(folder, []).append(item)
    known = matched(found, [int(match[1]) for folder in folders if (match := _NUMBERED.fullmatch(folder))])
    last = max(found.checkpoints, key=lambda item: (item.step, item.epoch), default=None)
    checkpoints = []
    for folder, objects in folders.items():
        match = _NUMBERED.fullmatch(folder)
        short = match[1] if match else FINAL
        same = known.get(int(short)) if match else last
        checkpoints.append(
            Checkpoint(
                id=short,
                epoch=same.epoch if same else None,
                step=same.step if same else None,
                uri=f"{base}{folder}",
                size=sum(item.size for item in objects),
                files=len(objects),
                service_id=same.id if same else "",
            )
        )
    return sorted(checkpoints, key=lambda item: (item.id == FINAL, int(item.id) if item.id != FINAL else 0))


def matched(job: TuningJob, numbers: Iterable[int]) -> dict[int, JobCheckpoint]:
    """Return the service's checkpoints for the folders `checkpoint-N`, by N; folders without a checkpoint are omitted.

    The service counts its checkpoints from 1, and names folders after the epoch or the step. If the numbers are
    neither, the order determines the assignment, provided that each checkpoint has a folder.
    """
    wanted = sorted(set(numbers))
    for moment in ("epoch", "step"):
        by_moment = {getattr(item, moment): item for item in job.checkpoints}
        if len(by_moment) == len(job.checkpoints) and all(number in by_moment for number in wanted):
            return {number: by_moment[number] for number in wanted}
    if len(wanted) != len(job.checkpoints):
        return {}
    return dict(zip(wanted, sorted(job.checkpoints, key=lambda item: (item.step, item.epoch)), strict=True))


def find_checkpoint(session: Session, job: TuningJob | str, checkpoint: str = FINAL) -> Checkpoint:
    """Return a checkpoint by its folder: `final`, `checkpoint-3` or 3. Raises NotFoundError with the existing ones."""
    checkpoints = list_checkpoints(session, job)
    wanted = checkpoint.removeprefix("checkpoint-")
    for item in checkpoints:
        if item.id == wanted:
            return item
    name = job.id if isinstance(job, TuningJob) else job
    there = ", ".join(item.id for item in checkpoints) or "none"
    raise NotFoundError(
        f"job {name} has no checkpoint {checkpoint!r}; there: {there}",
        method="checkpoints.get",
        resource=str(name),
        hint=f"`runner checkpoints ls {str(name).rpartition('/')[2]}` lists them",
    )


def download(
    session: Session,
    checkpoint: Checkpoint,
    directory: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
    force: bool = False,
) -> list[Path]:
    """Download and verify a checkpoint into `directory`; see `download_prefix` for the errors."""
    if not checkpoint.files:
        raise ConfigurationError(f"checkpoint {checkpoint.id} has no files")
    return download_prefix(session, checkpoint.uri, directory, progress=progress, force=force)
